"""The probe of live torch objects: it changes nothing, leaves nothing behind, and sees what is there to see."""

import copy
import gc
import io
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs.schema import VitModel, VitOptimizer
from engine.probes.torch import Declared, TorchProbe
from engine.workloads.vit import train
from tests.engine.torch_runs import Loop, Recorder, batches, mlp

FP16, BF16 = torch.float16, torch.bfloat16


def scaler(start: float = 2.0**10) -> torch.amp.GradScaler:
    return torch.amp.GradScaler("cpu", init_scale=start)


# --- it changes nothing -----------------------------------------------------------------------------------------------

LOOPS: dict[str, Callable[[], Loop]] = {
    "plain": Loop,
    "bf16": lambda: Loop(dtype=BF16),
    "fp16 with a scaler": lambda: Loop(dtype=FP16, scaler=scaler()),
    "overflows": lambda: Loop(dtype=FP16, scaler=scaler(2.0**30)),
    "accumulation": lambda: Loop(accumulate=4),
    "accumulation with a scaler": lambda: Loop(dtype=FP16, scaler=scaler(), accumulate=2),
    "clipping": lambda: Loop(scaler=scaler(), clip=0.5),
    "fused and scaled": lambda: fused(),
    "sgd": lambda: sgd(),
}


def fused() -> Loop:
    model = mlp()
    return Loop(model, torch.optim.AdamW(model.parameters(), fused=True), scaler=scaler(2.0**30), dtype=FP16)


def sgd() -> Loop:
    model = mlp()
    return Loop(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2))


@pytest.mark.parametrize("name", LOOPS)
def test_losses_and_weights_are_the_same_bit_for_bit(name: str) -> None:
    plain, watched = LOOPS[name](), LOOPS[name]()
    torch.manual_seed(5)
    expected = plain.run(60)
    torch.manual_seed(5)
    with watched.probe() as probe:
        found = []
        for i, (x, y) in enumerate(batches(60)):
            watched.step(x, y)
            if i % 20 == 19:
                with probe.evaluation("val") as seen, torch.no_grad():
                    watched.model.eval()
                    watched.model(x)
                    watched.model.train()
                assert seen.facts()["repeat_difference"] in (0.0, None)
                probe.epoch_facts()
        found = watched.losses
    assert found == expected
    assert len(watched.sink.steps) == len(watched.sink.updates) == 60
    for name, tensor in plain.model.state_dict().items():
        assert torch.equal(tensor, watched.model.state_dict()[name]), name


def vit_losses(name: str, dtype: torch.dtype, watched: bool) -> tuple[list[float], Recorder]:
    torch.manual_seed(0)
    model = train.ViT(VitModel(patch=2, dim=32, depth=2, heads=2), (8, 8, 1), 10)
    optimizers = train.optimizers_of(model, VitOptimizer(name=name), torch.device("cpu"))  # type: ignore[arg-type]
    guard = torch.amp.GradScaler("cpu", enabled=dtype is FP16)
    sink, losses = Recorder(), []
    probe = TorchProbe(model, optimizers, sink=sink, scaler=guard)
    if watched:
        probe.install()
    generator = torch.Generator().manual_seed(1)
    for _ in range(12):
        x = torch.randn(16, 8, 8, 1, generator=generator)
        y = torch.randint(0, 10, (16,), generator=generator)
        with torch.autocast("cpu", dtype):
            logits = model(x)
        loss = F.cross_entropy(logits.float(), y)
        guard.scale(loss).backward()
        for optimizer in optimizers:
            guard.unscale_(optimizer)
        for optimizer in optimizers:
            guard.step(optimizer)
            optimizer.zero_grad()
        guard.update()
        losses.append(loss.item())
        sink.next_step += 1
    probe.remove()
    return losses, sink


@pytest.mark.parametrize("dtype", [FP16, BF16], ids=["fp16", "bf16"])
@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_the_vit_trains_the_same_and_two_optimizers_are_one_step(name: str, dtype: torch.dtype) -> None:
    losses, sink = vit_losses(name, dtype, watched=True)
    assert losses == vit_losses(name, dtype, watched=False)[0]
    assert [(step.step, step.stream) for step in sink.steps] == [(n, "") for n in range(1, 13)]
    assert [(update.step, update.stream) for update in sink.updates] == [(n, "") for n in range(1, 13)]
    assert [step.loss for step in sink.steps] == losses
    assert all(step.missing_grad == () and step.stale_gradients == () for step in sink.steps)


