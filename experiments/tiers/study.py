"""What tolerance tiers are worth and whether they keep their promise: a task's calibration, cut anew for every seed.

Of each cut, rules are searched and proved on one part and judged on the other, which the generator never saw. Nothing
is measured again: a calibration holds what every version did with every request.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

from controller.tiers.calibration import Calibration
from controller.tiers.generate import CONFIDENCE, Objective, Tier, Tolerance, generate
from controller.tiers.rules import Form, outcome

SEEDS = 20
TOLERANCES = (0.0, 0.01, 0.02, 0.05, 0.1)
CALIBRATED = 0.4
"""Share of requests that rules are generated from; the others judge them.

A rule whose mean is proved to be within a tolerance may still be above it on a sample. With n requests that prove and m
that judge, a rule as close to its tolerance as its proof allows at 99.9 % is above it in one sample of 200, for m as
large as here (3.09 sqrt(m / (n + m)) = 2.57 standard deviations).
"""

LADDER = 8.0
"""How many times the cheapest version's cost the best one's may be, on the short ladder."""


@dataclass(frozen=True)
class Cell:
    """One tier of one seed, judged on requests that its rule was not generated from.

    Attributes:
        seed: Of the cut.
        objective: Of the tier.
        tolerance: Of the tier, in points of error.
        form: Of its rule.
        bound: Of the degradation, as it was proved.
        degradation: Against the best version, realised.
        value: Mean response time (s) or cost ($), as the objective says.
        best_value: Of the best version.
        single_value: Of the tier where only single versions may answer.
    """

    seed: int
    objective: Objective
    tolerance: float
    form: Form
    bound: float
    degradation: float
    value: float
    best_value: float
    single_value: float


@dataclass(frozen=True)
class Change:
    """What becomes of requests that a bigger version answers: shares of them, and the mean change of error."""

    smaller: str
    bigger: str
    improves: float
    stays: float
    worsens: float
    error: float


@dataclass(frozen=True)
class TaskStudy:
    """A task.

    Attributes:
        name: Of the task.
        source: What was measured.
        requests: Of the calibration.
        judged: Requests of each cut that judge.
        versions: Mean error, response time (s) and cost ($) by version.
        cells: By seed, objective and tolerance, over all versions.
        short: The same over the versions of the short ladder.
        short_versions: Those, from cheap to dear.
        short_oracle: By tolerance, the share of the best version's cost that no rule over them can go below, not even
            one that knows what every version will answer.
        changes: From each version to the next bigger one, and to the best.
        confidence: Of every tier.
    """

    name: str
    source: str
    requests: int
    judged: int
    versions: dict[str, tuple[float, float, float]]
    cells: tuple[Cell, ...]
    short: tuple[Cell, ...]
    short_versions: tuple[str, ...]
    short_oracle: dict[float, float]
    changes: tuple[Change, ...]
    confidence: float = CONFIDENCE

    @property
    def broken(self) -> int:
        """Cells whose realised degradation is above the tolerance."""
        return sum(cell.degradation > cell.tolerance for cell in self.cells)

    @property
    def allowed(self) -> int:
        """Cells that may be, so that more would be seen once in a hundred studies at the stated confidence."""
        return int(binom.ppf(0.99, len(self.cells), 1.0 - self.confidence))

    def mean(self, objective: Objective, tolerance: float, what: Callable[[Cell], float]) -> float:
        """Mean over seeds of one tier."""
        chosen = [what(cell) for cell in self.cells if cell.objective is objective and cell.tolerance == tolerance]
        return float(np.mean(chosen))


def study(name: str, table: Calibration, say: Callable[[str], None], seeds: int = SEEDS) -> TaskStudy:
    """Judges the tiers of a task.

    Args:
        name: Of the task.
        table: What every version did.
        say: Prints a line of progress.
        seeds: Cuts of the calibration.
    """
    short_versions = ladder(table)
    short_table = table.only(short_versions)
    cells: list[Cell] = []
    short: list[Cell] = []
    for seed in range(seeds):
        cells += _judged(table, seed)
        short += _judged(short_table, seed)
        say(f"{name}: seed {seed}, {sum(cell.degradation > cell.tolerance for cell in cells)} cells above tolerance")
    columns = (table.error, table.latency_s, table.cost_usd)
    means = [[float(column[:, v].mean()) for column in columns] for v in range(len(table.versions))]
    return TaskStudy(
        name=name,
        source=table.source,
        requests=len(table),
        judged=len(table) - int(len(table) * CALIBRATED),
        versions={one: (found[0], found[1], found[2]) for one, found in zip(table.versions, means, strict=True)},
        cells=tuple(cells),
        short=tuple(short),
        short_versions=short_versions,
        short_oracle={tolerance: oracle_share(short_table, tolerance) for tolerance in TOLERANCES},
        changes=tuple(changes(table)),
    )


def ladder(table: Calibration, steepest: float = LADDER) -> tuple[str, ...]:
    """The best version and those that cost no less than a share of what it costs."""
    cost = table.cost_usd.mean(axis=0)
    least = cost[table.best] / steepest
    return tuple(name for v, name in enumerate(table.versions) if least <= cost[v] <= cost[table.best])


def oracle_share(table: Calibration, tolerance: float) -> float:
    """Least mean cost of any choice of a version for each request within a tolerance, over the best version's.

    By Lagrange's dual, which bounds it from below: for every price of an error, the sum of each request's least.

    Args:
        table: Of the versions.
        tolerance: In points of error.
    """
    limit = float(table.error[:, table.best].mean()) + tolerance
    cost = table.cost_usd.mean(axis=0) / table.cost_usd[:, table.best].mean()
    prices = np.concatenate(([0.0], np.geomspace(1e-3, 1e3, 300)))
    return max(float((cost + price * table.error).min(axis=1).mean() - price * limit) for price in prices)


def changes(table: Calibration) -> list[Change]:
    """From each version to the next by cost, and to the best one."""
    order = np.argsort(table.cost_usd.mean(axis=0), kind="stable").tolist()
    pairs = list(itertools.pairwise(order))
    pairs += [(one, table.best) for one in order if one != table.best and (one, table.best) not in pairs]
    found = []
    for smaller, bigger in pairs:
        change = table.error[:, bigger] - table.error[:, smaller]
        found.append(
            Change(
                smaller=table.versions[smaller],
                bigger=table.versions[bigger],
                improves=float((change < 0.0).mean()),
                stays=float((change == 0.0).mean()),
                worsens=float((change > 0.0).mean()),
                error=float(change.mean()),
            )
        )
    return found


def _judged(table: Calibration, seed: int) -> list[Cell]:
    calibrated, judging = table.parts(int(len(table) * CALIBRATED), seed)
    asked = [Tolerance(value) for value in TOLERANCES]
    tiers = generate(calibrated, asked, seed=seed)
    singles = generate(calibrated, asked, forms=(Form.SINGLE,), seed=seed)
    return [_cell(judging, seed, tier, single, calibrated.best) for tier, single in zip(tiers, singles, strict=True)]


def _cell(judging: Calibration, seed: int, tier: Tier, single: Tier, best: int) -> Cell:
    result = outcome(tier.rule, judging)
    column = judging.latency_s if tier.objective is Objective.RESPONSE_TIME else judging.cost_usd
    values = result.latency_s if tier.objective is Objective.RESPONSE_TIME else result.cost_usd
    return Cell(
        seed=seed,
        objective=tier.objective,
        tolerance=tier.tolerance.value,
        form=tier.rule.form,
        bound=tier.bound.upper,
        degradation=float((result.error - judging.error[:, best]).mean()),
        value=float(values.mean()),
        best_value=float(column[:, best].mean()),
        single_value=float(column[:, single.rule.first].mean()),
    )


def falls(values: Sequence[float]) -> int:
    """How many values are below the one before."""
    return sum(after < before for before, after in itertools.pairwise(values))
