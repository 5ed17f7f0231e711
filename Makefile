# make run    a real training run, live in the cockpit (headless without a terminal)
# make test   everything that CI checks
# make bench  the table of figures, each beside a peer or a limit
# make judged docs/judged.md: every planted violation, and clean runs, as the norms judge them (about 200 runs)
.PHONY: run test check bench judged clean
PYTHON ?= python3
BIN := .venv/bin

.venv/.nora:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "NORA needs Python 3.11 or newer; set PYTHON=…"; exit 2; }
	@$(PYTHON) -m venv .venv || { echo "the venv module is missing; on Debian: apt install python3-venv"; exit 2; }
	@touch $@

.venv/.nora-run: .venv/.nora pyproject.toml
	@echo "installing NORA and torch into .venv (about 5 GB, some minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.venv/.nora-dev: .venv/.nora-run
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

.venv/.nora-bench: .venv/.nora-dev
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,bench]'
	@touch $@

run: .venv/.nora-run
	@$(BIN)/nora demo

check: .venv/.nora-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check
	$(BIN)/pytest -n 2

bench: .venv/.nora-bench
	$(BIN)/python tests/bench/run.py

judged: .venv/.nora-run
	$(BIN)/python -m docs.judged

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
