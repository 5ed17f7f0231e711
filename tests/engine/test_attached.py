"""What Watch does with a live training run: it changes nothing by watching, and goes back and forth bit by bit."""

import importlib
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from engine.workloads.vit import train
from sessions.events import Action, Checkpoint, Json, Phase, ViolationFound
from sessions.paths import SessionPaths
from sessions.requests import AnyRequest, Command, ask
from tests.engine.vit_runs import STEPS, AskingWatch, Run, same, trained


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(tmp_path_factory.mktemp("clean"))


def told(action: str, **params: Any) -> AnyRequest:
    return Command(via="cli", action=action, params=params)


def effect_of(run: Run, action: str) -> Json:
    (done,) = (each for each in run.done if each.action == action)
    assert done.effect is not None
    return done.effect


def violations(run: Run) -> list[str]:
    return [violation.norm for violation in run.of(ViolationFound)]


# --- watching changes nothing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("optimizer.name=adamw",),
        ("amp.enabled=false",),
        ("amp.dtype=fp16",),
        ("model.dropout=0.1",),
        ("augment.mixup=0.2", "augment.flip=true", "augment.randaugment=3"),
        ("regime=strict", "model.dropout=0.1", "amp.dtype=fp16"),
        ("regime=strict", "runtime.deterministic=true", "runtime.threads=2"),
    ],
    ids=lambda options: ",".join(options) or "defaults",
)
def test_a_run_is_the_same_to_the_bit_whether_it_is_watched_or_not(tmp_path: Path, options: tuple[str, ...]) -> None:
    watched = trained(tmp_path / "on", *options)
    alone = trained(tmp_path / "off", *options, "norms.enabled=false")
    for split in ("train", "val", "test"):
        assert watched.metrics(split) == alone.metrics(split)
    assert len(watched.metrics("train")) == 2 * STEPS
    assert same(watched.state, alone.state)
    assert violations(watched) == []
    assert [phase.phase for phase in watched.of(Phase) if phase.state == "start"][:2] == ["data", "rehearse"]
    assert "rehearse" not in {phase.phase for phase in alone.of(Phase)}


def test_nothing_of_the_watch_is_left_in_torch_when_a_run_has_ended(tmp_path: Path) -> None:
    before = {name: getattr(torch.autograd, name) for name in ("backward", "grad")}
    entered = torch.autocast.__enter__
    run = trained(tmp_path, asked={5: [told("amp_off")]})
    assert effect_of(run, "amp_off")["after"]["autocast"] == "off"
    assert torch.autocast.__enter__ is entered
    assert {name: getattr(torch.autograd, name) for name in before} == before
    optimizer = importlib.import_module("torch.optim.optimizer")
    assert not optimizer._global_optimizer_pre_hooks
    assert not optimizer._global_optimizer_post_hooks


# --- going back -------------------------------------------------------------------------------------------------------


def test_a_run_that_is_rolled_back_ends_as_if_it_had_not_been(tmp_path: Path, clean: Run) -> None:
    run = trained(tmp_path, asked={27: [told("roll_back")]})
    effect = effect_of(run, "roll_back")
    assert effect["before"] == {"step": 27}
    assert effect["after"] == {"step": STEPS, "checkpoint": f"checkpoints/step-{STEPS:08d}"}
    assert same(run.state, clean.state)
    assert run.summary is not None and clean.summary is not None
    assert (run.summary["test"], run.summary["best"]) == (clean.summary["test"], clean.summary["best"])
    steps = [*range(1, 28), *range(STEPS + 1, 2 * STEPS + 1)]
    assert run.metrics("train") == [clean.metrics("train")[step - 1] for step in steps]
    assert run.metrics("val") == clean.metrics("val")
    assert violations(run) == []
    (safety,) = (saved for saved in run.of(Checkpoint) if saved.kinds == ["safety"])
    assert (safety.step, safety.complete) == (27, True)


def test_a_run_that_is_not_judged_can_be_rolled_back_as_well(tmp_path: Path, clean: Run) -> None:
    run = trained(tmp_path, "norms.enabled=false", asked={27: [told("roll_back")]})
    assert effect_of(run, "roll_back")["after"]["step"] == STEPS
    assert same(run.state, clean.state)


