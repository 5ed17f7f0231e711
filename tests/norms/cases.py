"""Signals that break a norm, and signals that only seem to: one line says what each regime makes of them."""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from norms.signals import (
    AnySignal,
    Candidate,
    CheckpointSaved,
    Claim,
    Cohort,
    Determinism,
    EpochEnd,
    Evaluation,
    Feature,
    Generator,
    LayerUnits,
    LossInput,
    MetricCheck,
    Overlap,
    PhaseTime,
    Preflight,
    Provenance,
    Replay,
    Resources,
    RunEnd,
    Step,
    Timings,
    Unchanged,
    Update,
)
from sessions.events import Severity

Kind = Literal["broken", "healthy", "nan"]
NAN, INF = math.nan, math.inf
Expected = tuple[Severity | None, Severity | None, Severity | None]
KEPT: Expected = (None, None, None)


class Case(NamedTuple):
    norm: str
    aspect: str
    what: str
    signals: Sequence[AnySignal]
    expected: Expected
    """The severity in strict, balanced and exploratory; None where the norm must be kept."""
    kind: Kind = "broken"


def everywhere(severity: Severity) -> Expected:
    return (severity, severity, severity)


def steps(count: int, start: int = 1, **facts: Any) -> list[Step]:
    """Return steps with the same facts; a callable is given the step's number."""
    return [
        Step(step=i, **{name: fact(i) if callable(fact) else fact for name, fact in facts.items()})
        for i in range(start, start + count)
    ]


def updates(count: int, start: int = 1, **facts: Any) -> list[Update]:
    return [Update(step=i, **facts) for i in range(start, start + count)]


def preflight(**facts: Any) -> list[Preflight]:
    return [Preflight(step=0, **facts)]


def evaluation(split: str = "val", step: int = 1000, epoch: float | None = 20.0, **facts: Any) -> Evaluation:
    return Evaluation(split=split, step=step, epoch=epoch, **facts)


def noisy(i: int, level: float = 1.0, spread: float = 0.2) -> float:
    """Return a positive value around ``level`` whose logarithm swings by ``spread``, without a random generator."""
    return level * math.exp(spread * math.sin(i * 2.39996))


def stuck(lr: float = 0.1, grad_max: float = 0.5, weight_max: float = 1.0) -> tuple[Unchanged, ...]:
    return (Unchanged(name="head.weight", lr=lr, grad_max=grad_max, weight_max=weight_max),)


def loss_input(function: str, inputs: tuple[int, ...], targets: tuple[int, ...], **facts: Any) -> dict[str, Any]:
    return {"loss_inputs": (LossInput(function=function, input_shape=inputs, target_shape=targets, **facts),)}


TEN = (0.1,) * 10
MOSTLY_ONE = (0.6, *(0.4 / 9,) * 9)
NEARLY_ONE = (0.97, *(0.03 / 9,) * 9)
SKEWED = (0.883, 0.117)
SOFTMAX = {"row_sums": (0.99999, 1.00001), "lowest": 0.001, "highest": 0.9}
LOGITS = {"row_sums": (-3.0, 4.0), "lowest": -5.0, "highest": 6.0}
PARTS = ("model", "optimizer", "scheduler", "rng_torch", "sampler", "step")
CALM_STEPS = steps(100, loss=noisy, grad_norm=noisy)


def checkpoint(**facts: Any) -> list[CheckpointSaved]:
    return [CheckpointSaved(step=10, path="checkpoints/step-00000010", **facts)]


def epochs(*facts: dict[str, Any]) -> list[EpochEnd]:
    return [EpochEnd(step=100 * i, epoch=float(i), **each) for i, each in enumerate(facts, 1)]


def units(dead: int, samples: int = 1000, zero_input: float | None = None) -> dict[str, Any]:
    return {"units": (LayerUnits(layer="fc1", units=100, dead=dead, samples=samples, zero_input=zero_input),)}


def generators(*unseeded: str) -> tuple[Generator, ...]:
    return tuple(Generator(name=name, seeded=name not in unseeded) for name in ("python", "numpy", "torch", "loader"))


def candidate(accuracy: float, ece: float) -> list[RunEnd]:
    return [RunEnd(step=9, candidate=Candidate(split="test", accuracy=accuracy, ece=ece))]


def claims(seeds: int, interval: bool) -> list[RunEnd]:
    return [RunEnd(step=9, claims=(Claim(text="B beats A", seeds=seeds, interval=interval),))]


def timings(**times: float) -> list[Timings]:
    usual = {"count": 200, "mean_ms": 50.0, "p95_ms": 100.0, "p99_ms": 200.0}
    return [Timings(step=9, phases=(PhaseTime(phase="checkpoint", **(usual | times)),))]  # type: ignore[arg-type]


def cohorts(accuracy: float, rows: int = 5000, **facts: Any) -> list[RunEnd]:
    reference = Cohort(name="all", rows=20_000, accuracy=0.9, recall=0.5, positives=2000, ece=0.01)
    return [RunEnd(step=9, cohorts=(reference, Cohort(name="newest", rows=rows, accuracy=accuracy, **facts)))]


