"""The built-in workloads: training loops that read from top to bottom.

A workload is a module with three functions. ``plan`` and ``preflight`` import no torch and no catboost: they run in
the launching process, before there is a session.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

from configs.schema import AnyConfig

if TYPE_CHECKING:
    from engine.watch import Watch


@dataclass(frozen=True)
class Plan:
    """How long a run will be, where that is known before its data is loaded."""

    total_steps: int | None
    total_epochs: int | None


class Workload(Protocol):
    def plan(self, config: Any) -> Plan:
        """Return how long the run will be."""

    def preflight(self, config: Any) -> None:
        """Refuse what cannot work (missing data, wrong columns) before anything is created.

        Raises:
            NoraError: What is wrong, where, and what to do.
        """

    def run(self, config: Any, watch: "Watch") -> dict[str, Any]:
        """Train, and return the summary: final and best metrics, counts, seconds.

        Raises:
            RunStopped: The run was asked to stop; what should be kept has been saved.
            NoraError: What went wrong, where, and what to do.
        """


def workload_for(config: AnyConfig) -> Workload:
    return cast(Workload, import_module(f"engine.workloads.{config.workload}"))