@pytest.mark.parametrize("options", [("amp.dtype=fp16", "model.dropout=0.1"), ("augment.mixup=0.2",)], ids=",".join)
def test_random_generators_and_the_scaler_go_back_as_well(tmp_path: Path, options: tuple[str, ...]) -> None:
    clean = trained(tmp_path / "clean", *options)
    run = trained(tmp_path / "back", *options, asked={33: [told("roll_back")]})
    assert effect_of(run, "roll_back")["after"]["step"] == STEPS
    assert same(run.state, clean.state)


def test_rolled_back_over_an_epoch_it_goes_on_from_there(tmp_path: Path) -> None:
    options = ("train.epochs=4", "amp.enabled=false", "seed=1")  # best after epoch 2, whose checkpoint is kept
    clean = trained(tmp_path / "clean", *options)
    back = told("roll_back", steps=3)  # the end of epoch 3 is not long enough ago
    run = trained(tmp_path / "back", *options, asked={3 * STEPS + 2: [back]})
    assert effect_of(run, "roll_back")["after"]["step"] == 2 * STEPS
    assert same(run.state, clean.state)
    assert run.metrics("val") == [clean.metrics("val")[epoch] for epoch in (0, 1, 2, 2, 3)]
    assert violations(run) == []


def test_rolled_back_with_the_batches_left_out_it_goes_on_with_the_next(tmp_path: Path, clean: Run) -> None:
    run = trained(tmp_path, asked={27: [told("roll_back", skip_batches=True)]})
    assert effect_of(run, "roll_back")["after"]["step"] == STEPS
    steps = [step for step, *_ in run.metrics("train")]
    assert steps == [*range(1, 28), *range(STEPS + 1, 2 * STEPS + 1 - 7)]
    assert run.summary is not None
    assert run.summary["steps"] == 2 * STEPS - 7
    assert not same(run.state["model"], clean.state["model"])
    assert [step for step, *_ in run.metrics("val")] == [STEPS, 2 * STEPS - 7]
    assert run.metrics("train", "lr")[27] == clean.metrics("train", "lr")[STEPS]
    assert violations(run) == []


def test_gone_back_to_before_a_validation_it_validates_again(tmp_path: Path) -> None:
    clean = trained(tmp_path / "clean", "checkpoint.every_epochs=0")
    asked = {STEPS: [told("checkpoint_now")], STEPS + 3: [told("roll_back")]}
    run = trained(tmp_path / "back", "checkpoint.every_epochs=0", asked=asked)
    assert effect_of(run, "roll_back")["after"]["step"] == STEPS
    first, second = clean.metrics("val")
    assert run.metrics("val") == [first, first, second]
    assert same(run.state, clean.state)
    assert violations(run) == []


def test_a_checkpoint_within_an_epoch_is_whole_and_can_be_gone_back_to(tmp_path: Path, clean: Run) -> None:
    path = "checkpoints/step-00000027"
    run = trained(tmp_path, asked={27: [told("checkpoint_now")], 33: [told("roll_back", checkpoint=path)]})
    saved = next(saved for saved in run.of(Checkpoint) if saved.step == 27)
    assert (saved.path, saved.complete, saved.kinds) == (path, True, ["last"])
    assert effect_of(run, "checkpoint_now")["after"] == {"last": path}
    assert effect_of(run, "roll_back")["after"] == {"step": 27, "checkpoint": path}
    assert same(run.state, clean.state)
    assert violations(run) == []


def test_without_a_checkpoint_there_is_no_going_back(tmp_path: Path) -> None:
    run = trained(tmp_path, "train.epochs=1", asked={7: [told("roll_back")]})
    assert run.refused == ["this run cannot do roll_back: there is no complete checkpoint from so long ago"]
    assert run.of(Action) == []


def test_begun_anew_it_is_a_fresh_run(tmp_path: Path, clean: Run) -> None:
    run = trained(tmp_path, asked={27: [told("reseed_restart")]})
    assert effect_of(run, "reseed_restart") == {"before": {"step": 27}, "after": {"step": 0, "seed": 42}}
    assert same(run.state, clean.state)
    assert run.metrics("train") == clean.metrics("train")[:27] + clean.metrics("train")
    assert violations(run) == []


def test_begun_anew_with_another_seed_it_is_the_run_of_that_seed(tmp_path: Path) -> None:
    other = trained(tmp_path / "other", "seed=7")
    run = trained(tmp_path / "again", asked={27: [told("reseed_restart", seed=7)]})
    assert effect_of(run, "reseed_restart") == {"before": {"step": 27}, "after": {"step": 0, "seed": 7}}
    assert same(run.state, other.state)
    assert run.metrics("train")[27:] == other.metrics("train")


# --- holding and changing ---------------------------------------------------------------------------------------------