def looks(count: int, **facts: Any) -> list[Resources]:
    return [
        Resources(step=i, **{k: fact(i) if callable(fact) else fact for k, fact in facts.items()}) for i in range(count)
    ]


VALIDITY = [
    Case(
        "optimizer-coverage",
        "",
        "one parameter in no group",
        preflight(uncovered=("head.bias",)),
        ("critical", "critical", "minor"),
    ),
    Case("optimizer-coverage", "", "all covered", preflight(uncovered=()), KEPT, "healthy"),
    Case("no-update", "", "a head that never moves", updates(20, unchanged=stuck()), everywhere("critical")),
    Case(
        "no-update", "", "three updates without change", updates(3, unchanged=stuck()), ("critical", "critical", None)
    ),
    Case("no-update", "", "one update without change", updates(1, unchanged=stuck()), ("critical", None, None)),
    Case("no-update", "", "every weight changes", updates(30, unchanged=()), KEPT, "healthy"),
    Case(
        "no-update",
        "",
        "a bias before batch norm: a gradient of noise",
        updates(30, unchanged=stuck(grad_max=1e-9)),
        KEPT,
        "healthy",
    ),
    Case("no-update", "", "learning rate 0 in warm-up", updates(30, unchanged=stuck(lr=0.0)), KEPT, "healthy"),
    Case(
        "no-update", "", "updates that the scaler skips", updates(30, unchanged=stuck(), skipped=True), KEPT, "healthy"
    ),
    Case("no-update", "", "a gradient of NaN", updates(30, unchanged=stuck(grad_max=NAN)), KEPT, "nan"),
    Case(
        "missing-grad",
        "parameters",
        "a detached layer",
        steps(10, missing_grad=("encoder.weight",)),
        everywhere("critical"),
    ),
    Case(
        "missing-grad",
        "parameters",
        "for one step",
        steps(1, missing_grad=("encoder.weight",)),
        ("critical", None, None),
    ),
    Case(
        "missing-grad",
        "parameters",
        "for two steps",
        steps(2, missing_grad=("encoder.weight",)),
        ("critical", "critical", None),
    ),
    Case("missing-grad", "parameters", "all have gradients", steps(20, missing_grad=()), KEPT, "healthy"),
    Case(
        "missing-grad",
        "parameters",
        "an expert that sits out every other step",
        steps(60, missing_grad=lambda i: ("experts.3.weight",) if i % 2 == 0 else ()),
        KEPT,
        "healthy",
    ),
    Case(
        "missing-grad",
        "parameters",
        "an expert that is never asked again",
        steps(5, missing_grad=()) + steps(30, 6, missing_grad=("experts.3.weight",)),
        ("critical", "critical", None),
    ),
    Case(
        "missing-grad",
        "graph",
        "layers in a plain list",
        steps(10, stray_leaves=("[64, 64] into AddmmBackward0",)),
        everywhere("critical"),
    ),
    Case("missing-grad", "graph", "no stray tensors", steps(20, stray_leaves=()), KEPT, "healthy"),
    Case(
        "eval-mode",
        "",
        "dropout in training mode",
        [evaluation(in_training=("drop",))],
        ("critical", "critical", "minor"),
    ),
    Case(
        "eval-mode",
        "",
        "batch norm learns",
        [evaluation(buffers_changed=("bn.running_mean",))],
        ("critical", "critical", "minor"),
    ),
    Case("eval-mode", "", "two passes differ", [evaluation(repeat_difference=0.02)], ("critical", "critical", "minor")),
    Case(
        "eval-mode",
        "",
        "evaluation mode, sums in another order",
        [evaluation(in_training=(), buffers_changed=(), repeat_difference=2e-6)],
        KEPT,
        "healthy",
    ),
    Case("eval-mode", "", "outputs of NaN", [evaluation(repeat_difference=NAN)], KEPT, "nan"),
    Case(
        "train-mode",
        "",
        "train() is forgotten after the first evaluation, for a whole epoch",
        steps(50, epoch=lambda i: i / 50, root_in_eval=False, in_eval=())
        + steps(60, 51, epoch=lambda i: i / 50, root_in_eval=True, in_eval=("drop", "bn")),
        everywhere("major"),
    ),
    Case(
        "train-mode",
        "",
        "one step in evaluation mode",
        steps(1, root_in_eval=True, in_eval=("drop",)),
        ("major", "major", None),
    ),
    Case(
        "train-mode",
        "",
        "an encoder left in evaluation mode",
        steps(5, root_in_eval=False, in_eval=()) + steps(1, 6, root_in_eval=False, in_eval=("encoder.drop",)),
        ("major", "major", None),
    ),
    Case("train-mode", "", "all in training mode", steps(99, root_in_eval=False, in_eval=()), KEPT, "healthy"),
    Case(
        "train-mode",
        "",
        "batch norm frozen on purpose",
        steps(99, root_in_eval=False, in_eval=("bn1", "bn2")),
        KEPT,
        "healthy",
    ),
    Case("train-mode", "", "a model that has no modes", steps(99, root_in_eval=True, in_eval=()), KEPT, "healthy"),
    Case(
        "split-overlap",
        "",
        "six samples of test in train",
        preflight(overlaps=(Overlap(first="train", second="test", count=6, size=9042, examples=(3, 17)),)),
        ("critical", None, None),
    ),
    Case(
        "split-overlap",
        "",
        "1% of test in train",
        preflight(overlaps=(Overlap(first="train", second="test", count=10, size=1000),)),
        ("critical", "critical", None),
    ),
    Case(
        "split-overlap",
        "",
        "split after oversampling",
        preflight(overlaps=(Overlap(first="train", second="test", count=300, size=1000, coarse=True),)),
        everywhere("critical"),
    ),
    Case(
        "split-overlap",
        "",
        "equal rows of a coarse table, labelled only",
        preflight(overlaps=(Overlap(first="train", second="test", count=10, size=1000, coarse=True),)),
        ("info", "info", None),
    ),
    Case(
        "split-overlap",
        "",
        "none",
        preflight(overlaps=(Overlap(first="train", second="test", count=0, size=1000),)),
        KEPT,
        "healthy",
    ),
    Case(
        "split-overlap",
        "",
        "an empty split",
        preflight(overlaps=(Overlap(first="train", second="test", count=0, size=0),)),
        KEPT,
        "healthy",
    ),
    Case(
        "augmentation-leak",
        "",
        "a crop in the evaluation pipeline",
        preflight(evaluation_random=("RandomCrop",)),
        ("major", "major", "minor"),
    ),
    Case(
        "augmentation-leak",
        "",
        "a crop seen while evaluating",
        [evaluation(random_transforms=("RandomCrop",))],
        ("major", "major", "minor"),
    ),
    Case(
        "augmentation-leak",
        "",
        "drawn twice, two inputs",
        [evaluation(input_digest="a", input_digest_again="b")],
        ("major", "major", "minor"),
    ),
    Case(
        "augmentation-leak",
        "",
        "another input than last time",
        [evaluation(input_digest="a", samples=9), evaluation(input_digest="b", samples=9)],
        ("major", "major", "minor"),
    ),
    Case(
        "augmentation-leak",
        "",
        "the same inputs each time",
        [
            *preflight(evaluation_random=()),
            *[evaluation(input_digest="a", input_digest_again="a", samples=9, random_transforms=())] * 3,
        ],
        KEPT,
        "healthy",
    ),
    Case(
        "augmentation-leak",
        "",
        "other splits, and other numbers of samples, have other inputs",
        [
            evaluation(input_digest="a", samples=9),
            evaluation("test", input_digest="b", samples=9),
            evaluation(input_digest="c", samples=4),
        ],
        KEPT,
        "healthy",
    ),
    Case(
        "test-selection",
        "",
        "early stopping on test",
        preflight(selected_on=("test",), reported_on=("test",)),
        ("critical", "critical", "info"),
    ),
    Case(
        "test-selection",
        "",
        "seen at the end",
        [RunEnd(step=9, selected_on=("val", "test"), reported_on=("test",))],
        ("critical", "critical", "info"),
    ),
    Case(
        "test-selection",
        "",
        "validation chooses, test reports",
        preflight(selected_on=("val",), reported_on=("test",)),
        KEPT,
        "healthy",
    ),
    Case(
        "feature-leak",
        "",
        "a column known after the call",
        preflight(features=(Feature(name="duration", auc=0.81, post_outcome=True),)),
        everywhere("critical"),
    ),
    Case(
        "feature-leak",
        "",
        "a column that is too good",
        preflight(features=(Feature(name="x", auc=0.96),)),
        everywhere("major"),
    ),
    Case(
        "feature-leak",
        "",
        "a column that is good",
        preflight(features=(Feature(name="x", auc=0.81, auc_drop=0.14),)),
        ("major", None, None),
    ),
    Case(
        "feature-leak",
        "",
        "columns of Bank Marketing",
        preflight(features=(Feature(name="month", auc=0.654), Feature(name="age", auc=0.508))),
        KEPT,
        "healthy",
    ),
    Case(
        "feature-leak",
        "",
        "a constant column",
        preflight(features=(Feature(name="x", auc=NAN), Feature(name="y", auc=0.6))),
        KEPT,
        "nan",
    ),
    Case(
        "loss-contract",
        "",
        "softmax before cross-entropy",
        steps(1, **loss_input("cross_entropy", (64, 10), (64,), **SOFTMAX)),
        ("critical", "critical", "minor"),
    ),
    Case(
        "loss-contract",
        "",
        "(N, 1) against (N,)",
        steps(1, **loss_input("mse_loss", (64, 1), (64,))),
        ("critical", "critical", "minor"),
    ),
    Case(
        "loss-contract",
        "",
        "logits to nll_loss",
        steps(1, **loss_input("nll_loss", (64, 10), (64,), **LOGITS)),
        ("critical", "critical", "minor"),
    ),
    Case(
        "loss-contract",
        "",
        "sigmoid before a loss with logits",
        steps(1, **loss_input("binary_cross_entropy_with_logits", (128,), (128,), lowest=0.02, highest=0.99)),
        ("critical", "critical", "minor"),
    ),
    Case(
        "loss-contract",
        "",
        "logits",
        steps(9, **loss_input("cross_entropy", (64, 10), (64,), **LOGITS)),
        KEPT,
        "healthy",
    ),
    Case(
        "loss-contract",
        "",
        "soft targets",
        steps(9, **loss_input("cross_entropy", (64, 10), (64, 10), **LOGITS)),
        KEPT,
        "healthy",
    ),
    Case(
        "loss-contract",
        "",
        "one number for a whole batch",
        steps(9, **loss_input("mse_loss", (64, 1), (1,))),
        KEPT,
        "healthy",
    ),
    Case(
        "loss-contract",
        "",
        "small logits at the start of training",
        steps(9, **loss_input("binary_cross_entropy_with_logits", (128,), (128,), lowest=0.31, highest=0.44)),
        KEPT,
        "healthy",
    ),
    Case(
        "loss-contract",
        "",
        "inputs of NaN",
        steps(9, **loss_input("cross_entropy", (64, 10), (64,), row_sums=(NAN, NAN), lowest=NAN, highest=NAN)),
        KEPT,
        "nan",
    ),
    Case("zero-grad", "", "zero_grad is forgotten", steps(5, stale_gradients=("a", "b")), everywhere("critical")),
    Case("zero-grad", "", "for one step", steps(1, stale_gradients=("a",)), ("critical", None, None)),
    Case("zero-grad", "", "clean every time", steps(20, stale_gradients=()), KEPT, "healthy"),
    Case("grad-scale", "accumulation", "four parts, not divided", steps(1, accumulated_ratio=4.0), everywhere("major")),
    Case("grad-scale", "accumulation", "15% off", steps(1, accumulated_ratio=0.85), ("major", "major", None)),
    Case(
        "grad-scale", "accumulation", "equal but for rounding", steps(9, accumulated_ratio=1.0000002), KEPT, "healthy"
    ),
    Case("grad-scale", "accumulation", "no ratio", steps(9, accumulated_ratio=NAN), KEPT, "nan"),
    Case(
        "grad-scale",
        "clipping",
        "clipped before unscaling",
        steps(1, clipped_scaled=True, loss_scale=65536.0),
        everywhere("major"),
    ),
    Case(
        "grad-scale", "clipping", "unscaled first", steps(9, clipped_scaled=False, loss_scale=65536.0), KEPT, "healthy"
    ),
    Case(
        "at-chance",
        "loss",
        "nothing learned in 20 epochs",
        [evaluation(class_shares=TEN, cross_entropy=2.302, accuracy=0.1, samples=1000)],
        everywhere("major"),
    ),
    Case(
        "at-chance",
        "loss",
        "nothing learned in 4 epochs",
        [evaluation(epoch=4.0, class_shares=TEN, cross_entropy=2.302, accuracy=0.1, samples=1000)],
        ("major", "major", None),
    ),
    Case(
        "at-chance",
        "loss",
        "skewed classes, ranking by chance",
        [evaluation(class_shares=SKEWED, cross_entropy=0.37, accuracy=0.883, auc=0.51)],
        everywhere("major"),
    ),
    Case(
        "at-chance",
        "loss",
        "a healthy first epoch of 25 updates",
        [evaluation(step=25, epoch=1.0, class_shares=TEN, cross_entropy=2.29, accuracy=0.1, samples=286)],
        KEPT,
        "healthy",
    ),
    Case(
        "at-chance",
        "loss",
        "a loss near chance, but an accuracy well above it",
        [evaluation(class_shares=TEN, cross_entropy=2.1, accuracy=0.3, samples=286)],
        KEPT,
        "healthy",
    ),
    Case(
        "at-chance",
        "loss",
        "CatBoost on Bank Marketing",
        [evaluation(epoch=None, class_shares=SKEWED, cross_entropy=0.285, accuracy=0.896, auc=0.80)],
        KEPT,
        "healthy",
    ),
    Case(
        "at-chance",
        "loss",
        "a loss of NaN",
        [evaluation(class_shares=TEN, cross_entropy=NAN, accuracy=0.1)],
        KEPT,
        "nan",
    ),
    Case(
        "at-chance",
        "classes",
        "one class for all",
        [evaluation(class_shares=TEN, predicted_shares=NEARLY_ONE, accuracy=0.12)],
        everywhere("major"),
    ),
    Case(
        "at-chance",
        "classes",
        "one class for most",
        [evaluation(class_shares=TEN, predicted_shares=MOSTLY_ONE, accuracy=0.15)],
        ("major", None, None),
    ),
    Case(
        "at-chance",
        "classes",
        "even predictions",
        [evaluation(class_shares=TEN, predicted_shares=TEN, accuracy=0.9)],
        KEPT,
        "healthy",
    ),
    Case(
        "at-chance",
        "classes",
        "skewed classes, predicted as they are",
        [evaluation(class_shares=SKEWED, predicted_shares=(0.96, 0.04), accuracy=0.896)],
        KEPT,
        "healthy",
    ),
    Case(
        "at-chance",
        "classes",
        "shares of NaN",
        [evaluation(class_shares=TEN, predicted_shares=(NAN,) * 10, accuracy=NAN)],
        KEPT,
        "nan",
    ),
    Case(
        "scheduler",
        "calls",
        "an epoch scheduler called every batch",
        epochs({"scheduler_calls": 100, "scheduler_unit": "epoch", "updates": 100}),
        ("major", "major", None),
    ),
    Case(
        "scheduler",
        "calls",
        "never called",
        epochs({"scheduler_calls": 0, "scheduler_unit": "epoch", "updates": 100}),
        everywhere("major"),
    ),
    Case(
        "scheduler",
        "calls",
        "a step scheduler called once more",
        epochs({"scheduler_calls": 101, "scheduler_unit": "step", "updates": 100}),
        ("major", None, None),
    ),
    Case(
        "scheduler",
        "calls",
        "called for updates that the scaler skipped too",
        epochs({"scheduler_calls": 100, "scheduler_unit": "step", "updates": 98, "skipped": 2}),
        KEPT,
        "healthy",
    ),
    Case(
        "scheduler",
        "calls",
        "once an epoch",
        epochs({"scheduler_calls": 1, "scheduler_unit": "epoch", "updates": 100}),
        KEPT,
        "healthy",
    ),
    Case(
        "scheduler",
        "floor",
        "fallen to nothing early",
        [*preflight(total_steps=1000), *steps(200, lr=lambda i: 1e-3 * 0.9**i)],
        everywhere("major"),
    ),
    Case(
        "scheduler",
        "floor",
        "warm-up from 0, cosine to 0",
        [
            *preflight(total_steps=1000),
            *steps(1000, lr=lambda i: 1e-3 * min((i - 1) / 50, (1 + math.cos(math.pi * i / 1000)) / 2)),
        ],
        KEPT,
        "healthy",
    ),
    Case(
        "scheduler",
        "floor",
        "a learning rate of NaN",
        [*preflight(total_steps=100), *steps(9, lr=1e-3), *steps(9, 10, lr=NAN)],
        KEPT,
        "nan",
    ),
]
STABILITY = [
    Case(
        "non-finite",
        "gradients",
        "a loss of NaN",
        steps(5, loss=1.0) + steps(1, 6, loss=NAN, batch=(4, 2)),
        everywhere("critical"),
    ),
    Case(
        "non-finite",
        "gradients",
        "a loss of NaN under a scaler",
        [*steps(5, loss=1.0), *steps(1, 6, loss=NAN, loss_scale=1024.0)],
        everywhere("critical"),
    ),
    Case(
        "non-finite",
        "gradients",
        "an infinite gradient without a scaler",
        steps(1, loss=1.0, non_finite=("head.weight",)),
        everywhere("critical"),
    ),
    Case(
        "non-finite",
        "gradients",
        "ten overflows in a row",
        steps(50, loss=1.0, grad_norm=1.0, loss_scale=1024.0) + steps(10, 51, loss=1.0, grad_norm=INF, loss_scale=64.0),
        everywhere("critical"),
    ),
    Case(
        "non-finite",
        "gradients",
        "three overflows in a row",
        steps(50, loss=1.0, grad_norm=1.0, loss_scale=1024.0) + steps(3, 51, loss=1.0, grad_norm=INF, loss_scale=64.0),
        ("critical", "critical", None),
    ),
    Case(
        "non-finite",
        "gradients",
        "the scaler finds its first scale",
        steps(16, loss=1.0, grad_norm=INF, loss_scale=65536.0) + steps(50, 17, loss=1.0, grad_norm=1.0, loss_scale=1.0),
        KEPT,
        "healthy",
    ),
    Case(
        "non-finite",
        "gradients",
        "the scaler tries a higher scale now and then",
        steps(200, loss=1.0, grad_norm=lambda i: INF if i % 50 == 0 else 1.0, loss_scale=1024.0),
        KEPT,
        "healthy",
    ),
    Case(
        "non-finite",
        "gradients",
        "a gradient norm of NaN",
        steps(1, loss=1.0, grad_norm=NAN),
        everywhere("critical"),
        "nan",
    ),
    Case(
        "non-finite",
        "weights",
        "NaN in the weights",
        updates(1, non_finite=("head.weight",)),
        everywhere("critical"),
        "nan",
    ),
    Case("non-finite", "weights", "a broken weight", updates(1, non_finite=("head.weight",)), everywhere("critical")),
    Case("non-finite", "weights", "all finite", updates(9, non_finite=()), KEPT, "healthy"),
    Case("non-finite", "evaluation", "an infinite validation loss", [evaluation(loss=INF)], everywhere("critical")),
    Case("non-finite", "evaluation", "a validation loss of NaN", [evaluation(loss=NAN)], everywhere("critical"), "nan"),
    Case("non-finite", "evaluation", "finite", [evaluation(loss=0.3)], KEPT, "healthy"),
    Case("spike", "loss", "ten times the loss", [*CALM_STEPS, *steps(1, 101, loss=10.0)], everywhere("major")),
    Case("spike", "loss", "2.5 times the loss", [*CALM_STEPS, *steps(1, 101, loss=2.5)], ("major", "major", None)),
    Case(
        "spike",
        "loss",
        "a language model's loss from 3 to 4",
        [*steps(100, loss=lambda i: noisy(i, 3, 0.02)), *steps(1, 101, loss=4.0)],
        ("major", "major", None),
    ),
    Case("spike", "loss", "noise, and half as much again", [*CALM_STEPS, *steps(1, 101, loss=1.5)], KEPT, "healthy"),
    Case("spike", "loss", "a window that is too short", [*CALM_STEPS[:60], *steps(1, 61, loss=50.0)], KEPT, "healthy"),
    Case(
        "spike",
        "loss",
        "a last batch that is less than half full",
        [*steps(100, loss=noisy, samples=64), *steps(1, 101, loss=10.0, samples=3)],
        KEPT,
        "healthy",
    ),
    Case(
        "spike",
        "loss",
        "a tiny rise of a full-batch loss",
        [*steps(100, loss=0.5), *steps(1, 101, loss=0.505)],
        KEPT,
        "healthy",
    ),
    Case("spike", "loss", "NaN", [*CALM_STEPS, *steps(1, 101, loss=NAN), *steps(1, 102, loss=INF)], KEPT, "nan"),
    Case(
        "spike",
        "gradient",
        "ten times the gradient",
        [*CALM_STEPS, *steps(1, 101, grad_norm=10.0)],
        everywhere("major"),
    ),
    Case("spike", "gradient", "noise", CALM_STEPS, KEPT, "healthy"),
    Case("spike", "gradient", "NaN", [*CALM_STEPS, *steps(1, 101, grad_norm=NAN)], KEPT, "nan"),
    Case("update-ratio", "", "weights replaced at every step", updates(9, ratio=20.0), everywhere("major")),
    Case("update-ratio", "", "half of the weights", updates(9, ratio=0.5), ("major", "major", None)),
    Case("update-ratio", "", "a fifth of the weights", updates(9, ratio=0.2), ("major", None, None)),
    Case(
        "update-ratio",
        "",
        "a large first update",
        [*updates(2, ratio=12.0), *updates(9, 3, ratio=0.01)],
        KEPT,
        "healthy",
    ),
    Case("update-ratio", "", "NaN", updates(9, ratio=NAN), KEPT, "nan"),
    Case(
        "vanishing-gradient",
        "",
        "ten sigmoid layers",
        steps(20, gradient_ratio=1e-6, small_gradients=1.0),
        everywhere("major"),
    ),
    Case(
        "vanishing-gradient",
        "",
        "in every third measurement",
        steps(21, gradient_ratio=lambda i: 1e-6 if i % 3 == 0 else 0.1, small_gradients=1.0),
        ("major", None, None),
    ),
    Case(
        "vanishing-gradient",
        "",
        "a residual network",
        steps(40, gradient_ratio=0.6, small_gradients=0.1),
        KEPT,
        "healthy",
    ),
    Case(
        "vanishing-gradient",
        "",
        "small for some steps",
        steps(9, gradient_ratio=1e-6, small_gradients=1.0),
        KEPT,
        "healthy",
    ),
    Case(
        "vanishing-gradient",
        "",
        "a last layer without gradient",
        steps(40, gradient_ratio=NAN, small_gradients=NAN),
        KEPT,
        "nan",
    ),
    Case("dead-units", "", "nearly all dead", epochs(units(95)), everywhere("minor")),
    Case("dead-units", "", "a third dead", epochs(units(35)), ("minor", None, None)),
    Case("dead-units", "", "some dead", epochs(units(12)), KEPT, "healthy"),
    Case("dead-units", "", "too few samples to say", epochs(units(95, samples=64)), KEPT, "healthy"),
    Case("dead-units", "", "a bag of words", epochs(units(95, zero_input=0.99)), KEPT, "healthy"),
    Case("dead-units", "", "NaN", epochs(units(12, zero_input=NAN)), KEPT, "nan"),
    Case(
        "checkpoint-integrity",
        "",
        "weights alone",
        checkpoint(contents=("model",), expected=PARTS),
        everywhere("major"),
    ),
    Case(
        "checkpoint-integrity",
        "",
        "no sampler",
        checkpoint(contents=PARTS[:4], expected=PARTS),
        ("major", "major", None),
    ),
    Case(
        "checkpoint-integrity",
        "",
        "does not replay",
        checkpoint(contents=PARTS, expected=PARTS, replay_equal=False),
        ("major", None, None),
    ),
    Case("checkpoint-integrity", "", "another hash", checkpoint(hash_matches=False), everywhere("major")),
    Case(
        "checkpoint-integrity",
        "",
        "the best weights are the live ones",
        checkpoint(best_is_copy=False),
        everywhere("major"),
    ),
    Case(
        "checkpoint-integrity",
        "",
        "whole",
        checkpoint(contents=PARTS, expected=PARTS, hash_matches=True, best_is_copy=True, replay_equal=True),
        KEPT,
        "healthy",
    ),
]
REPRODUCIBILITY = [
    Case("seeding", "", "numpy is not seeded", preflight(generators=generators("numpy")), everywhere("major")),
    Case(
        "seeding",
        "",
        "not all seeded, seed on record",
        preflight(generators=generators("numpy"), seed=42),
        ("major", "major", None),
    ),
    Case("seeding", "", "all seeded", preflight(generators=generators(), seed=42), KEPT, "healthy"),
    Case(
        "determinism",
        "promise",
        "nothing promises it",
        preflight(determinism=Determinism(promised=False, missing=("a",))),
        ("info", "info", None),
    ),
    Case("determinism", "promise", "a CPU", preflight(determinism=Determinism(promised=True)), KEPT, "healthy"),
    Case(
        "determinism",
        "replay",
        "steps that differ",
        [Replay(step=5, steps=3, difference=0.01)],
        ("major", "major", None),
    ),
    Case("determinism", "replay", "rounding", [Replay(step=5, steps=3, difference=1e-8)], ("major", None, None)),
    Case("determinism", "replay", "bit-equal", [Replay(step=5, steps=3, difference=0.0)], KEPT, "healthy"),
    Case(
        "determinism",
        "replay",
        "one run came to NaN",
        [Replay(step=5, steps=3, difference=NAN)],
        ("major", "major", None),
        "nan",
    ),
    Case(
        "worker-rng", "", "four workers, one state", epochs({"worker_draws": ("a", "a", "a", "a")}), everywhere("major")
    ),
    Case(
        "worker-rng",
        "",
        "two of eight alike",
        epochs({"worker_draws": ("a", "a", "b", "c", "d", "e", "f", "g")}),
        ("major", "major", None),
    ),
    Case(
        "worker-rng",
        "",
        "every epoch the same",
        epochs({"worker_draws": ("a",)}, {"worker_draws": ("a",)}),
        everywhere("major"),
    ),
    Case(
        "worker-rng",
        "",
        "all different",
        epochs({"worker_draws": ("a", "b")}, {"worker_draws": ("c", "d")}),
        KEPT,
        "healthy",
    ),
    Case("reshuffle", "", "three epochs in one order", epochs(*[{"order_digest": "a"}] * 3), everywhere("major")),
    Case(
        "reshuffle",
        "",
        "two epochs in one order",
        epochs({"order_digest": "a"}, {"order_digest": "a"}),
        ("major", "major", None),
    ),
    Case("reshuffle", "", "shuffled", epochs(*({"order_digest": name} for name in "abcab")), KEPT, "healthy"),
    Case("provenance", "", "nothing is known", preflight(provenance=Provenance()), everywhere("minor")),
    Case(
        "provenance",
        "",
        "no digest of the data",
        preflight(provenance=Provenance(code="c0ffee", patch="", packages=9, config="d")),
        ("minor", None, None),
    ),
    Case(
        "provenance",
        "",
        "all known",
        preflight(provenance=Provenance(code="c0ffee", patch="", packages=9, data="d", config="d")),
        KEPT,
        "healthy",
    ),
]
REPORTING = [
    Case(
        "metric-aggregation",
        "value",
        "mean of batch means",
        [evaluation(metrics=(MetricCheck(name="accuracy", reported=0.93, recomputed=0.91),))],
        everywhere("major"),
    ),
    Case(
        "metric-aggregation",
        "value",
        "half a point off",
        [evaluation(metrics=(MetricCheck(name="accuracy", reported=0.915, recomputed=0.91),))],
        ("major", "major", None),
    ),
    Case(
        "metric-aggregation",
        "value",
        "rounding",
        [evaluation(metrics=(MetricCheck(name="loss", reported=2.3000002, recomputed=2.3),))],
        KEPT,
        "healthy",
    ),
    Case(
        "metric-aggregation",
        "value",
        "NaN on one side",
        [evaluation(metrics=(MetricCheck(name="auc", reported=NAN, recomputed=0.9),))],
        everywhere("major"),
        "nan",
    ),
    Case(
        "metric-aggregation",
        "value",
        "NaN on both sides",
        [evaluation(metrics=(MetricCheck(name="auc", reported=NAN, recomputed=NAN),))],
        KEPT,
        "nan",
    ),
    Case(
        "metric-aggregation",
        "count",
        "the last batch is dropped",
        [evaluation(samples=960, split_size=1000)],
        everywhere("major"),
    ),
    Case(
        "metric-aggregation",
        "count",
        "one sample is missing",
        [evaluation(samples=999, split_size=1000)],
        ("major", None, None),
    ),
    Case("metric-aggregation", "count", "all counted", [evaluation(samples=1000, split_size=1000)], KEPT, "healthy"),
    Case("single-run", "", "one seed", claims(1, False), ("major", "major", "info")),
    Case("single-run", "", "three seeds without interval", claims(3, False), ("major", None, None)),
    Case("single-run", "", "five seeds with an interval", claims(5, True), KEPT, "healthy"),
    Case("single-run", "", "no claim", [RunEnd(step=9, claims=())], KEPT, "healthy"),
    Case("promotion-gate", "calibration", "too sure of itself", candidate(0.95, 0.12), ("major", "major", "info")),
    Case("promotion-gate", "calibration", "calibrated", candidate(0.95, 0.02), KEPT, "healthy"),
    Case("promotion-gate", "calibration", "NaN does not pass", candidate(0.95, NAN), ("major", "major", "info"), "nan"),
    Case("promotion-gate", "accuracy", "too low", candidate(0.8, 0.02), ("major", "major", "info")),
    Case("promotion-gate", "accuracy", "high enough", candidate(0.85, 0.02), KEPT, "healthy"),
    Case("promotion-gate", "accuracy", "NaN does not pass", candidate(NAN, 0.02), ("major", "major", "info"), "nan"),
]
CALM_SECONDS = steps(80, seconds=lambda i: noisy(i, 0.2))
OPERATIONS = [
    Case("sla", "", "a slow 95th percentile", timings(p95_ms=300.0), ("minor", "minor", None)),
    Case("sla", "", "a slow mean", timings(mean_ms=130.0, count=3), ("minor", "minor", None)),
    Case("sla", "", "within the limits", timings(), KEPT, "healthy"),
    Case("sla", "", "a slow percentile of three times", timings(p99_ms=900.0, count=3), KEPT, "healthy"),
    Case("sla", "", "NaN", timings(mean_ms=NAN, p95_ms=NAN, p99_ms=NAN), KEPT, "nan"),
    Case("drift", "", "ten points worse", cohorts(0.8), ("minor", "minor", None)),
    Case("drift", "", "calibration", cohorts(0.9, ece=0.2), ("minor", "minor", None)),
    Case("drift", "", "two points worse, of many rows", cohorts(0.88), ("minor", None, None)),
    Case("drift", "", "the same", cohorts(0.901, recall=0.5, positives=500), KEPT, "healthy"),
    Case("drift", "", "worse, of a few rows", cohorts(0.8, rows=20), KEPT, "healthy"),
    Case("drift", "", "NaN", cohorts(NAN, ece=NAN), KEPT, "nan"),
    Case(
        "resources",
        "gap",
        "half an hour and more",
        [*CALM_SECONDS, *steps(1, 81, seconds=2000.0)],
        ("minor", "minor", None),
    ),
    Case(
        "resources",
        "gap",
        "no step for a minute",
        [*CALM_SECONDS, Resources(step=81, idle_seconds=60.0)],
        ("minor", None, None),
    ),
    Case(
        "resources", "gap", "every step takes a minute", steps(200, seconds=lambda i: noisy(i, 60.0)), KEPT, "healthy"
    ),
    Case("resources", "gap", "NaN", [*CALM_SECONDS, *steps(1, 81, seconds=NAN)], KEPT, "nan"),
    Case("resources", "memory", "a leak", looks(400, memory_bytes=lambda i: 10**9 + i * 10**6), ("minor", None, None)),
    Case(
        "resources",
        "memory",
        "growth while it starts, then waves",
        looks(400, memory_bytes=lambda i: min(i, 50) * 2 * 10**7 + i % 7 * 10**7),
        KEPT,
        "healthy",
    ),
    Case(
        "resources",
        "disk",
        "no room for a checkpoint",
        looks(1, disk_free_bytes=5 * 10**8, checkpoint_bytes=10**9),
        everywhere("major"),
    ),
    Case(
        "resources",
        "disk",
        "room for one",
        looks(1, disk_free_bytes=11 * 10**8, checkpoint_bytes=10**9),
        ("major", "major", None),
    ),
    Case(
        "resources", "disk", "room for many", looks(9, disk_free_bytes=10**11, checkpoint_bytes=10**9), KEPT, "healthy"
    ),
    Case("resources", "gpu", "idle", looks(12, gpu_busy=0.01), ("minor", None, None)),
    Case("resources", "gpu", "busy", looks(20, gpu_busy=0.4), KEPT, "healthy"),
    Case("resources", "gpu", "idle while evaluating", looks(20, gpu_busy=0.0, training=False), KEPT, "healthy"),
    Case("resources", "gpu", "NaN", looks(20, gpu_busy=NAN), KEPT, "nan"),
]
CASES = [*VALIDITY, *STABILITY, *REPRODUCIBILITY, *REPORTING, *OPERATIONS]

WITHOUT_NUMBERS = {
    ("optimizer-coverage", ""), ("missing-grad", "parameters"), ("missing-grad", "graph"), ("train-mode", ""),
    ("split-overlap", ""), ("augmentation-leak", ""), ("test-selection", ""), ("zero-grad", ""),
    ("grad-scale", "clipping"), ("scheduler", "calls"), ("checkpoint-integrity", ""), ("seeding", ""),
    ("determinism", "promise"), ("worker-rng", ""), ("reshuffle", ""), ("provenance", ""),
    ("metric-aggregation", "count"), ("single-run", ""), ("resources", "memory"), ("resources", "disk"),
}  # fmt: skip
"""Judged by names, counts, digests and flags alone: nothing in them can be NaN."""
