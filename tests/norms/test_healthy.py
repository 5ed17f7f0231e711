"""A healthy run raises nothing, in any regime; a norm that cries wolf is worse than none."""

import math
import random
from collections.abc import Iterator

import pytest

from norms.judge import Judge
from norms.norm import REGIMES
from norms.signals import (
    AnySignal,
    CheckpointSaved,
    EpochEnd,
    Evaluation,
    LossInput,
    Preflight,
    Resources,
    Step,
    Update,
)

STEPS, EPOCH, WARMUP = 10_000, 250, 500
LOGITS = LossInput(
    function="cross_entropy",
    input_shape=(64, 10),
    target_shape=(64,),
    row_sums=(-3.0, 4.0),
    lowest=-5.0,
    highest=6.0,
)
TEN = (0.1,) * 10
PARTS = ("model", "optimizer", "rng_torch")


def run(seed: int) -> Iterator[AnySignal]:
    """Yield the signals of a run with a noisy, heavy-tailed, falling loss, warm-up, cosine and partial batches."""
    rng = random.Random(seed)
    yield Preflight(step=0, total_steps=STEPS, uncovered=(), evaluation_random=())
    for step in range(1, STEPS + 1):
        yield from training(step, rng)
        if step % 100 == 0:
            memory = int(2e9 * (1 - math.exp(-step / 300)) + rng.random() * 1e8)
            yield Resources(
                step=step, idle_seconds=0.02, memory_bytes=memory, disk_free_bytes=10**11, checkpoint_bytes=10**8
            )
        if step % EPOCH == 0:
            yield from epoch_end(step, rng)


def training(step: int, rng: random.Random) -> Iterator[AnySignal]:
    partial = step % EPOCH == 0
    loss = (0.02 + 2.3 * math.exp(-step / 2000)) * math.exp(rng.gauss(0, 0.6 if partial else 0.25))
    rising = 1 + 2 * math.exp(-(((step - 600) / 300) ** 2))  # gradient norms rise when training takes off
    share = min(step / WARMUP, (1 + math.cos(math.pi * step / STEPS)) / 2)
    yield Step(
        step=step,
        epoch=step / EPOCH,
        loss=loss,
        grad_norm=rising * math.exp(rng.gauss(0, 0.4)),
        samples=20 if partial else 64,
        lr=1e-3 * share,
        seconds=0.02 * math.exp(abs(rng.gauss(0, 0.5))),
        loss_scale=65536.0,
        non_finite=(),
        missing_grad=("experts.0",) if step > 1 and rng.random() < 0.3 else (),
        stray_leaves=(),
        root_in_eval=False,
        in_eval=("frozen.bn",),
        stale_gradients=(),
        clipped_scaled=False,
        gradient_ratio=math.exp(rng.gauss(-0.5, 0.5)),
        small_gradients=rng.random() * 0.3,
        loss_inputs=(LOGITS,),
    )
    ratio = 0.02 * share * math.exp(rng.gauss(0, 0.3))
    yield Update(step=step, epoch=step / EPOCH, unchanged=(), ratio=ratio, non_finite=())


def epoch_end(step: int, rng: random.Random) -> Iterator[AnySignal]:
    epoch, quality = step / EPOCH, 1 - math.exp(-step / 1500)
    yield EpochEnd(
        step=step,
        epoch=epoch,
        updates=EPOCH,
        scheduler_calls=EPOCH,
        scheduler_unit="step",
        order_digest=str(rng.random()),
        worker_draws=(str(rng.random()), str(rng.random())),
    )
    yield Evaluation(
        split="val",
        step=step,
        epoch=epoch,
        loss=2.3 - 2 * quality,
        cross_entropy=2.3 - 2 * quality,
        accuracy=0.1 + 0.85 * quality,
        class_shares=TEN,
        predicted_shares=TEN,
        samples=1000,
        split_size=1000,
        in_training=(),
        buffers_changed=(),
        repeat_difference=rng.random() * 1e-6,
        random_transforms=(),
        input_digest="a",
        input_digest_again="a",
    )
    yield CheckpointSaved(step=step, epoch=epoch, path="c", contents=PARTS, expected=PARTS, hash_matches=True)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("regime", REGIMES)
def test_ten_thousand_healthy_steps_raise_nothing(seed: int, regime: str) -> None:
    judge = Judge(regime)  # type: ignore[arg-type]
    found = [violation.message for signal in run(seed) for violation in judge.feed(signal).violations]
    assert found == []
    readings = judge.readings()
    assert {reading.standing for reading in readings} == {"kept", "not applicable"}
    kept = {reading.norm for reading in readings if reading.standing == "kept"}
    assert kept >= {"spike", "no-update", "train-mode", "update-ratio", "vanishing-gradient", "at-chance", "resources"}


def test_the_same_signals_are_judged_the_same() -> None:
    signals = [*run(1), *(Step(step=STEPS + i, loss=math.nan if i % 3 else 90.0) for i in range(1, 30))]
    first, second = Judge("strict"), Judge("strict")
    judged = [repr(first.feed(signal)) for signal in signals]
    assert judged == [repr(second.feed(signal)) for signal in signals]
    assert "non-finite" in "".join(judged) and "spike" in "".join(judged)
    assert repr(first.readings()) == repr(second.readings())
