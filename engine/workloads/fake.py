"""A scripted run: torch-free, through the real process boundary, for tests of everything around a workload."""

import math
import os
import signal
import sys
import threading
import time
from typing import Any

from configs.schema import FakeConfig
from engine.watch import Watch
from engine.workloads import Plan
from norms.signals import Step, Update
from sessions.events import Json


def plan(config: FakeConfig) -> Plan:
    return Plan(config.train.epochs * config.train.steps, config.train.epochs)


def preflight(config: FakeConfig) -> None:
    """A scripted run needs nothing."""


def run(config: FakeConfig, watch: Watch) -> dict[str, Any]:
    script = config.script
    total = config.train.epochs * config.train.steps
    state = {"amp": True, "lr": 0.1}

    def amp_off(params: Json) -> Json:
        before, state["amp"] = state["amp"], False
        return {"before": {"amp": before}, "after": {"amp": False}}

    def set_lr(params: Json) -> Json:
        before = state["lr"]
        state["lr"] = params["lr"] if "lr" in params else before * params["factor"]
        return {"before": {"lr": before}, "after": {"lr": state["lr"]}}

    watch.can("amp_off", amp_off, lambda _: None if state["amp"] else "it computes in fp32 already")
    watch.can("set_lr", set_lr)
    watch.begin(total, config.train.steps)
    step = 0
    loss = math.nan
    for epoch in range(1, config.train.epochs + 1):
        with watch.phase("train", epoch):
            for _ in range(config.train.steps):
                step += 1
                time.sleep(script.step_seconds)
                since = step - script.nan_at if script.nan_at else -1
                loss = math.nan if state["amp"] and 0 <= since < script.nan_steps else 1 / step
                values = {"loss": loss} | {f"metric{i}": i + step / total for i in range(1, script.metrics)}
                watch.metrics("train", step, values, epoch=step / config.train.steps)
                if step == script.log_storm_at:
                    for line in range(script.log_storm_lines):
                        print(f"log storm, line {line}", flush=True)
                if step == script.hang_at:
                    threading.Event().wait()
                if step == script.kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                if step == script.crash_at:
                    print("about to crash", file=sys.stderr)
                    raise RuntimeError(f"scripted crash at step {step}")
                applied = watch.before_update(Step(step=step, loss=loss, grad_norm=loss, lr=state["lr"]))
                watch.after_update(Update(step=step, skipped=not applied))
                watch.step(step, epoch=step / config.train.steps, samples=1)
        with watch.phase("validate", epoch):
            watch.metrics("val", step, {"loss": 1.1 / step, "accuracy": 1 - 1 / (step + 1)}, epoch=epoch)
    return {"loss": loss, "steps": step}
