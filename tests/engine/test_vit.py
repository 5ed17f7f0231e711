"""The vision transformer: its parts, and runs of the real loop under the real Watch."""

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from configs.errors import ConfigError, DataError
from configs.load import compose
from configs.schema import Amp, Scheduler, VitConfig, VitModel
from engine.datasets import images
from engine.watch import RunStopped, Watch
from engine.workloads import vit
from engine.workloads.vit import train
from engine.workloads.vit.augment import channel_statistics, normalised
from sessions import events
from sessions.codec import decode
from sessions.log import EventLog
from sessions.paths import SessionPaths
from sessions.requests import Stop, ask

SMALL = ("train.epochs=2", "model.depth=1", "model.dim=32", "runtime.threads=1")
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def torch_as_it_was() -> Iterator[None]:
    """A run sets torch up for its process; other tests share this one."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def config_of(*overrides: str) -> VitConfig:
    config = compose(["workload=vit", *overrides])
    assert isinstance(config, VitConfig)
    return config


def watched(folder: Path, config: VitConfig) -> tuple[dict[str, Any], list[Any]]:
    """Run the workload in this process; return its summary and the events that it left."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = SessionPaths(folder)
    log = EventLog(paths.events)
    watch = Watch(paths, log, config)
    watch.begin(vit.plan(config).total_steps)
    try:
        summary = vit.run(config, watch)
    finally:
        watch.close()
        log.close()
    return summary, recorded(folder)


def recorded(folder: Path) -> list[Any]:
    return [decode(line) for line in SessionPaths(folder).events.read_bytes().splitlines()]


def metrics(found: list[Any], split: str) -> list[events.Metrics]:
    return [event for event in found if isinstance(event, events.Metrics) and event.split == split]


# --- what needs no torch ----------------------------------------------------------------------------------------------


