"""What can be done to live torch objects: every effect on real models, read back."""

import copy
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs.errors import StorageError
from configs.schema import VitModel, VitOptimizer
from engine import checkpoints
from engine.controls import ActionFailed
from engine.probes.torch import TorchProbe
from engine.probes.torch_controls import TorchControls
from engine.workloads.vit import train
from norms.actions import ACTIONS
from tests.engine.torch_runs import Loop, Recorder, batches, mlp

CPU = torch.device("cpu")


class Controlled:
    """A loop with a probe and controls."""

    def __init__(
        self, loop: Loop | None = None, scheduler: Callable[[torch.optim.Optimizer], Any] | None = None
    ) -> None:
        self.loop = loop or Loop()
        self.scheduler = scheduler(self.loop.optimizer) if scheduler else None
        self.probe = self.loop.probe(scheduler=self.scheduler)
        self.controls = TorchControls(
            self.loop.model, [self.loop.optimizer], self.loop.scaler, self.scheduler, self.probe
        )

    def __enter__(self) -> "Controlled":
        self.probe.install()
        return self

    def __exit__(self, *_: object) -> None:
        self.probe.remove()
        self.controls.close()

    def do(self, action: str, **params: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        effect = self.controls.handlers()[action](params)
        assert effect.keys() == {"before", "after"}
        return effect["before"], effect["after"]


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """Some actions are for the whole process; other tests share this one."""
    benchmark, deterministic = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = benchmark, deterministic


def weights(model: nn.Module) -> Tensor:
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach().clone()


def test_every_handler_is_that_of_a_known_action() -> None:
    assert Controlled().controls.handlers().keys() <= ACTIONS.keys()


# --- actions ----------------------------------------------------------------------------------------------------------


def test_an_update_is_left_out() -> None:
    with Controlled() as run:
        effects = []
        run.loop.sink.before = lambda signal: effects.append(run.do("skip_step"))
        before = weights(run.loop.model)
        run.loop.run(1)
        assert torch.equal(before, weights(run.loop.model))
        assert effects == [({"left_out": 0}, {"left_out": 1})]
        with pytest.raises(ActionFailed, match="no update is about to be done"):
            run.do("skip_step")


def dtype_of_a_product() -> torch.dtype:
    with torch.autocast("cpu", torch.bfloat16):
        return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype


@pytest.mark.parametrize("fused", [False, True])
def test_autocast_and_scaler_end_while_an_update_is_decided_on(fused: bool) -> None:
    model = mlp()
    loop = Loop(
        model,
        torch.optim.AdamW(model.parameters(), fused=fused),
        scaler=torch.amp.GradScaler("cpu", init_scale=2.0**10),
        dtype=torch.float16,
    )
    with Controlled(loop) as run:
        effects = []
        run.loop.sink.before = lambda signal: effects.append(run.do("amp_off")) if signal.step == 2 else None
        loop.run(4)
        assert dtype_of_a_product() is torch.float32
        before, after = effects[0]
        assert before == {"autocast": "on", "loss_scale": 2.0**10}
        assert after == {"autocast": "off", "loss_scale": 2.0**10, "scaler": "ends with this update"}
        assert not loop.scaler.is_enabled()
        assert [step.loss_scale for step in loop.sink.steps] == [2.0**10, 2.0**10, None, None]
        norms = [step.grad_norm or 0 for step in loop.sink.steps]
        assert max(norms) < 3 * min(norms)
        assert [update.skipped for update in loop.sink.updates] == [False] * 4
        assert run.do("amp_off")[1] == {"autocast": "off", "loss_scale": None}
    assert dtype_of_a_product() is torch.bfloat16


def test_between_two_updates_the_scaler_ends_at_once() -> None:
    loop = Loop(scaler=torch.amp.GradScaler("cpu", init_scale=2.0**10), dtype=torch.float16)
    with Controlled(loop) as run:
        loop.run(1)
        assert run.do("amp_off")[1] == {"autocast": "off", "loss_scale": None}
        loop.run(1)
    assert loop.sink.steps[1].loss_scale is None


def test_a_compiled_step_falls_back_to_eager() -> None:
    loop = Loop(mlp(dropout=0), dtype=torch.bfloat16)
    seen = []
    loop.model[0].register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    with Controlled(loop) as run:
        loop.loss_of = torch.compile(loop.loss_of, backend="aot_eager")  # type: ignore[method-assign]
        loop.run(1)
        run.do("amp_off")
        seen.clear()
        loop.run(1)
    torch.compiler.reset()
    assert seen == [torch.float32]
    assert loop.sink.steps[1].root_in_eval is False


SCHEDULERS: dict[str, Callable[[torch.optim.Optimizer], Any]] = {
    "none": lambda o: None,
    "cosine": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 20, eta_min=1e-3),
    "lambda": lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda n: 1 / (n + 1)),
    "one cycle": lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=20),
    "steps": lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [3, 7]),
    "sequential": lambda o: torch.optim.lr_scheduler.SequentialLR(
        o,
        [torch.optim.lr_scheduler.LinearLR(o, total_iters=6), torch.optim.lr_scheduler.CosineAnnealingLR(o, 14)],
        milestones=[6],
    ),
}


