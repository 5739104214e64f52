"""Which rows a leaderboard has, and how each is called."""

from __future__ import annotations

from dataclasses import dataclass

from experiments.benchmark import Case, Plan
from experiments.benchmark_config import ALL, MEAN, PROMISE


@dataclass(frozen=True)
class RowKey:
    """Which row."""

    scenario: str
    trace: str
    policy: str
    target: str

    @property
    def text(self) -> str:
        """As `--only` takes it."""
        return f"{self.scenario}/{self.trace}/{self.policy}@{self.target}"

    def cases(self, plan: Plan) -> list[Case]:
        """What the row is about."""
        return [
            case for case in plan.worlds if self.scenario in (ALL, case.scenario) and self.trace in (MEAN, case.trace)
        ]


def row_keys(plan: Plan) -> list[RowKey]:
    """All rows: by scenario, trace, target and policy; means where there are several traces or scenarios."""
    config = plan.config
    scenarios = list(dict.fromkeys(case.scenario for case in plan.worlds))
    traces = list(dict.fromkeys(case.trace for case in plan.worlds))
    places = [(s, t) for s in scenarios for t in (*traces, *([MEAN] if len(traces) > 1 else []))]
    if len(scenarios) > 1:
        places.append((ALL, MEAN))
    targets = (*config.compared_to, PROMISE)
    return [RowKey(s, t, p, target) for s, t in places for target in targets for p in config.row_names]


def overall_key(plan: Plan, policy: str, target: str) -> RowKey:
    """The row of a policy over everything in a plan."""
    scenarios = list(dict.fromkeys(case.scenario for case in plan.worlds))
    traces = list(dict.fromkeys(case.trace for case in plan.worlds))
    is_one = len(plan.worlds) == 1
    return RowKey(scenarios[0] if len(scenarios) == 1 else ALL, traces[0] if is_one else MEAN, policy, target)


def case_keys(plan: Plan, policy: str, target: str) -> list[RowKey]:
    """The rows of a policy on every trace of every scenario by itself."""
    return [RowKey(case.scenario, case.trace, policy, target) for case in plan.worlds]


def reference_of(plan: Plan, target: str) -> str:
    """The policy that costs are relative to at a target."""
    return plan.config.compared_to[0] if target == PROMISE else target
