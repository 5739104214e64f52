"""The values that the tiers' study must reach, each beside its bar."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from controller.tiers.generate import Objective
from controller.tiers.rules import Form
from experiments.checks import Check, at_least, at_most
from experiments.tiers.study import LADDER, TOLERANCES, Cell, TaskStudy, falls
from experiments.tiers.workload import WAYS, WorkloadStudy

_FALLS, _CASCADES = 3, 2
_COST_BARS = {0.01: 0.5, 0.05: 0.3}
# Share of the best version's cost, by tolerance.


def checks_of(found: TaskStudy, judged: int = 1, *, has_cost_bars: bool = True) -> Iterator[Check]:
    """A task's values.

    Args:
        found: Of the task.
        judged: Requests that must judge.
        has_cost_bars: Whether cost on the short ladder has bars; where not, what keeps it from them is shown.
    """
    name = found.name
    yield at_least(f"{name}: requests that judge", found.judged, judged)
    for objective in Objective:
        what = f"{name}, {objective.value.replace('_', ' ')}"
        values = [found.mean(objective, tolerance, lambda cell: cell.value) for tolerance in TOLERANCES]
        best = found.mean(objective, 0.0, lambda cell: cell.best_value)
        shown = ", ".join(f"{value / best:.3f}" for value in values)
        points = ", ".join(f"{tolerance * 100:g}" for tolerance in TOLERANCES)
        never = falls(values[::-1]) == 0
        yield Check(f"{what}: of the best version's, at {points} points", shown, "never rises", never)
        yield at_least(f"{what}: steps at which it falls", falls(values), _FALLS, f" of {len(TOLERANCES) - 1}")
        yield at_least(
            f"{what}: tolerances at which a cascade beats all singles",
            cascades_ahead(found.cells, objective),
            _CASCADES,
        )
    yield at_most(
        f"{name}: tiers above their tolerance on requests not seen, of {len(found.cells)}", found.broken, found.allowed
    )
    for tolerance, bar in _COST_BARS.items():
        share = cost_share(found.short, tolerance)
        what = f"{name}: cost at {tolerance * 100:g} points, of the best version's, versions within {LADDER:g}x"
        what = f"{what} ({', '.join(found.short_versions)})"
        if has_cost_bars:
            yield at_most(what, share, bar)
        else:
            versions = [found.versions[version][2] for version in found.short_versions]
            why = f"shown: the ladder spans {max(versions) / min(versions):.1f}x, an oracle needs"
            yield Check(what, f"{share:.4g}", f"{why} {found.short_oracle[tolerance]:.3f}", holds=True)


def workload_checks(found: WorkloadStudy) -> Iterator[Check]:
    """Values of a task's mixed-tolerance workload: tiers cost less than one size, and keep what they promise.

    A calibration too small to be parted proves no rule for most of the tolerances, so its cost has no bar.
    """
    ways = {way.name: way for way in found.ways}
    one_size, tiers = ways[WAYS[0]], ways[WAYS[-1]]
    cost, bar = tiers.equal_usd_per_1000, one_size.equal_usd_per_1000
    spread = f"{100 * tiers.relative.estimate:+.1f} %, 95 % within {100 * tiers.relative.low:+.1f}"
    if found.is_parted:
        yield Check(
            f"{found.name}: $ per 1000 requests with tiers, at equal attainment ({found.equal_attainment:.2%})",
            f"{cost:.4g} ({spread} to {100 * tiers.relative.high:+.1f})",
            f"< {bar:.4g} without",
            bool(cost < bar and tiers.relative.high < 0.0),
        )
    yield at_most(f"{found.name}: tiers of the workload whose answers are worse than promised", found.broken, 0)


def cascades_ahead(cells: Sequence[Cell], objective: Objective) -> int:
    """Tolerances at which most seeds' rules are cascades, and their mean is below that of the best singles."""
    ahead = 0
    for tolerance in TOLERANCES:
        chosen = [cell for cell in cells if cell.objective is objective and cell.tolerance == tolerance]
        is_cascade = np.mean([cell.form is not Form.SINGLE for cell in chosen]) > 0.5
        is_below = np.mean([cell.value for cell in chosen]) < np.mean([cell.single_value for cell in chosen])
        ahead += bool(is_cascade and is_below)
    return ahead


def cost_share(cells: Sequence[Cell], tolerance: float) -> float:
    """Mean cost of a tier over that of the best version."""
    chosen = [cell for cell in cells if cell.objective is Objective.COST and cell.tolerance == tolerance]
    return float(np.mean([cell.value for cell in chosen]) / np.mean([cell.best_value for cell in chosen]))
