"""Which variant and machine pools a scheme of fixed variants runs a class on."""

from __future__ import annotations

import numpy as np

from controller.arrays import ON_DEMAND, SERVERLESS, SPOT
from controller.compile import Setting
from controller.errors import ConfigError, mismatch
from controller.policies.levers import FixedChoice


def cheapest_choice(setting: Setting, choice: FixedChoice, c: int) -> tuple[int, list[int], list[int]]:
    """Variant of class `c`, its machine pools in the order they are filled, and its spot pools likewise.

    Raises:
        ConfigError: The named variant or pool does not exist, or the class has no machine option that fits the choice.
    """
    cat, wl = setting.catalog, setting.workload
    variants = indices_of("variant", choice.variant, setting.variant_names)
    pools = indices_of("pool", choice.pool, setting.pool_names)
    if choice.variant is not None and not (wl.allowed[c, variants[0]] & (cat.market != SERVERLESS)).any():
        variants = range(len(setting.variant_names))
    named: list[tuple[float, int, int]] = []
    spot: list[tuple[float, int, int]] = []
    for v in variants:
        if choice.variant is None and cat.accuracy[v] < wl.accuracy_floor[c]:
            continue
        for p in np.flatnonzero(wl.allowed[c, v] & (cat.market != SERVERLESS)).tolist():
            usd = float(cat.price_usd_per_s[p] * cat.service_s[v, p, 1] / cat.concurrency[v, p])
            if p in pools and (choice.pool is not None or cat.market[p] == ON_DEMAND):
                named.append((usd, v, p))
            if cat.market[p] == SPOT:
                spot.append((usd, v, p))
    if not named and choice.pool is None:
        named = spot
    if not named:
        expected = f"a machine pool that can answer class '{setting.class_names[c]}' within its promises"
        raise ConfigError(mismatch("pool", expected, choice.pool))
    variant = min(named)[1]
    return variant, [p for _, v, p in sorted(named) if v == variant], [p for _, v, p in sorted(spot) if v == variant]


def check_single_operators(setting: Setting, rule: str) -> None:
    """Refuses classes whose requests take several operators, for a rule that sizes one fleet per class.

    Raises:
        ConfigError: There is such a class.
    """
    for name, count in zip(setting.class_names, setting.workload.num_operators, strict=True):
        if count > 1:
            expected = f"'static' with replicas, or a class of your own, for class '{name}' of {count} operators"
            raise ConfigError(mismatch("policy", expected, rule))


def pool_order(setting: Setting, choice: FixedChoice, c: int, v: int) -> tuple[list[int], list[int]]:
    """Machine pools of a class on a variant in `cheapest_choice` order, and its spot pools; both may be empty."""
    cat = setting.catalog
    pools = indices_of("pool", choice.pool, setting.pool_names)
    allowed = np.flatnonzero(setting.workload.allowed[c, v] & (cat.market != SERVERLESS))
    usd = cat.price_usd_per_s[allowed] * cat.service_s[v, allowed, 1] / cat.concurrency[v, allowed]
    found = allowed[np.lexsort((allowed, usd))].tolist()
    spot = [p for p in found if cat.market[p] == SPOT]
    own = [p for p in found if p in pools and (choice.pool is not None or cat.market[p] == ON_DEMAND)]
    return own or (spot if choice.pool is None else []), spot


def indices_of(field: str, name: str | None, names: tuple[str, ...]) -> range:
    """Index of a name, or of all where it is None.

    Raises:
        ConfigError: No such name.
    """
    if name is None:
        return range(len(names))
    if name not in names:
        raise ConfigError(mismatch(field, f"one of {', '.join(names)}", name))
    return range(names.index(name), names.index(name) + 1)
