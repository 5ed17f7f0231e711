# make run    a real training run, live in the cockpit (headless without a terminal)
# make test   everything that CI checks
# make bench  the table of figures, each beside a peer or a limit
.PHONY: run test check bench clean
PYTHON ?= python3
BIN := .venv/bin

.make/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "NORA needs Python 3.11 or newer; set PYTHON=…"; exit 2; }
	@$(PYTHON) -m venv .venv || { echo "the venv module is missing; on Debian: apt install python3-venv"; exit 2; }
	@mkdir -p .make && touch $@

.make/run: .make/venv pyproject.toml
	@echo "installing NORA and torch into .venv (about 5 GB, some minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.make/dev: .make/run
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

.make/bench: .make/dev
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,bench]'
	@touch $@

run: .make/run
	@$(BIN)/nora demo

check: .make/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check
	$(BIN)/pytest -n 2

bench: .make/bench
	$(BIN)/python tests/bench/run.py

clean:
	rm -rf .venv .make build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
