"""The exceptions by which Watch tells a loop, between two steps, that it does not simply go on."""

from sessions.events import Json


class RunStopped(Exception):
    """Somebody asked the run to stop; raised between two steps."""

    def __init__(self, by: str, reason: str | None = None, *, signal: str | None = None) -> None:
        super().__init__(f"stopped by {by}" + (f": {reason}" if reason else ""))
        self.signal = signal
        """The name of the signal, where it was one."""


class RolledBack(Exception):
    """Model, optimizers and random generators are those of an earlier step; the loop is to go on from there."""

    def __init__(self, step: int, position: Json | None) -> None:
        super().__init__(f"rolled back to step {step}")
        self.step = step
        """Updates done."""
        self.position = position
        """The loop's own part of the state then; None where the batches since are left out, and it goes on with the
        next."""


class Restart(Exception):
    """The workload is to begin anew, from step 0."""

    def __init__(self, changes: Json | None = None) -> None:
        super().__init__("restarted from step 0")
        self.changes = changes or {}
        """Sections of the configuration with the keys that are new: ``{"features": {"exclude": […]}}``."""