def test_a_compiled_forward_pass_stays_whole_and_is_not_seen() -> None:
    plain, watched = (Loop(mlp(dropout=0)) for _ in range(2))
    expected = plain.run(4)
    with watched.probe():
        eager = watched.loss_of
        watched.loss_of = torch.compile(eager, backend="aot_eager", fullgraph=True)  # type: ignore[method-assign]
        found = watched.run(4)
    torch.compiler.reset()
    assert found == pytest.approx(expected, rel=1e-5)
    for step, loss in zip(watched.sink.steps, found, strict=True):
        assert step.loss == loss
        assert step.root_in_eval is step.in_eval is step.loss_inputs is None
        assert step.stale_gradients == () == step.missing_grad


def snapshot() -> dict[str, Any]:
    """Return everything of torch that a probe may have its hands on."""
    from torch.nn.modules import module as hooks
    from torch.optim import optimizer as optimizers

    names = [name for name in dir(F) if name.endswith(("loss", "entropy", "logits"))]
    return {
        "functional": {name: getattr(F, name) for name in names},
        "backward": torch.autograd.backward,
        "clipping": (torch.nn.utils.clip_grad_norm_, torch.nn.utils.clip_grad_value_),
        "clipping module": (torch.nn.utils.clip_grad.clip_grad_norm_, torch.nn.utils.clip_grad.clip_grad_value_),
        "step hooks": (*optimizers._global_optimizer_pre_hooks, *optimizers._global_optimizer_post_hooks),
        "module hooks": (*hooks._global_forward_hooks, *hooks._global_forward_pre_hooks),
        "autocast": torch.autocast.__enter__,
    }


def test_removing_it_leaves_nothing_behind() -> None:
    before = snapshot()
    loop = Loop(scaler=scaler())
    attributes = set(vars(loop.scaler)), set(vars(loop.optimizer))
    probe = loop.probe().install()
    assert snapshot() != before
    loop.run(3)
    probe.remove()
    assert snapshot() == before
    assert (set(vars(loop.scaler)), set(vars(loop.optimizer))) == attributes
    for module in loop.model.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks
    for parameter in loop.model.parameters():
        assert not parameter._backward_hooks and not parameter._post_accumulate_grad_hooks  # type: ignore[attr-defined]
    loop.run(1)
    assert len(loop.sink.steps) == 3


def test_it_goes_away_even_where_somebody_wrapped_what_it_had_wrapped() -> None:
    original = F.mse_loss
    loop = Loop()
    probe = loop.probe().install()
    ours = F.mse_loss
    F.mse_loss = lambda *args, **kwargs: ours(*args, **kwargs)
    try:
        probe.remove()
        assert F.mse_loss(torch.zeros(2), torch.ones(2)) == 1
    finally:
        F.mse_loss = original


def test_a_watched_model_can_be_copied_and_saved_whole() -> None:
    loop = Loop()
    with loop.probe():
        loop.run(2)
        average = copy.deepcopy(loop.model)
        file = io.BytesIO()
        torch.save(loop.model, file)
        average(batches(1)[0][0])
        loop.run(1)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    assert loaded(batches(1)[0][0]).shape == (16, 4)
    assert copy.deepcopy(average)(batches(1)[0][0]).shape == (16, 4)


# --- before an update -------------------------------------------------------------------------------------------------


def test_a_step_says_what_was_differentiated_and_how_steep_it_was() -> None:
    loop = Loop()
    norms = []

    def note(signal: Any) -> None:
        norms.append(torch.nn.utils.get_total_norm([p.grad for p in loop.model.parameters() if p.grad is not None]))

    loop.sink.before = note
    with loop.probe():
        losses = loop.run(3)
    first, second, _ = loop.sink.steps
    assert [step.loss for step in loop.sink.steps] == losses
    assert [step.grad_norm for step in loop.sink.steps] == pytest.approx([norm.item() for norm in norms])
    assert (first.step, first.epoch, first.lr, first.samples) == (1, 0.5, 1e-2, None)
    assert first.seconds is None
    assert second.seconds is not None and second.seconds > 0
    assert first.non_finite == first.missing_grad == first.stray_leaves == first.in_eval == ()
    assert first.root_in_eval is False
    assert first.loss_scale is first.clipped_scaled is first.accumulated_ratio is None


