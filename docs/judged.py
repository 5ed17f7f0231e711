"""Run every planted violation, and clean runs beside them, and write what the norms made of them to docs/judged.md.

``python -m docs.judged`` starts each run as ``nora train`` does, in processes of its own and with nobody to ask, and
reads its session when it has ended. A run that has ended in the folder already is not run again, so that an interrupted
table goes on where it was; after a change of the code the folder is to be another one.
"""

import argparse
import json
import math
import os
import statistics
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from docs.judged_runs import INJECTIONS, MODES, SEEDS, Case, Injection, clean, epoch_steps, run_all, twin, wanted
from norms.norm import REGIMES, SEVERITIES, catalogue
from sessions.events import Severity, ViolationFound
from sessions.state import SessionState

# --- what the norms made of them --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judged:
    """One run with a planted violation, and its clean twin."""

    case: Case
    state: SessionState
    twin: SessionState | None

    @property
    def injection(self) -> Injection:
        return INJECTIONS[self.case.what]

    @property
    def right(self) -> list[ViolationFound]:
        """What the norm found that is meant to find it; the first one first."""
        return [found for found in self.state.violations if found.norm == self.injection.norm]

    @property
    def others(self) -> list[ViolationFound]:
        return [found for found in graver_than_info(self.state) if found.norm != self.injection.norm]

    @property
    def trigger(self) -> int:
        return self.injection.trigger(self.state)

    @property
    def in_time(self) -> bool:
        """Whether it was found within one step of its trigger, or one epoch where it is judged once an epoch."""
        late = epoch_steps(self.state) if self.injection.each_epoch else 1
        return bool(self.right) and self.trigger <= self.right[0].step <= self.trigger + late

    @property
    def outcome(self) -> str:
        """How its violations stand in the end: the worst of them."""
        states = {self.state.outcomes.get(found.id, "none") for found in self.right}
        return next((each for each in ("persists", "recurred", "none", "cured") if each in states), "not found")

    @property
    def loss(self) -> float | None:
        """Test accuracy against the clean twin's, in percentage points."""
        mine, clean = accuracy(self.state), accuracy(self.twin) if self.twin else None
        return None if mine is None or clean is None else 100 * (mine - clean)

    @property
    def acted_on(self) -> set[str]:
        """Norms about which something was done."""
        norms = {found.id: found.norm for found in self.state.violations}
        proposals = {proposal.id: proposal for proposal in self.state.proposals}
        acted = [proposals[each.proposal] for each in self.state.actions if each.proposal in proposals]
        return {norms[each] for proposal in acted for each in proposal.violations}


def accuracy(state: SessionState) -> float | None:
    """Return the final test accuracy, from 0 to 1; None for a run that ended without."""
    tested = state.summary.get("test")
    return float(tested["accuracy"]) if tested else None


def symptoms() -> set[str]:
    """Return the norms that see what has gone wrong, not why: all that the mode agentic acts on."""
    return {norm.id for norm in catalogue().values() if norm.symptom}


def graver_than_info(state: SessionState) -> list[ViolationFound]:
    return [found for found in state.violations if found.severity != "info"]


def actions(state: SessionState) -> str:
    """Return what was done, in order, with its parameters, how often, and by whom."""
    by = {resolution.proposal: resolution.by for resolution in state.resolutions}
    done = [each for each in state.actions if each.state != "started"]
    words = [
        each.action
        + "".join(f" {name}={value}" for name, value in each.params.items())
        + (" (failed)" if each.state == "failed" else "")
        + f", by {by.get(each.proposal or '', 'nobody')}"
        for each in done
    ]
    return "; ".join(f"{word} ×{n}" if n > 1 else word for word, n in Counter(words).items())


def same_or_each(values: Iterable[object]) -> str:
    """Return the value that all seeds have, or all of them in the order of the seeds."""
    words = [str(value) for value in values]
    return words[0] if len(set(words)) == 1 else " / ".join(words)


def norms_found(state: SessionState) -> str:
    """Return each norm that was broken with its gravest severity, in the order in which they were found."""
    gravest: dict[str, Severity] = {}
    for found in state.violations:
        gravest[found.norm] = max(found.severity, gravest.get(found.norm, "info"), key=SEVERITIES.index)
    return ", ".join(f"{norm} ({severity})" for norm, severity in gravest.items()) or "none"


INJECTED_HEAD = """\
| injection | regime | norms found (severity) | trigger | found at | what was done | outcome | test accuracy % | \
against the clean twin, pp | exit |
|---|---|---|---:|---:|---|---|---|---|---:|"""


