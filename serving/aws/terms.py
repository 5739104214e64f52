"""Where and how machines of EC2 are bought for a run: `aws:` in a run file, or a file of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from controller.catalog import Catalog, Market, ResourcePool
from controller.config import StrictModel, load_yaml
from controller.errors import ConfigError, mismatch

Tag = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[\w .:/=+@-]+$")]


class Choice(StrictModel):
    """A kind of machine in a zone."""

    instance_type: str = Field(pattern=r"^[a-z0-9-]+\.[a-z0-9-]+$", description="such as c5.xlarge")
    zone: str = Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d[a-z]$", description="such as us-east-1a")


class PoolTerms(StrictModel):
    """How one pool is bought."""

    order: tuple[Choice, ...] = Field(
        min_length=1, description="tried in this order: what a machine of the pool may be, the catalog's kind first"
    )
    image_id: str | None = Field(default=None, description="in place of that of all pools")


class FunctionTerms(StrictModel):
    """How functions of Lambda are made and called."""

    role_arn: str = Field(pattern=r"^arn:aws[a-z-]*:iam::\d{12}:role/.+$", description="what functions may do")
    runtime: str = Field(default="python3.12", pattern=r"^python3\.\d+$")
    architecture: Literal["x86_64", "arm64"] = "x86_64"
    layers: tuple[str, ...] = Field(
        default=(), description="ARNs with versions; numpy and safetensors for the digits, or what a model imports"
    )
    endpoint_url: str | None = Field(default=None, description="of a stand-in of Lambda alone")
    timeout_s: int = Field(default=30, ge=1, le=900, description="of one call")
    spend_usd_per_hour: float = Field(default=1.0, gt=0.0, description="calls beyond it are not made")
    burst_usd: float = Field(default=0.05, gt=0.0, description="that may be spent at once after a quiet time")


class AwsTerms(StrictModel):
    """An account's side of a run. No secret is among it: credentials come from boto3's own chain."""

    region: str = Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")
    endpoint_url: str | None = Field(default=None, description="of a stand-in, for rehearsals")
    image_id: str = Field(pattern=r"^ami-[0-9a-z]+$", description="has Python, this version of Ray, and provisor")
    subnets: dict[str, str] = Field(min_length=1, description="by zone")
    security_groups: tuple[str, ...] = Field(min_length=1, description="ids")
    instance_profile: str | None = Field(default=None, description="name; what machines may do themselves")
    key_name: str | None = None
    join_address: str = Field(
        pattern=r"^[A-Za-z0-9.-]+:\d{1,5}$", description="host:port of the cluster, as a new machine reaches it"
    )
    setup: tuple[str, ...] = Field(default=(), description="shell lines run on a new machine before it joins")
    tags: dict[Tag, str] = Field(default={}, description="on everything that is bought, beside our own")
    pools: dict[str, PoolTerms] = Field(default={}, description="pools bought otherwise than the catalog says")
    queue_url: str | None = Field(default=None, description="of the SQS queue that EC2's events are sent to")
    functions: FunctionTerms | None = Field(default=None, description="of Lambda, for what overflows")
    on_rebalance: Literal["ignore", "drain"] = Field(
        default="ignore", description="what a rebalance recommendation, which is no notice yet, leads to"
    )
    join_timeout_s: float = Field(
        default=300.0, gt=0, description="a machine that has not joined by then is given back"
    )

    @model_validator(mode="after")
    def _zones_have_subnets(self) -> AwsTerms:
        for name, pool in self.pools.items():
            for choice in pool.order:
                if choice.zone not in self.subnets:
                    raise ValueError(
                        mismatch(f"pools.{name}.order", f"a zone of subnets ({', '.join(self.subnets)})", choice.zone)
                    )
        if any(name.startswith(OURS) for name in self.tags):
            raise ValueError(mismatch("tags", f"none that begins with {OURS}", sorted(self.tags)))
        return self


OURS = "provisor:"
"""Tags that begin so are ours; by them alone we know what we own."""


class Purchase(StrictModel):
    """All that buying one pool needs."""

    pool: str
    is_spot: bool
    image_id: str
    order: tuple[Choice, ...]


def purchases(terms: AwsTerms, catalog: Catalog) -> dict[str, Purchase]:
    """How each machine pool of a catalog that is ours to buy is bought, in the catalog's order.

    Raises:
        ConfigError: A pool is not of the catalog, or has neither terms of its own nor a type and zone that can be had.
    """
    others = ("ray_autoscaler", "kuberay")
    machines = {p.name: p for p in catalog.pools if p.market is not Market.SERVERLESS and p.node_owner not in others}
    for name in terms.pools:
        if name not in machines:
            wanted = f"a machine pool whose nodes nobody else owns ({', '.join(machines) or 'none'})"
            raise ConfigError(mismatch("aws.pools", wanted, name))
    return {name: _purchase(terms, pool) for name, pool in machines.items()}


def load_terms(path: str | Path) -> AwsTerms:
    """Terms from a YAML file.

    Raises:
        ConfigError: The file is unreadable or wrong.
    """
    return load_yaml(path, AwsTerms)


def _purchase(terms: AwsTerms, pool: ResourcePool) -> Purchase:
    own = terms.pools.get(pool.name)
    if own is None:
        zones = (pool.zone,) if pool.zone in terms.subnets else tuple(terms.subnets) if pool.zone is None else ()
        if not zones or "." not in pool.instance_type:
            have = f"{pool.instance_type} in zone {pool.zone}"
            wanted = f"terms (order) for pool {pool.name}, or a type and a zone of aws.subnets in the catalog"
            raise ConfigError(mismatch(f"aws.pools.{pool.name}", wanted, have))
        order = tuple(Choice(instance_type=pool.instance_type, zone=zone) for zone in zones)
        own = PoolTerms(order=order)
    return Purchase(
        pool=pool.name,
        is_spot=pool.market is Market.SPOT,
        image_id=own.image_id or terms.image_id,
        order=own.order,
    )
