"""Which deployments of somebody else's application are which options of our catalog: the file behind `--attach`.

The file names the application, the scenario it is served under, and for each deployment its variant and pool. What is
not named here is never touched.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from controller.catalog import Catalog, Name
from controller.config import StrictModel, load_yaml
from controller.errors import ConfigError, mismatch, one_screen

OWN_APP = "provisor"
"""Name of the application that our router is."""

Labels = dict[str, str]


class MappedDeployment(StrictModel):
    """One deployment: the option that it serves, and how it is called."""

    variant: Name
    pool: Name
    method: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="method that takes the input")] = (
        "__call__"
    )
    input: Literal["single", "batch"] = Field(
        default="single",
        description="single: one call per request, with its input; batch: one call per batch, with the list of inputs, "
        "which returns as many outputs",
    )


class MappedPool(StrictModel):
    """How nodes of a pool are told from others."""

    labels: Labels = Field(description="labels that each node of the pool carries, with these values")


class AttachMapping(StrictModel):
    """The whole file."""

    app: str = Field(min_length=1, description="application on the cluster")
    scenario: str = Field(min_length=1, description="name of a shipped scenario, or path, first beside this file")
    deployments: dict[str, MappedDeployment] = Field(min_length=1)
    pools: dict[Name, MappedPool] = Field(default_factory=dict, description="nodes of each pool; left out: not checked")
    request_nodes: bool = Field(
        default=False,
        description="ask Ray's autoscaler for the nodes that the plan needs, and keep them while it does; "
        "only where nobody else calls request_resources: a cluster keeps one such request",
    )
    control: Labels = Field(
        default_factory=dict, description="labels of the nodes that router and controller must run on; empty: any"
    )

    @model_validator(mode="after")
    def _whole(self) -> AttachMapping:
        if self.app == OWN_APP:
            raise ValueError(f"app: expected an application of somebody else, got '{OWN_APP}', which is ours")
        taken: dict[tuple[str, str], str] = {}
        for name, one in self.deployments.items():
            option = one.variant, one.pool
            if option in taken:
                raise ValueError(
                    f"deployments.{name}: expected each variant on a pool once, got '{one.variant}' on '{one.pool}' "
                    f"as for '{taken[option]}'"
                )
            taken[option] = name
        pools = {one.pool for one in self.deployments.values()}
        for pool in self.pools:
            if pool not in pools:
                raise ValueError(f"pools: expected pools of the deployments ({sorted(pools)}), got '{pool}'")
        return self


def load_mapping(path: Path | str) -> AttachMapping:
    """Reads a mapping; the scenario file that it names is looked for beside it first, then in the current directory.

    Raises:
        ConfigError: Naming every wrong field.
    """
    mapping = load_yaml(path, AttachMapping)
    beside = Path(path).parent / mapping.scenario
    is_path = "/" in mapping.scenario or mapping.scenario.endswith((".yaml", ".yml"))
    return mapping.model_copy(update={"scenario": str(beside)}) if is_path and beside.is_file() else mapping


def narrowed(catalog: Catalog, mapping: AttachMapping) -> Catalog:
    """The catalog with the mapped options alone; the same object where it has no others.

    Raises:
        ConfigError: A deployment is mapped to a variant, pool or profile that the catalog does not have.
    """
    variants, pools = {v.name for v in catalog.variants}, {p.name for p in catalog.pools}
    profiles = {(p.variant, p.pool) for p in catalog.profiles}
    wrong = []
    for name, one in mapping.deployments.items():
        path = f"deployments.{name}"
        if one.variant not in variants:
            wrong.append(mismatch(f"{path}.variant", f"one of {sorted(variants)}", one.variant))
        elif one.pool not in pools:
            wrong.append(mismatch(f"{path}.pool", f"one of {sorted(pools)}", one.pool))
        elif (one.variant, one.pool) not in profiles:
            wrong.append(f"{path}: expected a profile of '{one.variant}' on '{one.pool}' in the catalog, got none")
    wrong += _serverless(catalog, mapping)
    if wrong:
        raise ConfigError(f"mapping of '{mapping.app}' and catalog '{catalog.name}':\n{one_screen(wrong)}")
    mapped = {(one.variant, one.pool) for one in mapping.deployments.values()}
    if profiles == mapped:
        return catalog
    kept: dict[str, Any] = {
        "profiles": tuple(p for p in catalog.profiles if (p.variant, p.pool) in mapped),
        "pools": tuple(p for p in catalog.pools if any(p.name == pool for _, pool in mapped)),
        "variants": tuple(v for v in catalog.variants if any(v.name == variant for variant, _ in mapped)),
        "answers": None,
    }
    others: dict[str, Any] = {name: getattr(catalog, name) for name in Catalog.model_fields if name not in kept}
    return Catalog(**others, **kept)


def _serverless(catalog: Catalog, mapping: AttachMapping) -> list[str]:
    serverless = {p.name for p in catalog.pools if p.market.value == "serverless"}
    return [
        mismatch(f"deployments.{name}.pool", "a pool of machines, since a deployment has replicas", one.pool)
        for name, one in mapping.deployments.items()
        if one.pool in serverless
    ]