def injected_row(judged: Sequence[Judged]) -> str:
    """Return one line of the table: an injection in one regime, over the seeds."""
    found = same_or_each(each.right[0].step if each.right else "not found" for each in judged)
    tested = [accuracy(each.state) for each in judged]
    cells = (
        judged[0].case.what,
        judged[0].case.regime,
        same_or_each(norms_found(each.state) for each in judged),
        same_or_each(each.trigger for each in judged),
        found,
        same_or_each(actions(each.state) or "nothing" for each in judged),
        same_or_each(each.outcome for each in judged),
        ", ".join("–" if value is None else f"{100 * value:.2f}" for value in tested),
        _difference([each.loss for each in judged]),
        same_or_each(each.state.exit_code for each in judged),
    )
    return f"| {' | '.join(cells)} |"


def _difference(losses: Sequence[float | None]) -> str:
    there = [loss for loss in losses if loss is not None]
    if not there:
        return "–"
    if not any(there):
        return "0 (equal)" if len(there) == 1 else "0 (all equal)"
    return f"{statistics.mean(there):+.2f} (worst {min(there):+.2f})"


def summary(judged: Sequence[Judged]) -> list[str]:
    """Return what the table of one mode says, counted."""
    n = len(judged)
    outcomes = Counter(each.outcome for each in judged)
    lines = [
        f"Found by the right norm in time: **{sum(each.in_time for each in judged)} of {n}**.",
        f"Acted on: {sum(bool(each.state.actions) for each in judged)} of {n}; on something that is no symptom: "
        f"{sum(bool(each.acted_on - symptoms()) for each in judged)}.",
        "Outcomes: " + ", ".join(f"{word} {count}" for word, count in outcomes.most_common()) + ".",
        f"With another norm above info as well: {sum(bool(each.others) for each in judged)} of {n}.",
    ]
    lines += [
        f"Not found in time: {each.state.name} ({norms_found(each.state)})." for each in judged if not each.in_time
    ]
    lines += [
        f"Another norm: {each.state.name}: {found.norm} ({found.severity}) at step {found.step}: {found.message}."
        for each in judged
        for found in each.others
    ]
    return [f"- {line}" for line in lines]


CLEAN_HEAD = """\
| run | mode | regime | seed | test accuracy % | norms judged | violations (any severity) | what was done | exit |
|---|---|---|---:|---:|---:|---|---|---:|"""


def clean_row(case: Case, state: SessionState) -> str:
    found = "; ".join(f"{each.norm} ({each.severity}) at step {each.step}" for each in state.violations) or "none"
    tested = accuracy(state)
    shown = "–" if tested is None else f"{100 * tested:.2f}"
    verdict = state.verdict
    norms = len(verdict.kept) + len(verdict.broken) + len(verdict.overridden) if verdict else 0
    run = (case.what, case.mode, case.regime, case.seed)
    cells = (*run, shown, norms, found, actions(state) or "nothing", state.exit_code)
    return f"| {' | '.join(map(str, cells))} |"


# --- the page ---------------------------------------------------------------------------------------------------------


def page(ends: dict[Case, SessionState], environments: Sequence[dict[str, Any]], command: str) -> str:
    """Return the page, of the runs that have ended."""
    parts = ["# What the norms find, and what is done about it", *_head(ends, environments, command)]
    for mode in MODES:
        parts += _mode_part(mode, ends)
    return "\n\n".join([*parts, *_clean_part(ends)]) + "\n"


def _head(ends: dict[Case, SessionState], environments: Sequence[dict[str, Any]], command: str) -> list[str]:
    hardware, packages = environments[0]["hardware"], environments[0]["packages"]
    versions = ", ".join(f"{name} {packages[name]}" for name in ("torch", "catboost") if name in packages)
    triggers = "; ".join(f"{name}: {each.shows}" for name, each in INJECTIONS.items())
    return [
        f"Made by `{command}` on {date.today():%d %B %Y}, from {len(ends)} runs ({_commits(environments)}), on "
        f"{hardware['cpu']}, {hardware['threads']} cores, {versions}; no GPU. Each run is processes of its own, "
        "headless (`approve=auto`), on one thread, with the defaults of its workload otherwise: the ViT on digits for "
        "30 epochs, CatBoost on Bank Marketing for 200 iterations. Other work may have run beside them: no figure here "
        "is a time.",
        "Steps are counted from 1; step 0 is before the first. What is planted shows first (its trigger): "
        f"{triggers}. Found in time: by the right norm, at the trigger or within one step of it, or within one epoch "
        "for what is judged once an epoch. The clean twin is the run of the same seed and configuration without the "
        "violation; accuracy is that of the test split, of 359 images: one image is 0.28 pp. Where seeds differ, a "
        "cell gives each.",
    ]


