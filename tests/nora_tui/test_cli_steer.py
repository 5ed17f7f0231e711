"""decide, tell, pause, resume and note over prepared sessions; where a run must answer, a thread writes its events."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from nora_tui import clock
from nora_tui.cli import app
from nora_tui.cli.parameters import parsed
from sessions import events
from sessions.events import AnyEvent
from sessions.log import EventLog
from sessions.paths import SessionPaths
from sessions.requests import AnyRequest, Command, Decide, WriteNote, decode_request
from tests.nora_tui.made import alive, started, write

ESCAPE = "\x1b[31m"


def violation(number: int, norm: str = "non-finite", severity: events.Severity = "critical") -> events.ViolationFound:
    return events.ViolationFound(
        id=f"v{number}", norm=norm, category="stability", severity=severity, step=5, message="the loss is nan"
    )


def proposal(number: int, action: str = "skip_step", **params: Any) -> events.Proposal:
    return events.Proposal(
        id=f"p{number}",
        violations=[f"v{number}"],
        action=action,
        params=params,
        alternatives=[events.Alternative(action="set_lr", params={"factor": 0.5}, reversible=True)],
        hold="pause",
        deadline=clock.now() + timedelta(minutes=10),
        on_timeout="stop",
    )


def resolution(number: int, **changes: Any) -> events.Resolution:
    fields = {"verdict": "approved", "action": "skip_step", "by": "ann", "via": "cli"} | changes
    return events.Resolution(proposal=f"p{number}", **fields)


def session(runs: Path, *happenings: AnyEvent, name: str = "one") -> SessionPaths:
    timed = [(0.1 * at, event) for at, event in enumerate([started(name), *happenings])]
    return alive(write(runs / name, timed))


def nora(runs: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--runs-dir", str(runs)])


def asked(paths: SessionPaths) -> list[AnyRequest]:
    return (
        [decode_request(line) for line in paths.requests.read_bytes().splitlines()] if paths.requests.exists() else []
    )


@contextmanager
def answering(paths: SessionPaths, answer: Callable[[Any], list[AnyEvent]]) -> Iterator[None]:
    """Write what ``answer`` makes of the first request, as the run would at the end of its step."""

    def work() -> None:
        until = time.monotonic() + 30
        while not (requests := asked(paths)) and time.monotonic() < until:
            time.sleep(0.01)
        log = EventLog(paths.events)
        for event in answer(requests[0]):
            log.append(event)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield
    finally:
        worker.join()


WAITING = (violation(1), proposal(1))
TWO = (*WAITING, violation(2, "spike"), proposal(2, "set_lr", factor=0.5))
DECIDED = (*WAITING, resolution(1))


@pytest.mark.parametrize(
    ("happenings", "arguments", "sentence"),
    [
        pytest.param((), ["approve"], "no proposal waits in one; there is nothing to decide", id="nothing-waits"),
        pytest.param(WAITING, ["p9", "approve"], "no proposal 'p9' in one; waiting: p1 (skip_step)", id="unknown"),
        pytest.param((), ["p9", "approve"], "no proposal 'p9' in one, and none waits", id="unknown-none-waits"),
        pytest.param(TWO, ["approve"], "2 proposals wait in one: p1 (skip_step), p2 (set_lr factor=0.5)", id="which"),
        pytest.param(DECIDED, ["p1", "approve"], "p1 is decided already: approved by ann", id="decided"),
        pytest.param(
            (*WAITING, resolution(1, verdict="timed_out", by="strict asks", via="policy")),
            ["p1", "reject"],
            "p1 is decided already: timed out (strict asks)",
            id="timed-out",
        ),
        pytest.param(
            WAITING, ["aprove"], "'aprove' is no verdict: allowed is approve, override, reject; did", id="typo"
        ),
        pytest.param(WAITING, ["p1", "p2", "approve"], "'p1 p2 approve' is too much", id="too-much"),
        pytest.param(
            WAITING, ["override"], "override needs --action with another action, or --set", id="override-bare"
        ),
        pytest.param(
            WAITING, ["approve", "--action", "stop"], "approve takes neither --action nor --set", id="approve"
        ),
        pytest.param(WAITING, ["reject", "--set", "a=1"], "reject takes neither --action nor --set", id="reject-set"),
        pytest.param(
            WAITING,
            ["override", "--action", "set_lr", "--set", "factor=0"],
            "action set_lr: factor=0 is not possible; allowed is a number above 0 up to 1000",
            id="range",
        ),
        pytest.param(
            WAITING,
            ["override", "--action", "set_lr", "--set", "lr=0.1"],
            "action set_lr needs exactly one of factor, lr",
            id="on-top-of-what-is-offered",
        ),
        pytest.param(
            WAITING, ["override", "--action", "skip"], "no action 'skip'; did you mean 'skip_step'?", id="act"
        ),
        pytest.param(
            WAITING,
            ["override", "--set", "x=1"],
            "action skip_step has no parameter 'x'; it takes none",
            id="parameter",
        ),
        pytest.param(WAITING, ["override", "--set", "x"], "--set x: write --set name=value", id="no-value"),
        pytest.param(
            (violation(1), proposal(1, "none")), ["approve"], "p1 recommends nothing that could be approved", id="none"
        ),
        pytest.param(
            (violation(1), proposal(1, "none")), ["override", "--set", "a=1"], "name one with --action", id="none-set"
        ),
        pytest.param(
            (*WAITING, events.RunFinished(status="completed", reason="", exit_code=0)),
            ["approve"],
            "one has ended already (completed); there is nothing to decide",
            id="ended",
        ),
    ],
)
def test_a_verdict_that_cannot_be_is_refused_before_it_is_asked(
    tmp_path: Path, happenings: tuple[AnyEvent, ...], arguments: list[str], sentence: str
) -> None:
    paths = session(tmp_path, *happenings)
    done = nora(tmp_path, "decide", "one", *arguments)
    assert (done.exit_code, done.stdout, asked(paths)) == (2, "", [])
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(["approve"], {"verdict": "approve", "action": None, "params": {}}, id="approve"),
        pytest.param(["p1", "reject", "--reason", "a fluke"], {"verdict": "reject", "reason": "a fluke"}, id="reject"),
        pytest.param(["approve", "--always"], {"verdict": "approve", "always": True}, id="always"),
        pytest.param(
            ["override", "--action", "set_lr"], {"action": "set_lr", "params": {"factor": 0.5}}, id="as-it-was-offered"
        ),
        pytest.param(
            ["p1", "override", "--action", "set_lr", "--set", "factor=1e-1"],
            {"verdict": "override", "action": "set_lr", "params": {"factor": 0.1}},
            id="other-parameters",
        ),
        pytest.param(
            ["override", "--action", "roll_back", "--set", "steps=10", "--set", "skip_batches=true"],
            {"action": "roll_back", "params": {"steps": 10, "skip_batches": True}},
            id="not-offered",
        ),
    ],
)
def test_a_verdict_is_asked_of_the_run_as_it_was_meant(
    tmp_path: Path, arguments: list[str], expected: dict[str, Any]
) -> None:
    paths = session(tmp_path, *WAITING)
    done = nora(tmp_path, "decide", "on", *arguments, "--no-wait")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "one was asked to" in done.stdout
    (request,) = asked(paths)
    assert isinstance(request, Decide)
    assert (request.proposal, request.via) == ("p1", "cli")
    assert {name: getattr(request, name) for name in expected} == expected


def test_an_override_without_an_action_sends_only_the_parameters_that_change(tmp_path: Path) -> None:
    paths = session(tmp_path, *TWO)
    assert nora(tmp_path, "decide", "one", "p2", "override", "--set", "factor=0.25", "--no-wait").exit_code == 0
    (request,) = asked(paths)
    assert isinstance(request, Decide)
    assert (request.action, request.params) == (None, {"factor": 0.25})


def resolved(request: Decide, **changes: Any) -> events.Resolution:
    verdict = {"approve": "approved", "override": "overridden", "reject": "rejected"}[request.verdict]
    fields = {"verdict": verdict, "action": "skip_step", "by": request.by, "via": request.via} | changes
    return events.Resolution(proposal=request.proposal, reason=request.reason, **fields)


def test_decide_comes_back_with_the_runs_answer(tmp_path: Path) -> None:
    paths = session(tmp_path, *WAITING)
    with answering(paths, lambda request: [resolved(request, by=f"{request.by}")]):
        done = nora(tmp_path, "decide", "one", "approve", "--reason", "looks right")
    (request,) = asked(paths)
    assert done.exit_code == 0
    assert done.stdout == f"p1 approved by {request.by}: skip_step (looks right)\n"


def test_decide_as_json(tmp_path: Path) -> None:
    paths = session(tmp_path, *WAITING)
    with answering(paths, lambda request: [resolved(request, action="none", params={})]):
        done = nora(tmp_path, "decide", "one", "reject", "--json")
    answer = json.loads(done.stdout)
    (request,) = asked(paths)
    assert (answer["run"], answer["request"], answer["proposal"]) == ("one", request.id, "p1")
    assert (answer["verdict"], answer["action"], answer["answered"]) == ("rejected", "none", True)


def test_a_refusal_is_told_in_the_runs_own_words(tmp_path: Path) -> None:
    paths = session(tmp_path, *WAITING)
    why = f"this run cannot do skip_step: {ESCAPE}no optimizer"
    with answering(paths, lambda request: [events.RequestRefused(request=request.id, why=why)]):
        done = nora(tmp_path, "decide", "one", "approve")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "error: one refuses: this run cannot do skip_step: no optimizer\n"


def test_the_verdict_of_somebody_else_is_not_taken_for_an_answer(tmp_path: Path) -> None:
    paths = session(tmp_path, *WAITING)
    why = "p1 is decided already: approved by ann"
    with answering(paths, lambda asks: [resolution(1), events.RequestRefused(request=asks.id, why=why)]):
        done = nora(tmp_path, "decide", "one", "approve")
    assert (done.exit_code, done.stderr) == (2, f"error: one refuses: {why}\n")


@pytest.mark.parametrize(
    ("end", "sentence"),
    [
        pytest.param(
            events.RunFinished(status="stopped", reason="stopped by SIGINT", exit_code=130),
            "one ended before it answered (stopped: stopped by SIGINT)",
            id="ended",
        ),
        pytest.param(
            events.RequestRefused(request="", why="requests.jsonl can be written by others; `chmod go-w` it"),
            "one refuses: requests.jsonl can be written by others",
            id="distrusted",
        ),
    ],
)
def test_a_run_that_will_not_answer_is_not_waited_for(tmp_path: Path, end: AnyEvent, sentence: str) -> None:
    paths = session(tmp_path, *WAITING)
    with answering(paths, lambda _: [end]):
        done = nora(tmp_path, "decide", "one", "approve")
    assert (done.exit_code, sentence in done.stderr) == (2, True), done.stderr


def acted(request: Command, **changes: Any) -> events.Action:
    fields = {"state": "done", "params": request.params, "action": request.action, "step": 12} | changes
    return events.Action(id=request.id, **fields)


def test_tell_has_the_run_do_it_and_says_what_changed(tmp_path: Path) -> None:
    paths = session(tmp_path)
    effect = {"before": {"lr": 0.0123}, "after": {"lr": 0.0062}}
    with answering(paths, lambda request: [acted(request, state="started"), acted(request, effect=effect)]):
        done = nora(tmp_path, "tell", "one", "set_lr", "--set", "factor=.5")
    assert (done.exit_code, done.stdout) == (0, "one: set_lr factor=0.5 done: lr 0.0123 → 0.0062 (step 12)\n")
    (request,) = asked(paths)
    assert isinstance(request, Command)
    assert (request.action, request.params) == ("set_lr", {"factor": 0.5})


@pytest.mark.parametrize("action", ["pause", "resume"])
def test_pause_and_resume_are_commands_of_their_own(tmp_path: Path, action: str) -> None:
    paths = session(tmp_path)
    with answering(paths, lambda request: [acted(request)]):
        done = nora(tmp_path, action, "one", "--reason", "lunch", "--json")
    answer = json.loads(done.stdout)
    assert (answer["action"], answer["state"], answer["step"]) == (action, "done", 12)
    (request,) = asked(paths)
    assert (request.reason, getattr(request, "action", None)) == ("lunch", action)


def test_what_the_run_tried_in_vain_ends_with_1(tmp_path: Path) -> None:
    paths = session(tmp_path)
    with answering(paths, lambda request: [acted(request, state="failed", error="no space left")]):
        done = nora(tmp_path, "tell", "one", "checkpoint_now")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "error: one: checkpoint_now failed: no space left (step 12)\n"


def test_the_reason_for_muting_a_norm_is_its_parameter(tmp_path: Path) -> None:
    paths = session(tmp_path)
    done = nora(tmp_path, "tell", "one", "mute", "--set", "norm=spike", "--reason", "noisy data", "--no-wait")
    assert (done.exit_code, done.stdout) == (0, "one was asked: mute norm=spike reason=noisy data\n")
    (request,) = asked(paths)
    assert isinstance(request, Command)
    assert request.params == {"norm": "spike", "reason": "noisy data"}


def test_a_note_is_written_by_the_run(tmp_path: Path) -> None:
    paths = session(tmp_path, events.Note(text="odd", by="ann", step=1))
    with answering(paths, lambda request: [events.Note(text=request.text, by=request.by, step=7)]):
        done = nora(tmp_path, "note", "one", "odd since step 5")
    assert (done.exit_code, done.stdout) == (0, "one: noted at step 7: odd since step 5\n")
    (request,) = asked(paths)
    assert isinstance(request, WriteNote)
    asked_only = json.loads(nora(tmp_path, "note", "one", "again", "--no-wait", "--json").stdout)
    assert (asked_only["state"], asked_only["step"], asked_only["text"]) == ("asked", None, "again")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["tell", "one", "dance"], "there is no action 'dance'"),
        (["tell", "one", "stop"], "`nora stop one` stops a run"),
        (["tell", "one", "mute", "--set", "norm=spike"], "action mute needs reason"),
        (["tell", "one", "set_lr", "--set", "factor=fast"], "factor='fast' is not possible; allowed is a number"),
        (["tell", "one", "set_lr", "--set", "factor=[1"], "--set factor=[1: '[1' is not YAML"),
        (["tell", "one", "pause", "--set", "for=1h"], "action pause has no parameter 'for'"),
        (["note", "one", " "], "a note needs text"),
        (["tell", "two", "pause"], "two has ended already (completed); there is nothing to pause"),
        (["pause", "two"], "two has ended already (completed); there is nothing to pause"),
        (["note", "two", "late"], "two has ended already (completed); there is nothing to note"),
        (["decide", "three", "approve"], "no run 'three'"),
        (["resume", "three"], "no run 'three'"),
    ],
    ids=lambda part: " ".join(part).replace(" ", "-") if isinstance(part, list) else "",
)
def test_what_cannot_be_asked_is_refused_in_a_sentence(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    paths = session(tmp_path)
    session(tmp_path, events.RunFinished(status="completed", reason="", exit_code=0), name="two")
    done = nora(tmp_path, *arguments)
    assert (done.exit_code, done.stdout, asked(paths)) == (2, "", [])
    assert sentence in done.stderr


@pytest.mark.parametrize(
    ("action", "given", "params"),
    [
        ("set_lr", ["factor=2"], {"factor": 2}),
        ("set_lr", ["lr=1e-3"], {"lr": 0.001}),
        ("roll_back", ["steps=3", "skip_batches=yes"], {"steps": 3, "skip_batches": True}),
        ("roll_back", ["checkpoint=checkpoints/step-00000012"], {"checkpoint": "checkpoints/step-00000012"}),
        ("mute", ["norm=spike", "reason=a=b, 1: 2"], {"norm": "spike", "reason": "a=b, 1: 2"}),
        ("drop_column", ["columns=duration, age"], {"columns": ["duration", "age"]}),
        ("drop_column", ["columns=[duration]"], {"columns": ["duration"]}),
        ("set_mode", ["mode=eval"], {"mode": "eval"}),
    ],
    ids=lambda part: "-".join(part) if isinstance(part, list) else "",
)
def test_parameters_are_read_as_their_action_wants_them(action: str, given: list[str], params: dict[str, Any]) -> None:
    assert parsed(action, given) == params


def standing(norm: str, state: str) -> events.Standing:
    return events.Standing(norm=norm, state=state)  # type: ignore[arg-type]


STORY = (
    violation(1),
    proposal(1),
    resolution(1),
    events.Action(id="a1", proposal="p1", action="skip_step", state="done", step=5),
    events.Outcome(violation="v1", state="cured", step=9),
    violation(2, "spike", "major"),
    events.Policy(norm="spike", verdict="rejected", action="", by="ann"),
    proposal(2, "set_lr", factor=0.5),
    events.Norms(
        step=9, standings=[standing("non-finite", "cured"), standing("spike", "broken"), standing("no-nan", "kept")]
    ),
    events.Note(text="why?", by="ann", step=9),
)


def test_show_tells_what_was_broken_decided_and_what_waits(tmp_path: Path) -> None:
    session(tmp_path, *STORY)
    lines = [line.strip() for line in nora(tmp_path, "show", "one").stdout.splitlines()]
    assert "v1 critical non-finite at step 5: the loss is nan (cured)" in lines
    assert "v2 major spike at step 5: the loss is nan (open)" in lines
    assert "p1 approved by ann: skip_step" in lines
    assert "skip_step done (step 5)" in lines
    assert "1 kept · 1 broken (spike) · 1 cured (non-finite)" in lines
    (waits,) = (line for line in lines if line.startswith("p2 waits for you"))
    assert waits.endswith("nora decide one p2 approve|override|reject — set_lr factor=0.5")


def test_show_as_json_holds_all_of_it(tmp_path: Path) -> None:
    verdict = events.Verdict(kept=["no-nan"], broken=["spike"], overridden=["cold-start"])
    session(tmp_path, *STORY, events.RunFinished(status="completed", reason="", exit_code=7, verdict=verdict))
    shown = json.loads(nora(tmp_path, "show", "one", "--json").stdout)
    assert [(each["id"], each["outcome"]) for each in shown["violations"]] == [("v1", "cured"), ("v2", None)]
    assert [each["id"] for each in shown["proposals"]] == ["p1", "p2"]
    assert [each["verdict"] for each in shown["resolutions"]] == ["approved"]
    assert [each["action"] for each in shown["actions"]] == ["skip_step"]
    assert [(each["norm"], each["state"]) for each in shown["standings"]][1] == ("spike", "broken")
    assert [each["norm"] for each in shown["policies"]] == ["spike"]
    assert shown["notes"][0]["text"] == "why?"
    assert shown["verdict"] == {"kept": ["no-nan"], "broken": ["spike"], "overridden": ["cold-start"]}
    assert (shown["exit_code"], shown["waiting"]) == (7, [])
    assert "verdict: broken: spike; broken by leave: cold-start" in nora(tmp_path, "show", "one").stdout


def test_what_waits_is_named_while_the_run_lives(tmp_path: Path) -> None:
    session(tmp_path, *STORY)
    assert json.loads(nora(tmp_path, "show", "one", "--json").stdout)["waiting"] == ["p2"]


def test_nothing_from_a_session_reaches_the_terminal_as_a_command(tmp_path: Path) -> None:
    hostile = f"{ESCAPE}red\x07[bold]\nforged"
    session(
        tmp_path,
        violation(1, norm=hostile),
        proposal(1, action=hostile, name=hostile),
        violation(2, norm=hostile),
        proposal(2, action=hostile, name=[hostile]),
        resolution(2, action=hostile, params={hostile: hostile}, by=hostile, reason=hostile),
        events.Action(id="a1", proposal="p2", action=hostile, state="failed", error=hostile, step=5),
        events.Norms(step=5, standings=[standing(hostile, "broken")]),
    )
    done = nora(tmp_path, "show", "one")
    assert done.exit_code == 0
    assert not {"\x1b", "\x07"} & set(done.output)
    assert "[bold]" in done.output
    assert not any(line.startswith("forged") for line in done.output.splitlines())
    for arguments in (["p2", "approve"], ["p9", "approve"], ["p1", "override", "--set", "x=1"]):
        refused = nora(tmp_path, "decide", "one", *arguments)
        assert (refused.exit_code, {"\x1b", "\x07"} & set(refused.output)) == (2, set()), refused.output
