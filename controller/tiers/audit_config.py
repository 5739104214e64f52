"""How a tier's guarantee is watched while it serves; `audit:` in the run file of `provisor serve`."""

from __future__ import annotations

from pydantic import Field

from controller.config import StrictModel


class AuditConfig(StrictModel):
    """Which requests of tiers the best version answers too, and when a tier is demoted."""

    share: float = Field(
        default=0.01, ge=0.0, le=1.0, description="of answered requests of tiers; the best version answers them too"
    )
    alpha: float = Field(
        default=0.001,
        ge=1e-9,
        le=0.5,
        description="probability that a tier which keeps its contract is ever demoted, in one life of the router",
    )
    backlog: int = Field(
        default=256, ge=1, le=100_000, description="audits that wait for an idle replica; beyond, the oldest is dropped"
    )
    remembered: int = Field(
        default=10_000, ge=1, le=1_000_000, description="audited answers that a right answer can still be told of"
    )