def rates(scheduler: str, factor: float) -> list[float]:
    with Controlled(scheduler=SCHEDULERS[scheduler]) as run:
        found = []
        for i, (x, y) in enumerate(batches(15)):
            if i == 4:
                run.do("set_lr", factor=factor)
            run.loop.step(x, y)
            if run.scheduler is not None:
                run.scheduler.step()
            found.append(run.loop.optimizer.param_groups[0]["lr"])
    return found


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_the_schedule_goes_with_the_learning_rate(scheduler: str) -> None:
    as_planned, halved = rates(scheduler, 1.0), rates(scheduler, 0.5)
    assert halved[:4] == as_planned[:4]
    assert halved[4:] == pytest.approx([rate / 2 for rate in as_planned[4:]])


def test_the_other_groups_keep_their_ratio_to_the_first() -> None:
    model = mlp()
    groups = [{"params": model[:4].parameters()}, {"params": model[4:].parameters(), "lr": 0.3}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    for group in optimizer.param_groups:
        group["peak_lr"] = 2 * group["lr"]
    with Controlled(Loop(model, optimizer)) as run:
        before, after = run.do("set_lr", lr=0.2)
    assert before == {"lr": 0.1, "lrs": [0.1, 0.3]}
    assert after["lrs"] == pytest.approx([0.2, 0.6])
    assert [group["peak_lr"] for group in optimizer.param_groups] == pytest.approx([0.4, 1.2])


def test_a_learning_rate_of_zero_has_no_ratio_to_keep() -> None:
    model = mlp()
    with (
        Controlled(Loop(model, torch.optim.SGD(model.parameters(), lr=0.0))) as run,
        pytest.raises(ActionFailed, match="give factor instead"),
    ):
        run.do("set_lr", lr=0.2)


def test_gradients_are_clipped_from_now_on() -> None:
    model = nn.Linear(10, 4)
    loop = Loop(model, torch.optim.SGD(model.parameters(), lr=1.0))
    with Controlled(loop) as run:
        assert run.do("clip_gradients", max_norm=0.1) == ({"max_norm": None}, {"max_norm": 0.1})
        before = weights(model)
        loop.run(1)
    assert (weights(model) - before).norm().item() == pytest.approx(0.1, rel=1e-4)


def test_gradients_are_cleared_now_and_after_every_update() -> None:
    loop = Loop()
    with Controlled(loop) as run:
        (x, y), *_ = batches(1)
        loop.loss_of(x, y).backward()
        before, after = run.do("zero_gradients")
        assert before == {"gradients": 8, "after_each_update": False}
        assert after == {"gradients": 0, "after_each_update": True}
        for _ in range(3):
            loop.loss_of(x, y).backward()
            loop.optimizer.step()
    assert not any(step.stale_gradients for step in loop.sink.steps)


def test_stale_gradients_that_an_update_is_decided_on_are_dropped_with_it() -> None:
    model = nn.Linear(10, 10, bias=False)
    optimizer = train.Muon(model.parameters(), 0.1, 0.0, torch.float32)  # insists on a gradient for each matrix
    loop = Loop(model, optimizer)
    with Controlled(loop) as run:
        run.loop.sink.before = lambda signal: run.do("zero_gradients") if signal.stale_gradients else None
        x, y = batches(1)[0]
        for _ in range(4):
            loop.loss_of(x, y).backward()
            optimizer.step()
    assert [update.skipped for update in loop.sink.updates] == [False, True, False, False]


@pytest.mark.parametrize("modules", [None, ["1"]])
def test_modules_change_their_mode(modules: list[str] | None) -> None:
    with Controlled() as run:
        run.loop.model.eval()
        before, after = run.do("set_mode", mode="train", **({"modules": modules} if modules else {}))
        assert before == {"model": "eval", "modules": dict.fromkeys(modules or ["1", "3"], "eval")}
        assert after == {
            "model": "eval" if modules else "train",
            "modules": dict.fromkeys(modules or ["1", "3"], "train"),
        }
        assert run.loop.model[3].training is (modules is None)
        with pytest.raises(ActionFailed, match="no module 'nowhere'"):
            run.do("set_mode", mode="eval", modules=["nowhere"])


@pytest.mark.parametrize("scheduler", ["none", "cosine"])
def test_forgotten_parameters_join_the_group_of_their_kind(scheduler: str) -> None:
    model = mlp()
    optimizer = torch.optim.AdamW(
        [{"params": [model[6].weight]}, {"params": [model[6].bias], "weight_decay": 0.0}], lr=1e-2
    )
    with Controlled(Loop(model, optimizer), SCHEDULERS[scheduler]) as run:
        run.loop.run(2)
        assert model[0].weight.grad is not None
        names = [name for name, _ in model.named_parameters()]
        before, after = run.do("add_parameters", names=names)
        assert (before["uncovered"], after["uncovered"]) == (names[:-2], [])
        assert model[0].weight.grad is None
        assert {p.ndim for p in optimizer.param_groups[0]["params"]} == {2}
        assert {p.ndim for p in optimizer.param_groups[1]["params"]} == {1}
        old = weights(model[:6])
        run.loop.run(2)
        if run.scheduler is not None:
            run.scheduler.step()
        assert not torch.equal(old, weights(model[:6]))
        assert run.loop.sink.steps[-1].missing_grad == ()


def test_vectors_never_join_an_optimizer_for_matrices() -> None:
    model = train.ViT(VitModel(patch=2, dim=32, depth=1, heads=2), (8, 8, 1), 10)
    muon = train.Muon([model.head.weight], 0.01, 0.0, torch.float32)
    adamw = torch.optim.AdamW([{"params": [model.embed.weight]}, {"params": [model.embed.bias]}])
    probe = TorchProbe(model, [muon, adamw], sink=Recorder())
    controls = TorchControls(model, [muon, adamw], None, None, probe)
    controls.handlers()["add_parameters"]({"names": ["head.bias", "blocks.0.attention.out.weight"]})
    assert [p.ndim for p in muon.param_groups[0]["params"]] == [2, 2]
    assert any(p is model.head.bias for p in adamw.param_groups[1]["params"])
    alone = TorchControls(model, [muon], None, None, probe)
    with pytest.raises(ActionFailed, match=r"norm\.bias of shape \[32\]"):
        alone.handlers()["add_parameters"]({"names": ["norm.bias"]})
    with pytest.raises(ActionFailed, match="no parameter 'nowhere'"):
        alone.handlers()["add_parameters"]({"names": ["nowhere"]})


def test_deterministic_algorithms_are_used_from_now_on() -> None:
    with Controlled() as run:
        before, after = run.do("enable_determinism")
    assert (before["deterministic_algorithms"], after["deterministic_algorithms"]) == (False, True)
    assert torch.are_deterministic_algorithms_enabled()


# --- state ------------------------------------------------------------------------------------------------------------


def drawn() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), torch.rand(1).item()


