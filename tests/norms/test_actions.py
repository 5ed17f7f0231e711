"""The table of actions: what it takes, and what it refuses in one sentence."""

from typing import Any

import pytest

from configs.errors import ConfigError
from norms.actions import ACTIONS, action_spec, check_params

NAMES = [
    "skip_step", "amp_off", "set_lr", "clip_gradients", "roll_back", "set_mode", "swap_eval_transform",
    "add_parameters", "zero_gradients", "reseed_restart", "enable_determinism", "save_again", "drop_column",
    "launch_seeds", "halve_batch", "checkpoint_now", "pause", "resume", "stop", "mute",
]  # fmt: skip


def test_the_actions_are_those_that_runs_carry_out() -> None:
    assert list(ACTIONS) == NAMES


def test_what_loses_work_or_spends_it_cannot_be_undone() -> None:
    assert {spec.name for spec in ACTIONS.values() if not spec.reversible} == {
        "reseed_restart",
        "drop_column",
        "launch_seeds",
        "stop",
    }


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("stop", {}),
        ("set_lr", {"factor": 0.5}),
        ("set_lr", {"lr": 1}),
        ("roll_back", {"steps": 100, "skip_batches": True}),
        ("set_mode", {"mode": "eval", "modules": ["bn1"]}),
        ("drop_column", {"columns": ["duration"]}),
        ("mute", {"norm": "spike", "reason": "known"}),
        ("reseed_restart", {"seed": 0}),
    ],
)
def test_good_parameters_pass(name: str, params: dict[str, Any]) -> None:
    check_params(name, params)


@pytest.mark.parametrize(
    ("name", "params", "said"),
    [
        ("set_lrs", {}, "did you mean 'set_lr'"),
        ("pray", {}, "the actions are skip_step"),
        ("stop", {"now": True}, "has no parameter 'now'; it takes none"),
        ("set_lr", {}, "exactly one of factor, lr"),
        ("set_lr", {"factor": 0.5, "lr": 1e-3}, "exactly one of"),
        ("set_lr", {"factor": 0}, "a number above 0 up to 1000"),
        ("set_lr", {"lr": float("nan")}, "a number above 0"),
        ("set_lr", {"lr": True}, "a number above 0"),
        ("set_lr", {"lr": "1e-3"}, "a number above 0"),
        ("clip_gradients", {}, "needs max_norm"),
        ("roll_back", {"steps": 1.5}, "a whole number from 0"),
        ("roll_back", {"skip_batches": 1}, "true or false"),
        ("set_mode", {"mode": "test"}, "train or eval"),
        ("drop_column", {"columns": []}, "a list of names"),
        ("drop_column", {"columns": "duration"}, "a list of names"),
        ("launch_seeds", {"count": 1000}, "from 1 up to 100"),
        ("mute", {"norm": "spike"}, "needs reason"),
        ("mute", {"norm": "spike", "reason": ""}, "allowed is text"),
    ],
)
def test_bad_parameters_are_refused(name: str, params: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_params(name, params)


def test_a_remedy_may_take_what_is_required_from_the_evidence() -> None:
    check_params("drop_column", {}, complete=False)
    assert action_spec("drop_column").params["columns"].required
