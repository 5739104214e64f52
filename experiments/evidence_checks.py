"""What the evidence must show, value beside bar.

Costs are compared at equal attainment and accuracy (`experiments.evidence_versus`). The *hardest* rival is the one
against which least is saved; a rival that misses twice what is promised, or more, is listed and not judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from controller.policies.registry import GENERALIST
from experiments.benchmark_config import SELECTED
from experiments.checks import Check, at_least, at_most
from experiments.evidence_files import LEAST_SEEDS
from experiments.evidence_plan import GENERALIST_SELECTED, GENERALIST_ZERO, LEARNED, LEARNED_SELECTED, ZERO
from experiments.evidence_versus import LEAST_JUDGED, Versus, gap_closed, hardest, versus
from experiments.leaderboard import Leaderboard
from experiments.results import MOST_RULED
from experiments.row_keys import RowKey, case_keys, overall_key
from experiments.statistics import bootstrap
from experiments.tuned_rivals import PUBLISHED, RULE, TOLD

PUBLISHED_SAVING, RULE_SAVING, GAP_CLOSED = 20.0, 5.0, 40.0  # percent
WORST_TRACE, HELD_OUT_LOSS = 2.0, 2.0  # percent
ATTAINMENT = 99.0  # percent

EVIDENCE = "provisor experiment evidence"
_AGAIN = f"{EVIDENCE} --check"


def published_checks(board: Leaderboard) -> Iterator[Check]:
    """Check 1: against the best published scheme."""
    rivals = [name for name in PUBLISHED if name in board.plan.config.references]
    found, _ = _saving_checks(board, "1", "best published scheme", rivals, PUBLISHED_SAVING)
    yield from found


def rule_checks(board: Leaderboard) -> Iterator[Check]:
    """Check 2: against the strongest tuned rule, and how much of its gap to clairvoyance is closed."""
    rivals = board.plan.config.references
    checks, found = _saving_checks(board, "2", "strongest tuned rule", rivals, RULE_SAVING)
    yield from checks
    if found is None:
        return
    yield _gap_check(board, found.rival)
    by_case = found.by_case
    worst = int(np.argmax(by_case))
    case = found.cases[worst]
    what = f"2: worst of {len(by_case)} traces against {found.rival}: {case.scenario}/{case.trace}"
    loss = 100.0 * float(by_case[worst])
    yield Check(what, f"{loss:+.1f} %", f"<= +{WORST_TRACE:g} %", loss <= WORST_TRACE, _AGAIN)
    yield from beside_checks(board, "2", LEARNED_SELECTED, ZERO, found.rival)


def held_out_checks(board: Leaderboard) -> Iterator[Check]:
    """Check 3: the generalist on what it was not trained on, against the rule tuned there."""
    found = versus(board, GENERALIST, RULE)
    (case,) = dict.fromkeys(case.scenario for case in found.cases)
    traces = ", ".join(one.trace for one in found.cases)
    what = f"3: generalist on {case}/{traces}, zero-shot, against {RULE} tuned there{_seeds_text(board, found)}"
    holds = found.is_known and 100.0 * found.interval.estimate <= HELD_OUT_LOSS
    yield Check(what, _signed(found), f"<= +{HELD_OUT_LOSS:g} %", holds, _AGAIN)
    yield from beside_checks(board, "3", GENERALIST_SELECTED, GENERALIST_ZERO, RULE)


def promise_checks(board: Leaderboard) -> Iterator[Check]:
    """Check 4: attainment and floors of the selected policy on every trace, at its own point."""
    reference = board.plan.config.compared_to[0]
    for key, case in zip(case_keys(board.plan, LEARNED_SELECTED, reference), board.plan.worlds, strict=True):
        row, everyone = board.row(key), board.row(RowKey(key.scenario, key.trace, LEARNED, reference))
        workload = board.plan.world(case).setting.workload
        floors = dict(zip(row.accuracy_by_class, workload.accuracy_floor.tolist(), strict=True))
        short = [
            f"{name} {value:.4f} < {floors[name]:g}"
            for name, value in row.accuracy_by_class.items()
            if value is not None and value < floors[name] - 1e-9
        ]
        least = 100.0 * min(row.attainment_by_class.values())
        floors_text = "floors met" if not short else f"floors missed: {', '.join(short)}"
        seeds = "all seeds keep the promise" if everyone.promise_kept else "not all seeds keep it"
        yield Check(
            f"4: attainment of the worst class and floors, {key.scenario}/{key.trace} ({seeds})",
            f"{least:.3f} %, {floors_text}",
            f">= {ATTAINMENT:g} %, floors met",
            least >= ATTAINMENT and not short,
            row.command,
        )


def seed_checks(board: Leaderboard, policy: str, command: Callable[[str], str]) -> Iterator[Check]:
    """Whether there are enough training seeds.

    Args:
        board: Of the policies.
        policy: A group.
        command: Scenario to what trains its group.
    """
    for scenario in dict.fromkeys(case.scenario for case in board.plan.worlds):
        count = len(board.plan.members(policy, scenario))
        yield at_least(f"training seeds of {policy} on {scenario}", count, LEAST_SEEDS, command=command(scenario))


def solved_checks(board: Leaderboard, rivals: Sequence[str]) -> Iterator[Check]:
    """Against rules that solve programs: as check 2, each by itself."""
    for name in rivals:
        found = versus(board, LEARNED, name)
        yield _saving_check(f"2: saving against {name}, which {_came_to(board, name)}", found, RULE_SAVING)


def beside_checks(board: Leaderboard, number: str, policy: str, zero: str, rule: str) -> Iterator[Check]:
    """Share of ticks on which the named rule drove, and what the rule inside costs without its network."""
    rows = [board.row(key) for key in case_keys(board.plan, policy, board.plan.config.compared_to[0])]
    most = max(rows, key=lambda row: float("inf") if row.rule_share is None else row.rule_share)
    share = float("nan") if most.rule_share is None else 100.0 * most.rule_share
    what = f"{number}: share of ticks on the rule, worst trace ({most.scenario}/{most.trace})"
    yield at_most(what, share, 100.0 * MOST_RULED, " %", most.command)
    found = versus(board, zero, rule)
    yield Check(f"{number}: {zero} against {rule}", _signed(found), "printed beside", holds=True, command=_AGAIN)


def _saving_checks(
    board: Leaderboard, number: str, what: str, rivals: Sequence[str], bar: float
) -> tuple[list[Check], Versus | None]:
    """The saving against the hardest rival, and that comparison; None where there is none."""
    found, others = hardest(board, rivals)
    known = [one for one in found if one.is_known]
    unknown = [f"{one.rival}: {one.reasons[0]}" for one in found if not one.is_known]
    apart = [f"{name} {_came_to(board, name)}" for name in others]
    notes = "".join(f"; {'; '.join(part)}" for part in (unknown, apart) if part)
    all_compared = Check(
        f"{number}: rivals compared at equal attainment and accuracy{notes}",
        f"{len(known)} of {len(found)}",
        f"all that attain >= {100 * LEAST_JUDGED:g} %",
        bool(known) and not unknown,
        _AGAIN,
    )
    if not known:
        return [all_compared], None
    one = known[0]
    met = sum(target == RULE for target in one.targets)
    where = f"{met} of {len(one.targets)} traces at what {RULE} came to"
    label = f"{number}: saving against the {what}, {one.rival}, which {_came_to(board, one.rival)}; {where}"
    return [all_compared, _saving_check(f"{label}{_seeds_text(board, one)}", one, bar)], one


def _saving_check(what: str, found: Versus, bar: float) -> Check:
    """A saving with its interval, which must exclude 0."""
    wanted = f">= {bar:g} %, interval above 0"
    if not found.is_known:
        return Check(what, f"not comparable: {found.reasons[0]}", wanted, holds=False, command=_AGAIN)
    one = found.interval
    measured = f"{-100 * one.estimate:.1f} % [{-100 * one.high:.1f}, {-100 * one.low:.1f}]"
    return Check(what, measured, wanted, -100.0 * one.estimate >= bar and one.high < 0.0, _AGAIN)


def _gap_check(board: Leaderboard, rule: str) -> Check:
    what, bar = f"2: gap of {rule} to the clairvoyant closed", f">= {GAP_CLOSED:g} %, interval above 0"
    if TOLD not in board.plan.config.row_names:
        return Check(what, "the clairvoyant is missing", bar, holds=False, command=_AGAIN)
    ours, told = versus(board, LEARNED, rule, beside=TOLD), versus(board, TOLD, rule, beside=LEARNED)
    if not told.is_known:
        return Check(what, f"not comparable: {told.reasons[0]}", bar, holds=False, command=_AGAIN)
    room = -100.0 * told.interval.estimate
    if room <= 0.0:
        return Check(what, f"no gap: the clairvoyant saves {room:.2f} %", bar, holds=False, command=_AGAIN)
    config = board.plan.config
    found = bootstrap(gap_closed(ours.strata, told.strata), block=config.block_days, resamples=config.resamples)
    bounds = f"[{100 * found.low:.1f}, {100 * found.high:.1f}]"
    measured = f"{100 * found.estimate:.1f} % {bounds} of {room:.1f} %"
    return Check(what, measured, bar, 100 * found.estimate >= GAP_CLOSED and found.low > 0.0, _AGAIN)


def _came_to(board: Leaderboard, name: str) -> str:
    row = board.row(overall_key(board.plan, name, board.plan.config.compared_to[0]))
    accuracy = "" if row.own_accuracy is None else f" at accuracy {100 * row.own_accuracy:.2f} %"
    return f"attains {100 * row.own_attainment:.2f} %{accuracy} for {row.own_cost_usd:.2f} $/day"


def _seeds_text(board: Leaderboard, found: Versus) -> str:
    """Range over the seeds, and the selected policy, where they can be compared."""
    if not found.is_known:
        return ""
    low, high = 100 * float(found.by_seed.min()), 100 * float(found.by_seed.max())
    selected = versus(board, found.policy + SELECTED, found.rival)
    return f"; cost by seed {low:+.1f} to {high:+.1f} % ({len(found.by_seed)} seeds), selected {_signed(selected)}"


def _signed(found: Versus) -> str:
    if not found.is_known:
        return f"not comparable: {found.reasons[0]}"
    one = found.interval
    return f"{100 * one.estimate:+.1f} % [{100 * one.low:+.1f}, {100 * one.high:+.1f}]"
