"""What becomes of a tier whose contract is broken: its class is answered by the best version that serves, alone.

A router demotes at once, on what serves the best version already, and tells the controller, which journals it, gives it
to routers that start anew and shows it to the policy: from the next tick on plans have the capacity. A demotion lasts
until the run ends, since what broke the contract is not mended by waiting: the tier is to be calibrated anew.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

import numpy as np
from pydantic import JsonValue

from serving.rules import Demotion, RouterTables, Rules

EVENT = "tier_demoted"
"""Of the journal."""


def best_serving(rules: Rules, tables: RouterTables, request_class: int, *, has_machines: bool = False) -> int:
    """The most accurate variant that serves a class; -1 where none does.

    Args:
        rules: In force.
        tables: Of the router.
        request_class: Row.
        has_machines: Only variants with a machine that serves, not those on serverless alone.
    """
    is_machine = ~tables.is_serverless
    serves = is_machine & (rules.serving > 0)
    if not has_machines:
        serves |= tables.is_serverless & ((rules.shares[request_class] > 0.0) | (rules.provisioned > 0))
    by_variant = (serves & tables.may_answer[request_class]).reshape(-1, tables.num_pools).any(axis=1)
    return int(np.where(by_variant, tables.accuracy, -1.0).argmax()) if by_variant.any() else -1


def without_tiers(rules: Rules, tables: RouterTables, demoted: Collection[int]) -> Rules:
    """Rules under which demoted classes go to the best version that serves, and the others where they went.

    Where it has no share yet, it is shared out by replicas. A class that nothing serves keeps its rules.

    Args:
        rules: As decided.
        tables: Of the router.
        demoted: Rows.
    """
    if not demoted:
        return rules
    shares, cascade_variant = rules.shares.copy(), rules.cascade_variant.copy()
    overflow_fraction = rules.overflow_fraction.copy()
    of_variant = np.repeat(np.arange(len(tables.variant_names)), tables.num_pools)
    for c in demoted:
        best = best_serving(rules, tables, c)
        if best < 0:
            continue
        serves = (of_variant == best) & tables.may_answer[c] & (tables.is_serverless | (rules.serving > 0))
        weight = np.where(serves, rules.shares[c], 0.0)
        if not weight.any():
            machines = np.where(serves & ~tables.is_serverless, rules.serving, 0)
            weight = (machines if machines.any() else serves).astype(np.float64)
        shares[c] = weight / weight.sum()
        cascade_variant[c] = -1
        if tables.overflow_option[c] < 0 or of_variant[tables.overflow_option[c]] != best:
            overflow_fraction[c] = 0.0
    return replace(rules, shares=shares, cascade_variant=cascade_variant, overflow_fraction=overflow_fraction)


class DemotionLedger:
    """The demotions of a run, as the controller knows them.

    Args:
        class_names: Of the run.
    """

    def __init__(self, class_names: tuple[str, ...]) -> None:
        self._names = class_names
        self._known: dict[int, str] = {}
        self._news: list[tuple[str, dict[str, JsonValue]]] = []

    @property
    def all(self) -> tuple[Demotion, ...]:
        """So far."""
        return tuple(Demotion(c, reason) for c, reason in self._known.items())

    @property
    def reasons(self) -> dict[str, str]:
        """Why, by class."""
        return {self._names[c]: reason for c, reason in self._known.items()}

    def hear(self, told: Iterable[Demotion], at_s: float) -> None:
        """Takes what a router tells."""
        for one in told:
            if one.request_class not in self._known:
                self._known[one.request_class] = one.reason
                name = self._names[one.request_class]
                self._news.append((EVENT, {"at_s": at_s, "request_class": name, "reason": one.reason}))

    def news(self) -> list[tuple[str, dict[str, JsonValue]]]:
        """Events to be journalled, each given once."""
        news, self._news = self._news, []
        return news

    def snapshot(self) -> dict[str, str]:
        """For a checkpoint."""
        return self.reasons

    def restore(self, snapshot: Mapping[str, str]) -> None:
        """Knows again what is in a checkpoint; classes of other names are left out."""
        self._known |= {self._names.index(name): reason for name, reason in snapshot.items() if name in self._names}
