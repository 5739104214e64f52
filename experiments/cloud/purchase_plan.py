"""What a run on EC2 would buy at first, and what that costs an hour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controller.catalog import Catalog
from envs.world import Cell, World
from experiments.rollout import prepare
from serving.aws.machines import Launched, Machines
from serving.aws.terms import AwsTerms, Purchase, purchases


@dataclass(frozen=True)
class Line:
    """One pool of a plan."""

    pool: str
    market: str
    order: str  # kinds of machines, as they are tried
    count: int
    usd_per_hour: float  # of one

    @property
    def total_usd_per_hour(self) -> float:
        """Of all."""
        return self.count * self.usd_per_hour


def first_purchase(terms: AwsTerms, catalog: Catalog, counts: Mapping[str, int]) -> list[Line]:
    """What is bought for so many machines of each pool, in the catalog's order.

    Args:
        terms: Of the account.
        catalog: Prices and markets.
        counts: Machines by pool.

    Raises:
        ConfigError: A pool cannot be bought on these terms.
    """
    pools = {pool.name: pool for pool in catalog.pools}
    lines = []
    for name, buy in purchases(terms, catalog).items():
        price = pools[name].price_usd_per_hour
        order = " > ".join(f"{one.instance_type} {one.zone}" for one in buy.order)
        usd = 0.0 if price is None else price.value
        lines.append(Line(name, pools[name].market.value, order, counts.get(name, 0), usd))
    return lines


def first_machines(world: World, seed: int) -> dict[str, int]:
    """Machines that a live run of a world begins with, by pool."""
    replicas = prepare(world, [Cell(world.days[0], seed)]).replicas[0]
    return {name: int(replicas[:, p].sum()) for p, name in enumerate(world.setting.pool_names)}


def calls_of(terms: AwsTerms, buys: Mapping[str, Purchase], counts: Mapping[str, int], client: Any) -> list[str]:
    """The calls that would change something, in a dry run; nothing is made but calls that look.

    Args:
        terms: Of the account.
        buys: How pools are bought.
        counts: Machines by pool.
        client: Of EC2.
    """
    told: list[str] = []

    def tell(name: str, parameters: Mapping[str, Any]) -> None:
        told.append(f"{name} {_shown(parameters)}")

    machines = Machines(client, "RUN", terms, buys, is_dry=True, tell=tell)
    for pool, count in counts.items():
        if count > 0 and pool in buys:
            made: Launched = machines.launch(pool, count, f"token-of-{pool}")
            if made.fault is not None:
                told.append(f"{pool}: {made.text}")
    return told


def _shown(value: Any) -> str:
    """Parameters on a line; user data by its size."""
    if isinstance(value, Mapping):
        inner = ", ".join(
            f"{key}: {f'<{len(one)} bytes>' if key == 'UserData' else _shown(one)}" for key, one in value.items()
        )
        return f"{{{inner}}}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(_shown(one) for one in value)}]"
    return str(value)
