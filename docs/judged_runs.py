"""The runs of docs/judged.md: what is planted where, what should find it, and how each is run to its end."""

import re
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from configs.errors import StorageError
from configs.load import compose, digest
from configs.schema import AnyConfig
from engine.launch import launch
from norms.norm import REGIMES
from sessions.paths import SessionPaths
from sessions.state import SessionState
from sessions.store import SessionReader

MODES = ("norm_aware", "pipeline", "agentic")
SEEDS = (42, 123, 456)
WAIT_SECONDS = 3600.0
"""How long a run may take, with the further seeds that it may start."""
HEADLESS = ("approve=auto", "runtime.threads=1")
"""Nobody is asked; one thread a run, and as many runs as there are cores."""
BOOSTING = ("workload=catboost", "data=bank", "train.iterations=200")


@dataclass(frozen=True)
class Injection:
    """A planted violation: what should find it, and when it shows first."""

    norm: str
    shows: str
    trigger: Callable[[SessionState], int]
    """Returns the step at which it shows first; 0 is before the first step."""
    each_epoch: bool = False
    """Whether it is judged by a signal that comes once an epoch."""
    twin: tuple[str, ...] = ()
    """What a clean run needs to be the same but for the violation."""


def _before(state: SessionState) -> int:
    return 0


def _first_epoch(state: SessionState) -> int:
    return epoch_steps(state)


def _last_step(state: SessionState) -> int:
    assert state.total_steps is not None
    return state.total_steps


def _overflow(state: SessionState) -> int:
    """Return the update that the injection itself named."""
    named = [re.search(r"from update (\d+) on", log.text) for log in state.logs if log.source == "injection"]
    return next(int(found[1]) for found in named if found)


def epoch_steps(state: SessionState) -> int:
    assert state.total_steps and state.total_epochs
    return state.total_steps // state.total_epochs


INJECTIONS = {
    "nondeterminism": Injection("seeding", "before step 1", _before),
    "amp_nan": Injection("non-finite", "the update that the injection logs", _overflow, twin=("amp.dtype=bf16",)),
    "eval_mode_bug": Injection(
        "eval-mode", "the first evaluation", _first_epoch, each_epoch=True, twin=("model.dropout=0.1",)
    ),
    "aug_leak": Injection("augmentation-leak", "before step 1", _before),
    "checkpoint_incomplete": Injection("checkpoint-integrity", "the first checkpoint", _first_epoch, each_epoch=True),
    "reporting_single_run": Injection("single-run", "the end of the run", _last_step),
}


# --- the runs ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One run of the tables."""

    what: str
    """An injection, or what a clean run is called."""
    mode: str
    regime: str
    seed: int
    options: tuple[str, ...] = ()

    @property
    def overrides(self) -> list[str]:
        planted = (f"violation={self.what}",) if self.what in INJECTIONS else ()
        own = (f"mode={self.mode}", f"regime={self.regime}", f"seed={self.seed}")
        return [*self.options, *planted, *own, *HEADLESS]


def injected(mode: str, seeds: Iterable[int] = SEEDS) -> list[Case]:
    return [Case(what, mode, regime, seed) for what in INJECTIONS for regime in REGIMES for seed in seeds]


def clean() -> list[Case]:
    """Return the 30 clean runs: 18 of the ViT, 12 of CatBoost."""
    vit = [Case("vit", mode, regime, seed) for mode in MODES for regime in REGIMES for seed in SEEDS[:2]]
    modes = [(mode, SEEDS[0]) for mode in MODES] + [(MODES[0], SEEDS[1])]
    return vit + [Case("catboost", mode, regime, seed, BOOSTING) for mode, seed in modes for regime in REGIMES]


def twin(what: str, seed: int) -> Case:
    """Return the clean run that a run with this injection is compared with."""
    options = INJECTIONS[what].twin
    return Case(" ".join(("vit", *options)), "norm_aware", "balanced", seed, options)


def wanted(reactive_seeds: Sequence[int]) -> list[Case]:
    """Return all runs, each once, the most telling first."""
    cases = injected("norm_aware") + [twin(what, seed) for seed in SEEDS for what in INJECTIONS]
    cases += [case for case in clean() if case.what == "vit"]
    cases += [case for mode in MODES[1:] for case in injected(mode, reactive_seeds)]
    return list(dict.fromkeys(cases + clean()))


def name_of(case: Case, config: AnyConfig) -> str:
    """Return the name of the run's folder, another for any other configuration."""
    what = case.what.replace(" ", "-").replace("=", "")
    return f"{what}-{case.mode}-{case.regime}-{case.seed}-{digest(config)[:8]}"


def run(config: AnyConfig, runs: Path, name: str) -> SessionState:
    """Return the end of a run, which is started unless it is in the folder already.

    Raises:
        StorageError: It crashed, or did not end.
        NoraError: It could not be started.
    """
    paths = SessionPaths(runs / name)
    if not paths.config.exists():
        paths = launch(config, runs, name)
    reader = SessionReader(paths, curves=False)
    until = time.monotonic() + WAIT_SECONDS
    while not reader.state.ended and time.monotonic() < until:
        reader.poll()
        time.sleep(0.1)
    if reader.state.exit_code is None or reader.state.status not in ("completed", "stopped", "failed"):
        raise StorageError(
            f"{paths.root} is {reader.state.status}; read its console.log, and remove the folder to run it again"
        )
    return reader.state


def run_all(cases: Sequence[Case], runs: Path, at_once: int, seconds: float) -> dict[Case, SessionState]:
    """Run what has not been run yet; after so many seconds nothing more is begun. Returns the ends of those that ran.

    Raises:
        NoraError: A run crashed or could not be started.
    """
    until = time.monotonic() + seconds
    configs = [compose(case.overrides) for case in cases]  # Hydra serves one thread

    def end(case: Case, config: AnyConfig) -> SessionState | None:
        name = name_of(case, config)
        there = (runs / name / "config.yaml").exists()
        if not there and time.monotonic() > until:
            return None
        state = run(config, runs, name)
        if not there:
            print(f"{state.name}: exit {state.exit_code}", flush=True)
        return state

    with ThreadPoolExecutor(at_once) as pool:
        ends = list(pool.map(end, cases, configs))
    return {case: state for case, state in zip(cases, ends, strict=True) if state is not None}
