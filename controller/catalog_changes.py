"""Changes to a catalog that a scenario asks for: the same models and machines at other prices, delays and quotas.

For what-if questions ("spot 20 % dearer", "without GPUs"), for scenario suites over one measured catalog, and for
training over many catalogs at once. A changed figure says so in its provenance.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import Field

from controller.catalog import Catalog, Figure, Market, Profile, ResourcePool
from controller.config import StrictModel
from controller.errors import CatalogError, mismatch
from controller.validation import did_you_mean

Factor = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]


class CatalogChanges(StrictModel):
    """What differs from the catalog that a scenario names; nothing by default."""

    price_factor: dict[Market, Factor] = Field(
        default_factory=dict, description="multiplies what machines of a market, or calls and memory, cost"
    )
    launch_factor: Factor = Field(default=1.0, description="multiplies the launch time of machines")
    load_factor: Factor = Field(default=1.0, description="multiplies load, swap and cold-start times of variants")
    service_factor: dict[str, Factor] = Field(
        default_factory=dict, description="multiplies the service times of a variant everywhere"
    )
    quota: dict[str, Annotated[int, Field(ge=0)]] = Field(
        default_factory=dict, description="instances (serverless: concurrent calls) of a pool at most"
    )
    notice_s: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="notice before a spot machine is taken back"
    )
    without: tuple[str, ...] = Field(default=(), description="variants and pools that are left out")

    def applied_to(self, catalog: Catalog) -> Catalog:
        """The changed catalog, validated like any other; the same object where nothing changes.

        Raises:
            CatalogError: A name is unknown, or what is left is no catalog.
        """
        if self == CatalogChanges():
            return catalog
        variants, pools = [v.name for v in catalog.variants], [p.name for p in catalog.pools]
        _check_names("without", self.without, [*variants, *pools])
        _check_names("quota", self.quota, pools)
        _check_names("service_factor", self.service_factor, variants)
        kept_variants = [v for v in catalog.variants if v.name not in self.without]
        kept_pools = [self._pool(p) for p in catalog.pools if p.name not in self.without]
        profiles = [
            self._profile(profile)
            for profile in catalog.profiles
            if not {profile.variant, profile.pool} & set(self.without)
        ]
        for what, count in (("variant", len(kept_variants)), ("pool", len(kept_pools)), ("profile", len(profiles))):
            if not count:
                raise CatalogError(f"changes.without: expected to leave a {what}, got {list(self.without)}")
        changed: dict[str, Any] = {
            "variants": tuple(kept_variants),
            "pools": tuple(kept_pools),
            "profiles": tuple(profiles),
        }
        unchanged = {name: getattr(catalog, name) for name in Catalog.model_fields if name not in changed}
        return Catalog(**unchanged, **changed)

    def _pool(self, pool: ResourcePool) -> ResourcePool:
        factor = self.price_factor.get(pool.market, 1.0)
        prices = (
            "price_usd_per_hour",
            "usd_per_gb_s",
            "usd_per_request",
            "provisioned_usd_per_gb_s",
            "provisioned_compute_usd_per_gb_s",
        )
        changed: dict[str, object] = {name: _times(getattr(pool, name), factor) for name in prices}
        changed["launch_s"] = _times(pool.launch_s, self.launch_factor)
        changed["quota"] = self.quota.get(pool.name, pool.quota)
        if self.notice_s is not None and pool.notice_s is not None:
            changed["notice_s"] = pool.notice_s.model_copy(
                update={"value": self.notice_s, "measured": None, "derived": "changed by the scenario"}
            )
        return pool.model_copy(update=changed)

    def _profile(self, profile: Profile) -> Profile:
        service = self.service_factor.get(profile.variant, 1.0)
        changed: dict[str, object] = {
            "service_intercept_s": _times(profile.service_intercept_s, service),
            "service_slope_s": _times(profile.service_slope_s, service),
        }
        if profile.service_by_batch_s:
            changed["service_by_batch_s"] = {b: _times(s, service) for b, s in profile.service_by_batch_s.items()}
        for name in ("load_s", "swap_s", "cold_start_s"):
            changed[name] = _times(getattr(profile, name), self.load_factor)
        return profile.model_copy(update=changed)


def _times(figure: Figure | None, factor: float) -> Figure | None:
    """A figure times a factor, which its provenance then names."""
    if figure is None or factor == 1.0:
        return figure
    source = figure.measured or figure.derived
    derived = f"{figure.value:g} ({source}) x {factor:g}, changed by the scenario"
    return figure.model_copy(update={"value": figure.value * factor, "measured": None, "derived": derived})


def _check_names(field: str, names: Iterable[str], known: list[str]) -> None:
    for name in names:
        if name not in known:
            raise CatalogError(mismatch(f"changes.{field}", f"names of {known}", name) + did_you_mean(name, known))