def test_accumulated_parts_are_one_step_with_the_sum_of_their_losses() -> None:
    loop = Loop(accumulate=4)
    with loop.probe():
        losses = loop.run(3)
    assert [step.loss for step in loop.sink.steps] == pytest.approx(losses)
    assert all(step.stale_gradients == () for step in loop.sink.steps)


def test_a_backward_pass_whose_gradients_were_cleared_again_does_not_count() -> None:
    loop = Loop()
    with loop.probe():
        for x, y in batches(2):
            attacked = x.clone().requires_grad_()
            loop.loss_of(attacked, y).backward()
            loop.optimizer.zero_grad()
            loop.step(x, y)
    assert [step.loss for step in loop.sink.steps] == loop.losses
    assert loop.sink.steps[0].stray_leaves == ()


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("unscale", [False, True])
@pytest.mark.parametrize("clip", [None, 1e-3])
def test_scaler_and_clipping_are_taken_out_of_loss_and_norm(fused: bool, unscale: bool, clip: float | None) -> None:
    def made(**options: Any) -> Loop:
        model = mlp(dropout=0)
        return Loop(model, torch.optim.AdamW(model.parameters(), lr=1e-2, fused=fused), **options)

    plain, scaled = made(), made(scaler=scaler(), clip=clip, unscale=unscale)
    with plain.probe():
        plain.run(1)
    with scaled.probe():
        scaled.run(1)
    expected, step = plain.sink.steps[0], scaled.sink.steps[0]
    assert step.loss == expected.loss
    assert step.grad_norm == pytest.approx(expected.grad_norm, rel=1e-4)
    assert step.loss_scale == 2.0**10
    assert step.clipped_scaled is (None if clip is None else not unscale)


def test_clipping_by_value_is_seen_through_as_well() -> None:
    loop = Loop()
    with loop.probe():
        ((x, y),) = batches(1)
        loop.loss_of(x, y).backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in loop.model.parameters() if p.grad is not None]).item()
        torch.nn.utils.clip_grad_value_(loop.model.parameters(), 1e-4)
        loop.optimizer.step()
    assert loop.sink.steps[0].grad_norm == pytest.approx(norm)


@pytest.mark.parametrize("fused", [False, True])
def test_an_overflow_is_a_step_and_a_skipped_update(fused: bool) -> None:
    model = mlp()
    optimizer = torch.optim.AdamW(model.parameters(), fused=fused)
    loop = Loop(model, optimizer, scaler=scaler(2.0**30), dtype=FP16)
    with loop.probe() as probe:
        loop.run(20)
        facts = probe.epoch_facts()
    skipped = [update.skipped for update in loop.sink.updates]
    assert len(loop.sink.steps) == len(skipped) == 20
    assert skipped[0] and not skipped[-1]
    assert [not math.isfinite(step.grad_norm or 0) for step in loop.sink.steps] == skipped
    assert all(bool(step.non_finite) is skip for step, skip in zip(loop.sink.steps, skipped, strict=True))
    assert (facts["updates"], facts["skipped"]) == (skipped.count(False), skipped.count(True))
    assert all(update.unchanged is None for update in loop.sink.updates if update.skipped)


def test_nan_is_named_in_the_order_in_which_backward_reached_it() -> None:
    loop = Loop(nn.Sequential(nn.Linear(10, 8), nn.Linear(8, 8), nn.Linear(8, 4)))
    with loop.probe():
        x, y = batches(1)[0]
        loop.step(x, y)
        loop.step(x.fill_(math.nan), y)
    named = loop.sink.steps[1].non_finite
    assert named is not None
    assert {name.split(".")[0] for name in named[:2]} == {"2"}
    assert named[-1].startswith("0.") and len(named) == 6
    assert math.isnan(loop.sink.steps[1].loss or 0)
    assert loop.sink.updates[1].non_finite is not None and len(loop.sink.updates[1].non_finite) == 6