def test_planning_and_checking_load_no_torch() -> None:
    code = (
        "import sys; from configs.schema import VitConfig; from engine.workloads import vit;"
        "vit.plan(VitConfig()); vit.preflight(VitConfig()); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_plan_counts_full_batches() -> None:
    plan = vit.plan(config_of("train.epochs=3", "train.batch_size=100"))
    rows = len(images.split(images.load("digits").train.labels, 0.1, 42)[0])
    assert (plan.total_steps, plan.total_epochs) == (3 * (rows // 100), 3)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("model.patch=3", "model.patch=3 must divide both sides of the images, 8 and 8 pixels"),
        ("train.batch_size=5000", "train.batch_size=5000 is more than the 1295 training images"),
        ("runtime.device=cuda:99", "runtime.device=cuda:99"),
    ],
)
def test_what_cannot_work_is_refused_before_it_starts(override: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        vit.preflight(config_of(override))


def test_missing_data_is_refused_before_it_starts(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.npz does not exist"):
        vit.preflight(config_of(f"data={tmp_path}/nowhere.npz"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_a_gpu_where_there_is_none_is_a_configuration_error(name: str) -> None:
    with pytest.raises(ConfigError, match=f"runtime.device={name}.*use cpu"):
        train.device_of(name)
    assert train.device_of("auto") == CPU


# --- the model --------------------------------------------------------------------------------------------------------


def test_patches_are_squares_of_the_image_in_reading_order() -> None:
    image = torch.arange(4 * 6 * 3).view(1, 4, 6, 3)
    cut = train.patches(image, 2)
    assert cut.shape == (1, 6, 12)
    assert torch.equal(cut[0, 4].view(2, 2, 3), image[0, 2:4, 2:4])


def test_positions_tell_every_patch_from_every_other() -> None:
    positions = train.sine_cosine_positions(8, 4, 32)
    assert positions.shape == (32, 32)
    distances = torch.cdist(positions, positions) + torch.eye(32) * 9
    assert distances.min() > 0.5


def test_attention_written_out_is_scaled_dot_product_attention() -> None:
    torch.manual_seed(0)
    attention = train.Attention(32, 4)
    x = torch.randn(2, 9, 32)
    q, k, v = attention.qkv(x).view(2, 9, 3, 4, 8).permute(2, 0, 3, 1, 4)
    expected = attention.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(2, 9, 32))
    assert torch.allclose(attention(x), expected, atol=1e-6)


def test_the_model_takes_oblong_images_of_any_channels() -> None:
    model = train.ViT(VitModel(patch=2, dim=16, depth=1, heads=2), (4, 8, 3), 5)
    assert model(torch.randn(7, 4, 8, 3)).shape == (7, 5)


def test_every_parameter_is_trained_by_one_optimizer() -> None:
    model = train.ViT(VitModel(), (8, 8, 1), 10)
    for name, kinds in (("muon", ["AdamW", "Muon"]), ("adamw", ["AdamW"])):
        optimizers = train.optimizers_of(model, config_of(f"optimizer.name={name}").optimizer, CPU)
        assert [type(optimizer).__name__ for optimizer in optimizers] == kinds
        trained = [id(p) for o in optimizers for group in o.param_groups for p in group["params"]]
        assert sorted(trained) == sorted(id(parameter) for parameter in model.parameters())
        for optimizer in optimizers:
            assert not any(p.ndim < 2 for g in optimizer.param_groups for p in g["params"] if g["weight_decay"])


@pytest.mark.parametrize(("warmup", "total"), [(0.0, 10), (0.1, 100), (0.5, 7), (0.05, 1)])
def test_the_learning_rate_rises_then_falls_to_its_end(warmup: float, total: int) -> None:
    options = Scheduler(warmup=warmup, final=0.1)
    rates = [train.learning_rate(options, step, total) for step in range(total)]
    peak = rates.index(max(rates))
    assert all(0 < rate <= 1 for rate in rates)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    if total > 1:
        assert (max(rates), rates[-1]) == (1.0, pytest.approx(0.1))
    constant = Scheduler(name="constant", warmup=warmup)
    assert train.learning_rate(constant, total - 1, total) == 1.0


def test_an_epoch_deals_out_every_row_once_and_each_epoch_otherwise() -> None:
    order = train.Order(rows=50, batch_size=8, seed=1)
    first, second = (torch.cat(list(order.epoch(epoch, CPU))) for epoch in (1, 2))
    assert (order.batches, len(first), len(first.unique())) == (6, 48, 48)
    assert not torch.equal(first, second)
    assert torch.equal(first, torch.cat(list(train.Order(50, 8, 1).epoch(1, CPU))))


def test_bf16_is_taken_only_where_it_is_computed_or_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for native, expected in ((True, torch.bfloat16), (False, None)):
        monkeypatch.setattr(train, "computes_bf16", lambda _, native=native: native)
        assert train.dtype_of(Amp(), CPU) is expected
        assert train.dtype_of(Amp(dtype="bf16"), CPU) is torch.bfloat16
        assert train.dtype_of(Amp(dtype="fp16"), CPU) is torch.float16
        assert train.dtype_of(Amp(enabled=False, dtype="bf16"), CPU) is None


def test_the_calibration_error_is_the_distance_of_confidence_from_accuracy() -> None:
    labels = torch.tensor([0, 0, 0, 1])
    sure = torch.tensor([[1.0, 0.0]]).expand(4, -1)
    assert train.calibration_error(sure, labels) == pytest.approx(0.25)
    assert train.calibration_error(torch.tensor([[0.75, 0.25]]).expand(4, -1), labels) == pytest.approx(0)
    two_bins = torch.tensor([[0.95, 0.05], [0.95, 0.05], [0.6, 0.4], [0.6, 0.4]])
    assert train.calibration_error(two_bins, labels) == pytest.approx(0.5 * 0.05 + 0.5 * 0.1)


# --- runs -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, VitConfig, dict[str, Any], list[Any]]:
    folder = tmp_path_factory.mktemp("run")
    config = config_of(*SMALL, "train.log_every=10")
    return folder, config, *watched(folder, config)


def test_a_run_records_what_it_does(finished: tuple[Path, VitConfig, dict[str, Any], list[Any]]) -> None:
    _, config, summary, found = finished
    total = vit.plan(config).total_steps
    assert total == 40
    train_metrics = metrics(found, "train")
    assert [event.step for event in train_metrics] == [1, 10, 20, 30, 40]
    assert train_metrics[1].epoch == 0.5
    assert all(e.values.keys() == {"loss", "accuracy", "lr", "muon_lr", "grad_norm"} for e in train_metrics)
    assert [(event.step, event.epoch) for event in metrics(found, "val")] == [(20, 1), (40, 2)]
    (tested,) = metrics(found, "test")
    assert tested.step == summary["best"]["step"]
    assert summary["test"] == tested.values
    phases = [event.phase for event in found if isinstance(event, events.Phase) and event.state == "start"]
    assert phases == ["data", "rehearse", *["train", "validate", "checkpoint"] * 2, "test"]


def test_an_evaluation_covers_every_class(finished: tuple[Path, VitConfig, dict[str, Any], list[Any]]) -> None:
    *_, summary, found = finished
    for event in (*metrics(found, "val"), *metrics(found, "test")):
        by_class = [event.values[f"accuracy/{digit}"] for digit in "0123456789"]
        assert all(0 <= value <= 1 for value in by_class)
        assert len(event.values) == 13
    counts = np.bincount(images.load("digits").test.labels)
    weighted = sum(summary["test"][f"accuracy/{digit}"] * count for digit, count in enumerate(counts)) / counts.sum()
    assert summary["test"]["accuracy"] == pytest.approx(weighted)


def test_the_best_epoch_is_that_of_the_highest_validation_accuracy(
    finished: tuple[Path, VitConfig, dict[str, Any], list[Any]],
) -> None:
    folder, _, summary, found = finished
    ranked = sorted(metrics(found, "val"), key=lambda event: (-event.values["accuracy"], event.values["loss"]))
    assert summary["best"]["accuracy"] == ranked[0].values["accuracy"]
    assert summary["best"]["epoch"] == ranked[0].epoch
    best = (folder / "checkpoints" / "best").read_text().strip()
    assert best == f"step-{summary['best']['step']:08d}"


def test_the_test_score_is_that_of_the_best_checkpoint(
    finished: tuple[Path, VitConfig, dict[str, Any], list[Any]],
) -> None:
    folder, config, summary, _ = finished
    best = folder / "checkpoints" / (folder / "checkpoints" / "best").read_text().strip()
    state = torch.load(best / "state.pt", weights_only=True)
    data = images.load("digits")
    model = train.ViT(config.model, data.shape, 10)
    model.load_state_dict(state["model"])
    rows, _ = images.split(data.train.labels, config.train.val_fraction, config.seed)
    mean, std = channel_statistics(torch.from_numpy(data.train.images[rows]))
    with torch.inference_mode():
        logits = model(normalised(torch.from_numpy(data.test.images), mean, std))
    accuracy = (logits.argmax(1) == torch.from_numpy(data.test.labels)).double().mean().item()
    assert accuracy == pytest.approx(summary["test"]["accuracy"], abs=0.01)  # the run may have computed in bf16


def test_checkpoints_are_announced_and_complete(
    finished: tuple[Path, VitConfig, dict[str, Any], list[Any]],
) -> None:
    folder, _, _, found = finished
    announced = [event for event in found if isinstance(event, events.Checkpoint)]
    assert [event.step for event in announced] == [20, 40]
    manifest = json.loads((folder / announced[-1].path / "MANIFEST.json").read_text())
    assert (manifest["sha256"], manifest["complete"]) == (announced[-1].sha256, True)
    state = torch.load(folder / announced[-1].path / "state.pt", weights_only=True)
    assert state["sampler"] == {"seed": 42, "epoch": 2, "batch": 20}
    assert state["scheduler"] == {"step": 40, "total": 40}
    assert len(state["optimizers"]) == 2
    assert set(announced[-1].metrics) == {"val/loss", "val/accuracy", "val/ece"}


def test_two_deterministic_runs_are_equal_to_the_bit(tmp_path: Path) -> None:
    everything = ("augment.flip=true", "augment.randaugment=5", "augment.mixup=0.2", "train.label_smoothing=0.1")
    runs = {}
    for name, seed in (("one", 5), ("two", 5), ("other", 6)):
        options = (f"seed={seed}", "runtime.threads=2", "runtime.deterministic=true")
        summary, found = watched(tmp_path / name, config_of(*SMALL, *options, *everything))
        recorded_values = [(e.split, e.step, e.values) for e in found if isinstance(e, events.Metrics)]
        last = tmp_path / name / "checkpoints" / (tmp_path / name / "checkpoints" / "last").read_text().strip()
        runs[name] = (recorded_values, summary["test"], torch.load(last / "state.pt", weights_only=True)["model"])
    assert runs["one"][:2] == runs["two"][:2]
    assert runs["one"][0] != runs["other"][0]
    for key, tensor in runs["one"][2].items():
        assert torch.equal(tensor, runs["two"][2][key]), key


def test_a_loss_that_is_not_a_number_is_recorded_as_one(tmp_path: Path) -> None:
    options = ("optimizer.name=adamw", "optimizer.lr=1e30", "amp.enabled=false", "mode=pipeline")
    _, found = watched(tmp_path, config_of(*SMALL, *options))
    losses = [event.values["loss"] for event in metrics(found, "train")]
    assert math.isfinite(losses[0])
    assert math.isnan(losses[-1])
    assert math.isnan(metrics(found, "val")[-1].values["loss"])


def test_a_stop_saves_where_it_stands_and_passes_on(tmp_path: Path) -> None:
    config = config_of(*SMALL)
    paths = SessionPaths(tmp_path)
    ask(paths, Stop(via="cli", reason="enough"))
    with pytest.raises(RunStopped, match="enough"):
        watched(tmp_path, config)
    announced = [event for event in recorded(tmp_path) if isinstance(event, events.Checkpoint)]
    assert [(event.step, event.kinds, event.complete) for event in announced] == [(1, ["last"], True)]
    state = torch.load(tmp_path / announced[0].path / "state.pt", weights_only=True)
    assert state["sampler"] == {"seed": 42, "epoch": 1, "batch": 1}


@pytest.mark.parametrize(("every", "expected"), [(0, [3]), (2, None)])
def test_how_often_checkpoints_are_kept(tmp_path: Path, every: int, expected: list[int] | None) -> None:
    config = config_of(*SMALL, "train.epochs=3", f"checkpoint.every_epochs={every}", "train.batch_size=600")
    _, found = watched(tmp_path, config)
    epochs = [int(event.epoch) for event in found if isinstance(event, events.Checkpoint)]
    scores = [(event.values["accuracy"], -event.values["loss"]) for event in metrics(found, "val")]
    improved = [epoch for epoch, score in enumerate(scores, 1) if score == max(scores[:epoch])]
    assert epochs == (expected or sorted({*improved, 2, 3}))


@pytest.mark.parametrize(
    "overrides",
    [
        ("amp.dtype=fp16",),
        ("amp.dtype=bf16", "optimizer.name=adamw"),
        ("amp.enabled=false", "scheduler.name=constant"),
        ("augment.randaugment=3", "augment.mixup=0.2"),
    ],
    ids=str,
)
def test_variants_learn(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    _, found = watched(tmp_path, config_of(*SMALL, "train.epochs=6", "optimizer.lr=0.01", *overrides))
    losses = [event.values["loss"] for event in metrics(found, "train")]
    assert all(map(math.isfinite, losses))
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) - 0.1
    first = metrics(found, "train")[0].values
    assert ("loss_scale" in first) == ("amp.dtype=fp16" in overrides)
    assert ("muon_lr" in first) != ("optimizer.name=adamw" in overrides)
    assert ("accuracy" in first) != ("augment.mixup=0.2" in overrides)


def test_images_of_ones_own_in_colour_are_learnt(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(240) % 3
    pixels = generator.integers(0, 60, (240, 4, 8, 3), np.uint8)
    pixels[np.arange(240), :, :, labels] += 120
    path = tmp_path / "own.npz"
    np.savez(path, x_train=pixels[:210], y_train=labels[:210], x_test=pixels[210:], y_test=labels[210:])
    summary, _ = watched(tmp_path / "run", config_of(f"data={path}", *SMALL, "train.epochs=6", "train.batch_size=30"))
    assert summary["test"]["accuracy"] > 0.9
    assert summary["data"]["path"] == str(path)
    assert summary["test"].keys() >= {"accuracy/0", "accuracy/1", "accuracy/2"}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_a_run_on_a_gpu_learns(tmp_path: Path, dtype: str) -> None:
    summary, found = watched(tmp_path, config_of("train.epochs=10", "runtime.device=cuda", f"amp.dtype={dtype}"))
    assert summary["model"]["device"] == "cuda"
    assert metrics(found, "val")[-1].values["accuracy"] > 0.8


@pytest.mark.slow
def test_a_compiled_run_is_the_same_run(tmp_path: Path) -> None:
    options = (*SMALL, "train.epochs=1", "amp.enabled=false")
    plain, compiled = (
        [event.values["loss"] for event in metrics(watched(tmp_path / mode, config)[1], "train")]
        for mode in ("off", "on")
        for config in [config_of(*options, f"runtime.compile={mode}")]
    )
    assert compiled == pytest.approx(plain, rel=1e-3)


@pytest.mark.slow
def test_the_defaults_learn_to_read_digits(tmp_path: Path) -> None:
    summary, found = watched(tmp_path, config_of())
    accuracies = [event.values["accuracy"] for event in metrics(found, "val")]
    assert max(accuracies) >= 0.93
    assert summary["test"]["accuracy"] >= 0.9
    assert len(accuracies) == 30