def test_a_pause_changes_nothing(tmp_path: Path, clean: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def resume(paths: SessionPaths) -> None:
        ask(paths, told("resume"))

    started = AskingWatch._held

    def held(self: AskingWatch, waits: Any) -> None:
        threading.Timer(0.2, resume, [self.paths]).start()
        started(self, waits)

    monkeypatch.setattr(AskingWatch, "_held", held)
    run = trained(tmp_path, asked={9: [told("pause")], 31: [told("pause")]})
    assert [phase.state for phase in run.of(Phase) if phase.phase == "hold"] == ["start", "end"] * 2
    assert [action.action for action in run.done] == ["pause", "resume"] * 2
    assert run.metrics("train") == clean.metrics("train")
    assert same(run.state, clean.state)
    assert violations(run) == []


def test_a_rate_that_is_halved_stays_so_for_the_rest_of_the_schedule(tmp_path: Path, clean: Run) -> None:
    run = trained(tmp_path, asked={10: [told("set_lr", factor=0.5)]})
    effect = effect_of(run, "set_lr")
    assert [rate / 2 for rate in effect["before"]["lrs"]] == effect["after"]["lrs"]
    assert len(effect["after"]["lrs"]) == 3
    halved = [
        (step, lr * (1 if step <= 10 else 0.5), muon * (1 if step <= 10 else 0.5))
        for step, lr, muon in clean.metrics("train", "lr", "muon_lr")
    ]
    assert run.metrics("train", "lr", "muon_lr") == halved


def test_what_is_asked_during_the_rehearsal_is_done_after_it(tmp_path: Path, clean: Run) -> None:
    run = trained(tmp_path, asked={0: [told("set_lr", factor=0.5)]})
    expected = [(step, lr * (1 if step == 1 else 0.5)) for step, lr in clean.metrics("train", "lr")]
    assert run.metrics("train", "lr") == expected


@pytest.mark.parametrize("options", [(), ("amp.dtype=fp16",), ("augment.mixup=0.2",)], ids=",".join)
def test_half_the_batch_twice_makes_the_same_updates(tmp_path: Path, options: tuple[str, ...]) -> None:
    precise = ("amp.enabled=false",) if options != ("amp.dtype=fp16",) else ()
    whole = trained(tmp_path / "whole", "regime=strict", *precise, *options)
    run = trained(tmp_path / "halves", "regime=strict", *precise, *options, asked={5: [told("halve_batch")] * 2})
    first, second = (action.effect for action in run.done)
    assert first == {"before": {"batch": 64, "accumulated": 1}, "after": {"batch": 32, "accumulated": 2}}
    assert second == {"before": {"batch": 32, "accumulated": 2}, "after": {"batch": 16, "accumulated": 4}}
    for (_, expected), (_, loss) in zip(whole.metrics("train", "loss"), run.metrics("train", "loss"), strict=True):
        assert loss == pytest.approx(expected, rel=1e-4 if precise else 1e-2)
    assert run.metrics("train", "lr") == whole.metrics("train", "lr")
    assert violations(run) == []


def test_a_batch_is_not_halved_below_one_image(tmp_path: Path) -> None:
    run = trained(
        tmp_path, "train.batch_size=3", "train.val_fraction=0.9", "train.epochs=1", asked={5: [told("halve_batch")] * 3}
    )
    assert [action.effect["after"] for action in run.done if action.effect] == [
        {"batch": 2, "accumulated": 2},
        {"batch": 1, "accumulated": 3},
    ]
    assert run.refused == ["this run cannot do halve_batch: a part is one image already"]


# --- two runs of the first steps --------------------------------------------------------------------------------------


class Noise(nn.Module):
    """A layer whose random numbers no checkpoint holds."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator()
        self.generator.seed()

    def forward(self, x: Tensor) -> Tensor:
        return x + 1e-2 * torch.randn(x.shape, generator=self.generator)


@pytest.mark.parametrize("regime", ["strict", "balanced"])
def test_an_operation_that_is_not_repeatable_is_found_within_two_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, regime: str
) -> None:
    class NoisyViT(train.ViT):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.norm = nn.Sequential(self.norm, Noise())  # type: ignore[assignment]

    monkeypatch.setattr(train, "ViT", NoisyViT)
    run = trained(tmp_path, f"regime={regime}", "mode=pipeline")
    assert [each.step for each in run.of(ViolationFound) if each.norm == "determinism"] == [2]
    assert "determinism" in run.verdict.broken