@pytest.mark.parametrize("what", ["vector", "weighted", "edge", "two"])
def test_what_is_no_scalar_has_no_loss(what: str) -> None:
    loop = Loop()
    with loop.probe():
        x, _ = batches(1)[0]
        out = loop.model(x)
        if what == "vector":
            out.backward(torch.ones_like(out))
        elif what == "weighted":
            out.sum().backward(torch.tensor(2.0))
        elif what == "edge":
            torch.autograd.backward(torch.autograd.graph.get_gradient_edge(out.sum()))
        else:
            torch.autograd.backward((out.sum(), out.mean()))
        loop.optimizer.step()
    (step,) = loop.sink.steps
    expected = (out.sum() + out.mean()).item()
    assert step.loss == (pytest.approx(expected, abs=1e-5) if what == "two" else None)
    assert step.grad_norm is not None and step.grad_norm > 0


class Detached(nn.Module):
    """Cuts its first layer off, and has a layer that is in no parameters()."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(10, 16)
        self.last = nn.Linear(16, 4)
        self.hidden = [nn.Linear(16, 16)]

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.hidden[0](self.first(x).detach()).relu())  # type: ignore[no-any-return]


@pytest.mark.parametrize("frozen", [(), ("first",)], ids=["", "declared"])
def test_severed_parameters_and_strays_are_found(frozen: tuple[str, ...]) -> None:
    loop = Loop(Detached())
    with loop.probe(Declared(frozen=frozen)):
        loop.run(2)
    step = loop.sink.steps[0]
    assert step.missing_grad == (() if frozen else ("first.weight", "first.bias"))
    assert step.stray_leaves is not None
    assert sorted(step.stray_leaves) == ["[16, 16] into AddmmBackward0", "[16] into AddmmBackward0"]
    assert loop.sink.steps[1].stray_leaves == step.stray_leaves


def test_the_graph_is_looked_at_rarely_unless_something_is_found() -> None:
    healthy, stray = Loop(), Loop(Detached())
    for loop in (healthy, stray):
        with loop.probe():
            loop.run(5)
    assert [step.stray_leaves is not None for step in healthy.sink.steps] == [True, True, False, False, False]
    assert all(step.stray_leaves for step in stray.sink.steps)


def test_modes_are_those_of_the_forward_pass() -> None:
    loop = Loop()
    with loop.probe():
        x, y = batches(1)[0]
        loop.model.eval()
        loop.step(x, y)
        loop.model.train()
        loop.model[1].eval()
        loop.step(x, y)
        loop.model.train()
        loop.step(x, y)
    assert [step.root_in_eval for step in loop.sink.steps] == [True, False, False]
    assert [step.in_eval for step in loop.sink.steps] == [("1", "3"), ("1",), ()]


@pytest.mark.parametrize("how", ["kept", "none", "zeroed", "data zeroed"])
def test_gradients_left_from_the_update_before_are_found(how: str) -> None:
    loop = Loop()
    with loop.probe():
        for x, y in batches(3):
            loop.loss_of(x, y).backward()
            loop.optimizer.step()
            if how in ("none", "zeroed"):
                loop.optimizer.zero_grad(set_to_none=how == "none")
            elif how == "data zeroed":
                for parameter in loop.model.parameters():
                    parameter.grad.data.zero_()  # type: ignore[union-attr]
    stale = [bool(step.stale_gradients) for step in loop.sink.steps]
    assert stale == [False, how == "kept", how == "kept"]
    if how == "kept":
        assert "0.weight" in (loop.sink.steps[1].stale_gradients or ())


def test_what_a_loss_function_gets_is_looked_at_first_and_then_rarely() -> None:
    loop = Loop()
    loop.loss_of = lambda x, y: F.nll_loss(loop.model(x).softmax(1), target=y)  # type: ignore[method-assign]
    with loop.probe():
        loop.run(5)
    assert [step.loss_inputs is not None for step in loop.sink.steps] == [True, True, True, False, False]
    (seen,) = loop.sink.steps[0].loss_inputs or ()
    assert (seen.function, seen.input_shape, seen.target_shape) == ("nll_loss", (16, 4), (16,))
    assert seen.row_sums == pytest.approx((1, 1))
    assert seen.lowest is not None and seen.highest is not None and 0 < seen.lowest < seen.highest < 1


def test_the_flow_of_gradients_is_measured_now_and_then() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*(part for _ in range(12) for part in (nn.Linear(10, 10), nn.Sigmoid())), nn.Linear(10, 4))
    loop = Loop(model)
    with loop.probe():
        loop.run(10)
    assert [step.gradient_ratio is not None for step in loop.sink.steps] == [False] * 9 + [True]
    step = loop.sink.steps[-1]
    assert step.gradient_ratio is not None and step.gradient_ratio < 1e-4
    assert step.small_gradients == 1.0


def test_optimizers_with_backward_passes_of_their_own_have_a_stream_each() -> None:
    torch.manual_seed(0)
    parts = nn.ModuleDict({"generator": nn.Linear(4, 10), "critic": nn.Linear(10, 1)})
    generator, critic = parts["generator"], parts["critic"]
    optimizers = [torch.optim.Adam(generator.parameters(), 1e-3), torch.optim.Adam(critic.parameters(), 2e-3)]
    sink = Recorder()
    with TorchProbe(parts, optimizers, sink=sink):
        for x, _ in batches(3):
            made = generator(torch.randn(16, 4))
            optimizers[1].zero_grad()
            (critic(made.detach()).mean() - critic(x).mean()).backward()
            optimizers[1].step()
            optimizers[0].zero_grad()
            (-critic(made).mean()).backward()
            optimizers[0].step()
            sink.next_step += 1
    streams = [("", 2e-3), ("optimizer 1", 1e-3)] * 3
    assert [(step.stream, step.lr) for step in sink.steps] == streams
    assert [update.stream for update in sink.updates] == [stream for stream, _ in streams]
    assert [step.step for step in sink.steps] == [1, 1, 2, 2, 3, 3]
    assert all(step.missing_grad == () and step.root_in_eval is False for step in sink.steps)


def test_an_optimizer_that_steps_less_often_holds_up_nobody() -> None:
    model = mlp()
    both = [torch.optim.SGD(model[:4].parameters(), 0.1), torch.optim.SGD(model[4:].parameters(), 0.1)]
    sink = Recorder()
    with TorchProbe(model, both, sink=sink) as probe:
        for i, (x, y) in enumerate(batches(6)):
            F.cross_entropy(model(x), y).backward()
            both[0].step()
            if i % 2:
                both[1].step()
            for optimizer in both:
                optimizer.zero_grad()
            probe.settle()
            sink.next_step += 1
    assert [step.step for step in sink.steps] == [update.step for update in sink.updates] == [1, 2, 3, 4, 5, 6]


def test_an_optimizer_that_runs_the_backward_pass_itself_is_seen() -> None:
    model = nn.Linear(10, 4)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=5)
    sink = Recorder()
    x, y = batches(1)[0]

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss

    with TorchProbe(model, [optimizer], sink=sink):
        first = F.cross_entropy(model(x), y).item()
        optimizer.step(closure)
        optimizer.step(closure=closure)
    assert len(sink.steps) == len(sink.updates) == 2
    assert sink.steps[0].loss == first


# --- what it may do ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["adamw", "fused", "muon", "scaled", "sgd", "lbfgs"])
def test_a_skipped_update_moves_neither_weights_nor_moments(name: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 10, bias=False), nn.Linear(10, 4, bias=False))
    parameters = list(model.parameters())
    optimizer: torch.optim.Optimizer = {
        "adamw": lambda: torch.optim.AdamW(parameters),
        "fused": lambda: torch.optim.AdamW(parameters, fused=True),
        "muon": lambda: train.Muon(parameters, 0.01, 0.1, torch.float32),
        "scaled": lambda: torch.optim.AdamW(parameters),
        "sgd": lambda: torch.optim.SGD(parameters, 0.1, momentum=0.9),
        "lbfgs": lambda: torch.optim.LBFGS(parameters),
    }[name]()
    guard = scaler() if name == "scaled" else None
    sink = Recorder()
    with TorchProbe(model, [optimizer], sink=sink, scaler=guard) as probe:
        for i, (x, y) in enumerate(batches(3)):
            sink.before = lambda signal: probe.skip() if signal.step == 2 else None
            before = [parameter.detach().clone() for parameter in parameters]
            state = copy.deepcopy(optimizer.state_dict()) if name != "lbfgs" else None

            def closure(x: Tensor = x, y: Tensor = y) -> Tensor:
                optimizer.zero_grad()
                loss = F.cross_entropy(model(x), y)
                (guard.scale(loss) if guard else loss).backward()
                return loss

            if name == "lbfgs":
                optimizer.step(closure)
            else:
                closure()
                if guard:
                    guard.step(optimizer)
                    guard.update()
                else:
                    optimizer.step()
            moved = any(not torch.equal(old, new) for old, new in zip(before, parameters, strict=True))
            assert moved is (i != 1)
            if i == 1 and state is not None:
                assert_same(state, optimizer.state_dict())
            sink.next_step += 1
    assert [update.skipped for update in sink.updates] == [False, True, False]
    assert [id(p) for group in optimizer.param_groups for p in group["params"]] == [id(p) for p in parameters]
    assert probe.skips == 1


def assert_same(first: Any, second: Any) -> None:
    if isinstance(first, Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_same(first[key], second[key])
    elif isinstance(first, list | tuple):
        for a, b in zip(first, second, strict=True):
            assert_same(a, b)
    else:
        assert first == second


def test_both_optimizers_of_the_vit_leave_a_skipped_update_out() -> None:
    torch.manual_seed(0)
    model = train.ViT(VitModel(patch=2, dim=32, depth=1, heads=2), (8, 8, 1), 10)
    optimizers = train.optimizers_of(model, VitOptimizer(name="muon"), torch.device("cpu"))
    sink = Recorder()
    guard = scaler()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with TorchProbe(model, optimizers, sink=sink, scaler=guard) as probe:
        sink.before = lambda signal: probe.skip()
        guard.scale(F.cross_entropy(model(torch.randn(4, 8, 8, 1)), torch.arange(4))).backward()  # type: ignore[no-untyped-call]
        for optimizer in optimizers:  # as a loop does that clips nothing: the scaler unscales within step
            guard.step(optimizer)
        guard.update()
    assert_same(before, dict(model.state_dict()))
    assert [update.skipped for update in sink.updates] == [True]


def test_skipping_is_refused_when_no_update_is_about_to_be_done() -> None:
    with Loop().probe() as probe, pytest.raises(RuntimeError, match="no update"):
        probe.skip()


@pytest.mark.parametrize("own_clip", [None, 0.05])
def test_gradients_are_clipped_after_the_step_was_told(own_clip: float | None) -> None:
    model = nn.Linear(10, 4)
    loop = Loop(model, torch.optim.SGD(model.parameters(), lr=1.0), scaler=scaler(), clip=own_clip)
    with loop.probe() as probe:
        probe.clip(0.1)
        before = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
        loop.run(1)
        change = torch.nn.utils.parameters_to_vector(model.parameters()).detach() - before
    assert (loop.sink.steps[0].grad_norm or 0) > 0.2
    assert change.norm().item() == pytest.approx(own_clip or 0.1, rel=1e-4)


def test_gradients_are_cleared_after_updates_until_told_otherwise() -> None:
    loop = Loop()
    with loop.probe() as probe:
        for i, (x, y) in enumerate(batches(4)):
            probe.zero_after(i < 2)
            loop.loss_of(x, y).backward()
            loop.optimizer.step()
            assert all((parameter.grad is None) is (i < 2) for parameter in loop.model.parameters())
    assert [bool(step.stale_gradients) for step in loop.sink.steps] == [False, False, False, True]


def test_held_time_is_no_part_of_a_step() -> None:
    loop = Loop()
    with loop.probe() as probe:
        loop.run(1)
        probe.clock_shift(-100.0)
        loop.run(1)
    assert (loop.sink.steps[1].seconds or 0) > 100


# --- after an update --------------------------------------------------------------------------------------------------


def test_a_parameter_that_does_not_change_is_followed() -> None:
    model = mlp()
    optimizer = torch.optim.SGD(
        [{"params": model[:4].parameters()}, {"params": model[4:].parameters(), "lr": 0.0}], lr=0.1
    )
    loop = Loop(model, optimizer)
    with loop.probe():
        loop.run(4)
    for update in loop.sink.updates[1:]:
        found = {fact.name: fact for fact in update.unchanged or ()}
        assert "4.weight" in found and "0.weight" not in found
        assert found["4.weight"].lr == 0
        assert found["4.weight"].grad_max > 0
        assert found["4.weight"].weight_max == pytest.approx(model[4].weight.abs().max().item())


def test_all_parameters_have_their_turn() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(10, 10) for _ in range(20)))
    loop = Loop(model, torch.optim.SGD(model.parameters(), lr=0.0))
    looked: set[str] = set()
    with loop.probe():
        for x, y in batches(30):
            loop.step(x, y % 4)
            looked |= {fact.name for fact in loop.sink.updates[-1].unchanged or ()}
    assert looked == {name for name, _ in model.named_parameters()}


def test_the_ratio_is_that_of_the_change_to_the_weights() -> None:
    model = nn.Linear(10, 4)
    loop = Loop(model, torch.optim.SGD(model.parameters(), lr=0.5))
    with loop.probe():
        loop.run(4)
        before = model.weight.detach().clone()
        loop.run(1)
    expected = (model.weight.detach() - before).norm() / before.norm()
    assert [update.ratio is not None for update in loop.sink.updates] == [False] * 4 + [True]
    assert loop.sink.updates[-1].ratio == pytest.approx(expected.item(), rel=1e-5)


# --- preflight, epochs ------------------------------------------------------------------------------------------------


def test_parameters_that_no_optimizer_holds_are_named() -> None:
    model = mlp()
    model[1].requires_grad_(False)
    optimizer = torch.optim.SGD(model[4:].parameters(), 0.1)
    loop = Loop(model, optimizer)
    assert loop.probe().preflight().uncovered == ("0.weight", "0.bias")
    assert loop.probe(Declared(frozen=("0.*",))).preflight().uncovered == ()


def test_tied_parameters_are_covered_once() -> None:
    model = nn.Sequential(nn.Linear(10, 10), nn.Linear(10, 10))
    model[1].weight = model[0].weight
    loop = Loop(model, torch.optim.SGD(model.parameters(), 0.1))
    assert loop.probe().preflight().uncovered == ()


def test_units_that_are_never_active_are_counted() -> None:
    model = mlp(dropout=0)
    with torch.no_grad():
        model[4].bias[:8] = -1e3
    loop = Loop(model)
    with loop.probe() as probe:
        loop.run(5)
        first, second = probe.epoch_facts()["units"]
        assert probe.epoch_facts()["units"] is None
    assert (first.layer, first.units, first.samples) == ("2", 32, 80)
    assert (second.layer, second.units, second.dead) == ("5", 32, 8)
    assert second.zero_input is not None and 0.2 < second.zero_input < 0.8


SCHEDULERS: dict[str, Callable[[torch.optim.Optimizer], Any]] = {
    "step": lambda o: torch.optim.lr_scheduler.StepLR(o, 3),
    "plateau": lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o),
    "sequential": lambda o: torch.optim.lr_scheduler.SequentialLR(
        o,
        [torch.optim.lr_scheduler.LinearLR(o, total_iters=2), torch.optim.lr_scheduler.CosineAnnealingLR(o, 5)],
        milestones=[2],
    ),
    "chained": lambda o: torch.optim.lr_scheduler.ChainedScheduler(
        [torch.optim.lr_scheduler.LinearLR(o, total_iters=2), torch.optim.lr_scheduler.ExponentialLR(o, 0.9)]
    ),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_calls_of_a_scheduler_are_counted(name: str) -> None:
    loop = Loop()
    scheduler = SCHEDULERS[name](loop.optimizer)
    with loop.probe(scheduler=scheduler) as probe:
        for calls in (3, 0, 4):
            for x, y in batches(calls):
                loop.step(x, y)
                scheduler.step(*([1.0] if name == "plateau" else []))
            assert probe.epoch_facts()["scheduler_calls"] == calls


# --- evaluation -------------------------------------------------------------------------------------------------------


def evaluated(probe: TorchProbe, model: nn.Module, inputs: list[Tensor], split: str = "val") -> dict[str, Any]:
    with probe.evaluation(split) as seen, torch.no_grad():
        for x in inputs:
            model(x)
    return seen.facts()


def test_an_evaluation_in_training_mode_is_seen_through_and_put_right() -> None:
    loop = Loop()
    inputs = [x for x, _ in batches(3)]
    with loop.probe() as probe:
        before = {name: buffer.clone() for name, buffer in loop.model.named_buffers()}
        torch.manual_seed(3)
        with probe.evaluation("val") as seen, torch.inference_mode():
            outputs = [loop.model(x) for x in inputs]
        facts = seen.facts()
        assert facts["in_training"] == ("1", "3")
        assert facts["buffers_changed"] == ("1.running_mean", "1.running_var", "1.num_batches_tracked")
        assert facts["repeat_difference"] > 0.01
        assert seen.restore_buffers() == facts["buffers_changed"]
        assert_same(before, dict(loop.model.named_buffers()))
    torch.manual_seed(3)
    with torch.inference_mode():
        assert_same(outputs, [loop.model(x) for x in inputs])


def test_an_evaluation_in_its_mode_has_nothing_to_hide() -> None:
    loop = Loop()
    loop.model.eval()
    with loop.probe() as probe:
        facts = evaluated(probe, loop.model, [x for x, _ in batches(3)])
    assert facts["in_training"] == facts["buffers_changed"] == ()
    assert facts["repeat_difference"] == 0.0


def test_declared_randomness_is_left_out() -> None:
    loop = Loop()
    with loop.probe(Declared(stochastic=("3",))) as probe:
        facts = evaluated(probe, loop.model, [batches(1)[0][0]])
    assert facts["in_training"] == ("1",)
    assert facts["repeat_difference"] is None


def test_what_no_forward_pass_showed_is_not_told() -> None:
    with Loop().probe() as probe, probe.evaluation("val") as seen:
        pass
    assert seen.facts() == {
        "in_training": None,
        "buffers_changed": (),
        "input_digest": None,
        "repeat_difference": None,
    }


class Counting(nn.Module):
    """Keeps a state of its own, as recurrent models do, and writes into its input."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.layer = nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.layer(x.mul_(2))  # type: ignore[no-any-return]


