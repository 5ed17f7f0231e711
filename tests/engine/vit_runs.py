"""Run the ViT in this process under the real Watch, and ask things of it at set steps."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from configs.load import compose
from configs.schema import AnyConfig, VitConfig
from engine import checkpoints, worker
from engine.environment import capture
from engine.jumps import RunStopped
from engine.watch import Watch
from engine.workloads import vit
from sessions import events
from sessions.codec import decode
from sessions.events import Json
from sessions.log import EventLog
from sessions.paths import SessionPaths
from sessions.requests import AnyRequest, ask

SMALL = ("train.epochs=2", "model.depth=1", "model.dim=16", "runtime.threads=1")
STEPS = 20
"""Updates of an epoch of the digits."""


class AskingWatch(Watch):
    """Makes requests, as another process would, when an update is done: those of a step, the first time.

    Those of step 0 come as soon as anything is done, which is in the rehearsal.
    """

    def __init__(self, paths: SessionPaths, log: EventLog, config: AnyConfig) -> None:
        super().__init__(paths, log, config)
        self.asked: dict[int, Sequence[AnyRequest]] = {}

    def step(self, step: int, epoch: float | None = None, samples: int = 0) -> None:
        for due in (0,) if self.rehearsing else (0, step):
            for request in self.asked.pop(due, ()):
                ask(self.paths, request)
        super().step(step, epoch, samples)


@dataclass
class Run:
    """A run that has ended."""

    paths: SessionPaths
    verdict: events.Verdict
    summary: Json | None
    """None where it was stopped."""
    recorded: list[Any]

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.recorded if isinstance(event, kind)]

    @property
    def done(self) -> list[events.Action]:
        return [action for action in self.of(events.Action) if action.state == "done"]

    @property
    def outcomes(self) -> dict[str, str]:
        """What became of each violation in the end."""
        return {outcome.violation: outcome.state for outcome in self.of(events.Outcome)}

    @property
    def refused(self) -> list[str]:
        return [event.why for event in self.of(events.RequestRefused)]

    def metrics(self, split: str, *names: str) -> list[tuple[Any, ...]]:
        """Return step and values, all or those named, of every record of a split."""
        found = [event for event in self.of(events.Metrics) if event.split == split]
        return [(e.step, *([e.values[name] for name in names] or e.values.items())) for e in found]

    @property
    def state(self) -> dict[str, Any]:
        """The whole state that was saved last."""
        return checkpoints.load(self.paths.checkpoints / (self.paths.checkpoints / "last").read_text().strip())


def config_of(*overrides: str) -> VitConfig:
    config = compose(["workload=vit", *SMALL, *overrides])
    assert isinstance(config, VitConfig)
    return config


def trained(folder: Path, *overrides: str, asked: Mapping[int, Sequence[AnyRequest]] | None = None) -> Run:
    """Run to the end, from the beginning as often as it is told to; ``asked`` are requests by the step they come at."""
    folder.mkdir(parents=True, exist_ok=True)
    paths, config = SessionPaths(folder), config_of(*overrides)
    log = EventLog(paths.events)
    watch = AskingWatch(paths, log, config)
    watch.asked = dict(asked or {})
    watch.environment = _environment()
    summary = None
    with _torch_as_it_was():
        try:
            summary = worker._train(vit, config, watch)
        except RunStopped:
            pass
        finally:
            watch.close()
            log.close()
    assert not watch.asked, f"the run never came to steps {list(watch.asked)}"
    recorded = [decode(line) for line in paths.events.read_bytes().splitlines()]
    return Run(paths, watch.verdict(), summary, recorded)


def same(first: Any, second: Any) -> bool:
    """Whether two states are equal to the last bit."""
    if isinstance(first, torch.Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)


@cache
def _environment() -> Json:
    return capture(seed=42)


@contextmanager
def _torch_as_it_was() -> Iterator[None]:
    """A run sets torch up for its process; other tests share this one."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(False)