STATES: dict[str, Callable[[], Controlled]] = {
    "plain": Controlled,
    "scaled": lambda: Controlled(Loop(scaler=torch.amp.GradScaler("cpu", growth_interval=3), dtype=torch.float16)),
    "fused": lambda: Controlled(of(lambda p: torch.optim.AdamW(p, fused=True, amsgrad=True))),
    "momentum": lambda: Controlled(of(lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9))),
    "half precision": lambda: Controlled(half()),
} | {f"scheduler {name}": lambda make=make: Controlled(scheduler=make) for name, make in SCHEDULERS.items()}  # type: ignore[misc]


def of(make: Callable[[Any], torch.optim.Optimizer]) -> Loop:
    model = mlp()
    return Loop(model, make(model.parameters()))


def half() -> Loop:
    """Weights in bf16, and an optimizer that keeps its averages in fp32."""
    model = mlp().bfloat16()
    loop = Loop(model, Averaged(model.parameters()))
    loop.loss_of = lambda x, y: F.cross_entropy(model(x.bfloat16()).float(), y)  # type: ignore[method-assign]
    return loop


class Averaged(torch.optim.Optimizer):
    def __init__(self, params: Any) -> None:
        super().__init__(params, {"lr": 0.05})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                average = state.setdefault("average", torch.zeros_like(parameter, dtype=torch.float32))
                average.lerp_(parameter.grad.float(), 0.1)
                parameter.sub_((average * group["lr"]).to(parameter.dtype))


@pytest.mark.parametrize("name", STATES)
def test_steps_after_going_back_are_the_same_bit_for_bit(name: str, tmp_path: Path) -> None:
    with STATES[name]() as run:

        def train_on(data: list[tuple[Tensor, Tensor]]) -> tuple[list[float], Tensor, Any]:
            run.loop.losses.clear()
            for x, y in data:
                run.loop.step(x, y)
                if run.scheduler is not None:
                    run.scheduler.step()
            return list(run.loop.losses), weights(run.loop.model), drawn()

        data = batches(12)
        train_on(data[:5])
        state = run.controls.state()
        saved = checkpoints.save(tmp_path / "checkpoints", state | {"sampler": {"batch": 5}}, 5, 0.5, ["last"])
        first = train_on(data[5:])
        run.controls.restore(state)
        second = train_on(data[5:])
        run.controls.restore(checkpoints.load(tmp_path / saved.path))
        third = train_on(data[5:])
    for losses, after, random_numbers in (second, third):
        assert losses == first[0]
        assert torch.equal(after, first[1])
        assert random_numbers == first[2]