def test_the_second_pass_leaves_no_trace() -> None:
    model = Counting()
    loop = Loop(model)
    with loop.probe() as probe:
        facts = evaluated(probe, model, [x.clone() for x, _ in batches(3)])
    assert model.calls == 3
    assert facts["repeat_difference"] == 0.0


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16, torch.uint8, torch.int64], ids=str)
def test_a_digest_is_that_of_the_rows_whatever_their_order(kind: torch.dtype) -> None:
    rows = (torch.rand(40, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 200).to(kind)
    model = nn.Identity()
    loop = Loop(model, torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1))
    with loop.probe() as probe:

        def digest(x: Tensor, batch: int) -> str:
            return str(evaluated(probe, model, list(x.split(batch)))["input_digest"])

        first = digest(rows, 16)
        assert digest(rows[torch.randperm(40)], 7) == first
        changed = rows.clone()
        changed[3, 0, 0, 0] += 1
        assert digest(changed, 16) != first
        flipped = rows.clone()
        flipped[5] = flipped[5].flip(-1)
        assert digest(flipped, 16) != first
        assert digest(rows[:39], 16) != first


def test_an_evaluation_is_no_part_of_a_step_and_shows_no_training_mode() -> None:
    loop = Loop()
    with loop.probe() as probe:
        loop.run(1)
        with probe.evaluation("val"):
            loop.model.eval()
            loop.model(batches(1)[0][0])
            loop.model.train()
        loop.run(1)
    assert loop.sink.steps[1].in_eval == ()


# --- its cost in memory -----------------------------------------------------------------------------------------------


def test_it_keeps_no_graph_and_no_gradient_alive() -> None:
    loop = Loop()
    with loop.probe():
        loop.run(3)
        gc.collect()
        alive = [x for x in gc.get_objects() if issubclass(type(x), Tensor) and x.grad_fn is not None]
    assert alive == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_on_a_gpu_a_step_waits_for_the_device_once() -> None:
    model = mlp().cuda()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    data = [(x.cuda(), y.cuda()) for x, y in batches(30)]
    sink = Recorder()
    with TorchProbe(model, [optimizer], sink=sink):
        for x, y in data:
            F.cross_entropy(model(x), y).backward()
            with torch.profiler.profile() as profile:
                optimizer.step()
            optimizer.zero_grad()
            sink.next_step += 1
            waits = [event for event in profile.events() if "Memcpy DtoH" in event.name]
            assert len(waits) <= 1
    assert [update.ratio is not None for update in sink.updates][5]
    assert all(step.loss is not None for step in sink.steps)
