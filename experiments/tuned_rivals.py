"""The rivals of the evidence: which they are, how each must be tuned, and whether its study can be believed.

How a rival was tuned stands in the summary that its study leaves beside the settings (`experiments.study_summary`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from controller.config import parse_config
from controller.errors import mismatch
from controller.policies.levers import added_levers
from controller.policies.registry import PolicySpec, read_spec, settings_model
from controller.rival_arrays import SCHEMES
from experiments.clairvoyant import CLAIRVOYANT
from experiments.study_config import LEFT_ALONE
from experiments.study_summary import GAIN_TRIALS
from experiments.suite import split_of_day

PUBLISHED = (
    "reactive", "util_aware", "exascale", "mixed", "paragon", "mark", "infaas", "ray_serve", "hpa", "spothedge",
    "tributary", "ribbon",
)  # fmt: skip
"""Schemes tuned in the levers that they were published with."""

RULE = "mpc"
PLUS = "_plus"
FIRST_PLUS = "paragon" + PLUS
"""Of the schemes with every lever the first to be tuned: what it comes to in a lever the others try, too."""

OTHERS = (*(name + PLUS for name in PUBLISHED), RULE)
"""Rules beside them that decide in microseconds: the same schemes tuned in every lever, and the strongest rule."""

SOLVED = ("infadapter", "rolling_milp")
"""Rules that solve a program every minute: hours, so run under `--full` alone."""

TOLD = "clairvoyant"

HELD_OUT_TRIALS = 1000
UNTIL_GAIN = 0.005
UNTIL_CONVERGED = (RULE, TOLD)
_TRIALS, _TRIALS_SOLVED = 300, 50


def rival_kind(name: str) -> str:
    """Kind of the policy that evidence calls `name`."""
    if name == TOLD:
        return CLAIRVOYANT
    return name if name in SCHEMES else name.removesuffix(PLUS)


def tuned_cost(summary: dict[str, Any]) -> float:
    """What tuned settings cost on the days they were tuned on, broken promises included: a geometric mean in USD."""
    return math.exp(
        sum(math.log(one["best"]["value"] * one["reference_usd"]) for one in summary["worlds"]) / len(summary["worlds"])
    )


def summary_of(path: Path) -> dict[str, Any]:
    """The summary of a study, which lies beside the settings that it found."""
    found: dict[str, Any] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    return found


def settings_faults(path: Path, kind: str) -> Iterator[str]:
    """Why settings cannot be believed."""
    if not path.exists():
        yield "missing"
        return
    spec = read_spec(str(path))
    if spec.kind != kind:
        yield mismatch("kind", kind, spec.kind)
        return
    parse_config(spec.settings, settings_model(kind), str(path))
    if not path.with_suffix(".json").exists():
        yield f"no summary of its study ({path.with_suffix('.json').name}) beside it"
        return
    summary = summary_of(path)
    if summary["policy"]["kind"] != kind or summary["settings"] != spec.settings:
        yield f"not the settings that its study found ({path.with_suffix('.json').name})"
    for world in summary["worlds"]:
        trace, day = world.get("suite_trace"), int(world["day"])
        if trace is not None and split_of_day(trace, day) == "test":
            yield f"tuned on day {day} of {trace}, which is a test day"


def effort_fault(summary: dict[str, Any], name: str, is_held_out: bool) -> str | None:
    """Why a rule was tuned less than it must be: an untuned rival is a lie."""
    if name in UNTIL_CONVERGED and not is_held_out:
        return converged_fault(summary)
    total, least = int(summary["trials"]["total"]), HELD_OUT_TRIALS if is_held_out else least_trials(name)
    return mismatch("trials", f"at least {least}", total) if total < least else None


def lever_fault(summary: dict[str, Any], name: str) -> str | None:
    """Whether a scheme was searched in more than it was published with, or with every lever in less.

    A lever that came after the search is at its default: as published it was left alone, in every lever it is missing.
    """
    kind, searched = rival_kind(name), list(summary["ranges"])
    model = settings_model(kind)
    added = added_levers(model)
    if name in PUBLISHED:
        defaults = {lever: model.model_fields[lever].default for lever in added}
        is_turned = {lever: summary["settings"].get(lever, value) != value for lever, value in defaults.items()}
        wrong = [lever for lever in added if lever in searched or is_turned[lever]]
        wanted = "nothing that was added to what was published"
    else:
        can_be_judged = [lever for lever in added if lever not in LEFT_ALONE.get(kind, ())]
        wrong, wanted = [lever for lever in can_be_judged if lever not in searched], "every lever that can be judged"
    return mismatch("ranges", f"{wanted}, such as {', '.join(wrong)}", searched) if wrong else None


def known_before(name: str) -> str | None:
    """The policy whose tuned settings a search in every lever tries first; None: another search."""
    if not name.endswith(PLUS):
        return None
    return RULE if name == FIRST_PLUS else FIRST_PLUS


def beginning_fault(summary: dict[str, Any], known: PolicySpec) -> str | None:
    """Whether a search tried what was known before.

    Args:
        summary: Of its study.
        known: Settings of the policy that `known_before` names.
    """
    tried = [summary["start"], *summary["more_starts"]]
    if any(all(start[lever] == value for lever, value in known.settings.items() if lever in start) for start in tried):
        return None
    return mismatch(
        "more_starts", f"one with the levers as {known.name or known.kind} was tuned", f"{len(tried)} others"
    )


def converged_fault(summary: dict[str, Any]) -> str | None:
    """Why a search cannot be said to have come to its end."""
    total, last = int(summary["trials"]["total"]), summary["value"]["gain_of_last"]
    if int(last["trials"]) >= GAIN_TRIALS and float(last["gain"]) < UNTIL_GAIN:
        return None
    wanted = f"less than {UNTIL_GAIN:.1%} gained by the last {GAIN_TRIALS}"
    return mismatch("trials", wanted, f"{float(last['gain']):.1%} by the last {last['trials']} of {total}")


def least_trials(name: str) -> int:
    """Trials that a rival's search must have, where it need not converge."""
    return _TRIALS_SOLVED if name in SOLVED else _TRIALS


def begun_from(name: str, folder: str) -> str:
    """Options of `provisor tune`: what a search in every lever tries first.

    That is the scheme as published and tuned, and the levers of the first scheme so tuned; of that one itself those of
    the strongest rule. So many levers are not all found anew by each.

    Args:
        name: Of a scheme with every lever.
        folder: Of the tuned settings.
    """
    published, known = f"{folder}/{name.removesuffix(PLUS)}.yaml", f"{folder}/{known_before(name)}.yaml"
    as_published = "--borrow" if name == FIRST_PLUS else "--start"  # that one is of a kind of its own
    return f" {as_published} {published} --borrow {known}"
