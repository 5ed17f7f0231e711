"""The same run with other seeds: started where a claim rests on too few, awaited, and summed up."""

from msgspec.structs import replace

from configs.errors import NoraError
from configs.schema import AnyConfig
from engine.controls import Effect
from engine.launch import launch
from engine.watch import RunStopped, Watch
from norms.signals import Claim, RunEnd
from sessions.events import Json
from sessions.requests import Stop, ask
from sessions.store import SessionReader


class Siblings:
    """Judges the claim of a run when it has ended, and carries ``launch_seeds`` out.

    Further runs are started one after the other, as they would take each other's cores or memory. They claim nothing
    by themselves, and stand in the same folder as sessions of their own.
    """

    def __init__(self, config: AnyConfig, watch: Watch) -> None:
        self._config = config
        self._watch = watch
        self._wanted: list[int] = []
        self._summaries: dict[int, Json] = {}

    def judge_claim(self, summary: Json) -> None:
        """Have the claim judged, and again when the seeds that it lacks have been run.

        Raises:
            RunStopped: The run is to end without them.
        """
        self._summaries[self._config.seed] = summary
        self._watch.can("launch_seeds", self._launch, when="boundary")
        self._feed()
        self._watch.finish()
        while self._wanted:
            self._run(self._wanted.pop(0))
            if not self._wanted:
                self._feed()
                self._watch.finish()

    def _feed(self) -> None:
        seeds = len(self._summaries)
        claim = Claim(text=self._config.claim, seeds=seeds, interval=seeds > 1)
        self._watch.feed(RunEnd(step=self._watch.steps_done, claims=(claim,)))

    def _launch(self, params: Json) -> Effect:
        before = sorted(self._summaries)
        first = max(before) + 1
        self._wanted += range(first, first + params["count"])
        return {"before": {"seeds": before}, "after": {"seeds": before + self._wanted, "runs": self._names()}}

    def _names(self) -> list[str]:
        return [f"{self._watch.paths.run_id}-seed{seed}" for seed in self._wanted]

    def _run(self, seed: int) -> None:
        """Run one seed to its end, and keep its summary if it has one."""
        name = f"{self._watch.paths.run_id}-seed{seed}"
        try:
            paths = launch(replace(self._config, seed=seed, claim=""), self._watch.paths.root.parent, name)
        except NoraError as error:
            self._watch.log("warning", f"seed {seed} could not be started: {error}", "norms")
            return
        reader = SessionReader(paths, curves=False)
        with self._watch.phase(f"seed {seed}"):
            try:
                self._watch.wait(lambda: not self._ended(reader))
            except RunStopped:
                ask(paths, Stop(via="cli", reason=f"{self._watch.paths.run_id} was stopped"))
                raise
        if reader.state.status == "completed":
            self._summaries[seed] = reader.state.summary
        else:
            self._watch.log("warning", f"{name} ended as {reader.state.status}: {reader.state.reason}", "norms")

    @staticmethod
    def _ended(reader: SessionReader) -> bool:
        reader.poll()
        return reader.state.ended