def test_a_state_is_that_of_a_checkpoint_and_shares_no_tensor() -> None:
    with Controlled() as run:
        run.loop.run(2)
        state = run.controls.state()
        before = copy.deepcopy(state["model"])
        assert (state | {"sampler": {}}).keys() == set(checkpoints.CONTENTS)
        run.loop.run(2)
    assert all(torch.equal(tensor, state["model"][name]) for name, tensor in before.items())


def test_going_back_to_before_parameters_were_added_keeps_them() -> None:
    model = mlp()
    optimizer = torch.optim.AdamW(model[4:].parameters(), lr=1e-2)
    with Controlled(Loop(model, optimizer)) as run:
        run.loop.run(3)
        state = run.controls.state()
        run.do("add_parameters", names=["0.weight"])
        run.loop.run(3)
        run.controls.restore(state)
        held = optimizer.param_groups[0]["params"]
        assert any(parameter is model[0].weight for parameter in held)
        assert model[0].weight not in optimizer.state
        assert optimizer.state[model[4].weight]["step"] == 3
        run.loop.run(1)
        assert optimizer.state[model[0].weight]["step"] == 1


def test_the_state_of_another_run_is_refused() -> None:
    with Controlled() as run:
        state = run.controls.state()
        state["model"] = nn.Linear(3, 3).state_dict()
        with pytest.raises(ActionFailed, match="does not fit the run"):
            run.controls.restore(state)
        with pytest.raises(ActionFailed, match="that of 2 optimizers, and there are 1"):
            run.controls.restore(state | {"optimizers": state["optimizers"] * 2})


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_the_vit_goes_back_bit_for_bit(name: str) -> None:
    torch.manual_seed(0)
    model = train.ViT(VitModel(patch=2, dim=32, depth=2, heads=2), (8, 8, 1), 10)
    optimizers = train.optimizers_of(model, VitOptimizer(name=name), CPU)  # type: ignore[arg-type]
    probe = TorchProbe(model, optimizers, sink=Recorder())
    controls = TorchControls(model, optimizers, None, None, probe)

    def steps(count: int) -> list[float]:
        losses = []
        for _ in range(count):
            loss = F.cross_entropy(model(torch.randn(16, 8, 8, 1)), torch.randint(0, 10, (16,)))
            loss.backward()  # type: ignore[no-untyped-call]
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
            losses.append(loss.item())
        return losses

    with probe:
        steps(3)
        state = controls.state()
        first = steps(4)
        controls.restore(state)
        assert steps(4) == first


# --- the loader -------------------------------------------------------------------------------------------------------


def saved(folder: Path, **state: Any) -> Path:
    folder.mkdir(exist_ok=True)
    whole: dict[str, Any] = {name: {} for name in checkpoints.CONTENTS} | {"model": {"weight": torch.ones(3)}} | state
    whole = {name: value for name, value in whole.items() if value is not None}
    return folder / checkpoints.save(folder / "checkpoints", whole, 1, None, ["last"]).path


def test_a_whole_checkpoint_is_loaded(tmp_path: Path) -> None:
    state = checkpoints.load(saved(tmp_path))
    assert state.keys() == set(checkpoints.CONTENTS)
    assert torch.equal(state["model"]["weight"], torch.ones(3))


def test_damaged_incomplete_and_foreign_checkpoints_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="lacks rng"):
        checkpoints.load(saved(tmp_path, rng=None))
    damaged = saved(tmp_path / "damaged")
    content = bytearray((damaged / checkpoints.STATE).read_bytes())
    content[len(content) // 2] ^= 1
    (damaged / checkpoints.STATE).write_bytes(content)
    with pytest.raises(StorageError, match="does not have the SHA-256"):
        checkpoints.load(damaged)
    with pytest.raises(StorageError, match="cannot be read"):
        checkpoints.load(tmp_path / "nowhere")
    with pytest.raises(StorageError, match="does not hold a checkpoint"):
        checkpoints.decode_state(b"something else")


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("evil"),))


def test_no_code_in_a_checkpoint_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = saved(tmp_path, sampler={"evil": Evil()})
    with pytest.raises(StorageError, match="does not hold a checkpoint"):
        checkpoints.load(folder)
    assert not (tmp_path / "evil").exists()