def _commits(environments: Sequence[dict[str, Any]]) -> str:
    known = [each["git"] for each in environments if each["git"]]
    words = {f"commit {git['commit'][:7]}{' with changes not committed' if git['dirty'] else ''}" for git in known}
    return ", ".join(sorted(words)) or "not from a repository"


def _mode_part(mode: str, ends: dict[Case, SessionState]) -> list[str]:
    rows, judged = [], []
    for what in INJECTIONS:
        for regime in REGIMES:
            cases = [case for case in ends if (case.what, case.mode, case.regime) == (what, mode, regime)]
            row = [Judged(case, ends[case], ends.get(twin(what, case.seed))) for case in cases]
            if row:
                rows.append(injected_row(row))
            judged += row
    if not judged:
        return [f"## {mode}", "Not run yet."]
    seeds = ", ".join(str(seed) for seed in dict.fromkeys(each.case.seed for each in judged))
    full = len(INJECTIONS) * len(REGIMES)
    about = f"{len(rows)} of {full} combinations of injection and regime, n = {len(judged)} runs, seeds {seeds}."
    return [f"## {mode}", about, "\n".join(summary(judged)), "\n".join([INJECTED_HEAD, *rows])]


def _clean_part(ends: dict[Case, SessionState]) -> list[str]:
    thirty = [case for case in clean() if case in ends]
    others = dict.fromkeys(twin(what, seed) for seed in SEEDS for what in INJECTIONS)
    twins = [case for case in others if case in ends and case not in thirty]
    lines = [
        f"- With a violation above info: **{_with_violations(thirty, ends)} of {len(thirty)}**"
        f" ({len(clean())} are asked for); of the {len(twins)} further clean runs, the twins of runs above:"
        f" {_with_violations(twins, ends)}.",
        "- The test accuracy of a workload and seed is the same in every mode and regime: "
        f"{'yes' if _same_results(thirty, ends) else 'NO'}.",
    ]
    lines += _chance(ends)
    rows = [CLEAN_HEAD, *(clean_row(case, ends[case]) for case in [*thirty, *twins])]
    return ["## Clean runs", "\n".join(lines), "\n".join(rows)]


def _chance(ends: dict[Case, SessionState]) -> list[str]:
    """Return how far the seeds alone move the result, which a difference to the twin is to be read beside."""
    cases = [twin("aug_leak", seed) for seed in SEEDS]
    tested = [value for case in cases if case in ends and (value := accuracy(ends[case])) is not None]
    if not tested:
        return []
    span = f"{100 * min(tested):.2f} to {100 * max(tested):.2f}%"
    return [
        f"- Over {len(tested)} seeds, the clean ViT has {span} on the test split. Where a defect changes the random "
        "draws (nondeterminism, eval_mode_bug, aug_leak) or the arithmetic (amp_nan), the difference to its twin holds "
        "such chance as well."
    ]


def _with_violations(cases: Iterable[Case], ends: dict[Case, SessionState]) -> int:
    return sum(bool(graver_than_info(ends[case])) for case in cases)


def _same_results(cases: Iterable[Case], ends: dict[Case, SessionState]) -> bool:
    results: dict[tuple[str, int], set[float | None]] = {}
    for case in cases:
        results.setdefault((case.what, case.seed), set()).add(accuracy(ends[case]))
    return all(len(each) == 1 for each in results.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path, nargs="?", default=Path(__file__).with_suffix(".md"))
    parser.add_argument("--runs", type=Path, default=Path("runs/judged"), help="the folder of the runs")
    parser.add_argument("--at-once", type=int, default=len(os.sched_getaffinity(0)), help="how many run at a time")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no more runs after so many minutes")
    parser.add_argument(
        "--reactive-seeds", type=int, nargs="+", default=SEEDS, help="seeds of the modes pipeline and agentic"
    )
    options = parser.parse_args()
    cases = wanted(options.reactive_seeds)
    ends = run_all(cases, options.runs, options.at_once, 60 * options.minutes)
    if not ends:
        sys.exit("no run has ended yet")
    environments = [json.loads((options.runs / state.run_id / "env.json").read_bytes()) for state in ends.values()]
    fewer = tuple(options.reactive_seeds) != SEEDS
    command = " ".join(["python -m docs.judged --reactive-seeds", *map(str, options.reactive_seeds)])
    options.page.write_text(page(ends, environments, command if fewer else "make judged"))
    print(f"{len(ends)} of {len(cases)} runs are in {options.page}")


if __name__ == "__main__":
    main()
