"""The tiers on offer, as `GET /v1/tiers` lists them."""

from __future__ import annotations

from pydantic import BaseModel, Field

from serving.inference import Shell


class TierEntry(BaseModel):
    """One tier: what it promises, the rule that keeps it, and what audits have shown."""

    request_class: str
    task: str
    tolerance: float
    is_relative: bool = Field(description="the tolerance is a share of the best version's error")
    objective: str
    variants: list[str] = Field(description="in the order in which they are asked")
    thresholds: list[float] = Field(description="confidence from which the answer of each but the last is final")
    is_concurrent: bool
    bound: float = Field(description="degradation that is not exceeded, at the confidence")
    confidence: float
    deadline_ms: float
    is_demoted: bool = Field(description="the bound was found broken; the best version answers alone")
    demoted_because: str | None
    audited: int = Field(description="requests that the best version answered as well, since the router began")
    differing: int = Field(description="of them, with different answers")
    labelled: int = Field(description="of them, with a right answer that a caller told")


def tier_entries(shell: Shell) -> list[TierEntry]:
    """In the order of the classes."""
    tables, audits = shell.tables, shell.reading().audits
    reasons = {one.request_class: one.reason for one in shell.demotions}
    counts = {} if audits is None else {"audited": audits.audited, "differing": audits.differing}
    counts |= {} if audits is None else {"labelled": audits.labelled}
    return [
        TierEntry(
            request_class=tables.class_names[c],
            task=tables.operators[c],
            tolerance=tier.tolerance,
            is_relative=tier.is_relative,
            objective=tier.objective,
            variants=list(tier.variants),
            thresholds=list(tier.thresholds),
            is_concurrent=tier.is_concurrent,
            bound=tier.bound,
            confidence=tier.confidence,
            deadline_ms=float(tables.slo_s[c]) * 1e3,
            is_demoted=c in reasons,
            demoted_because=reasons.get(c),
            **{name: int(counts[name][c]) if name in counts else 0 for name in ("audited", "differing", "labelled")},
        )
        for c, tier in enumerate(tables.tiers)
        if tier is not None
    ]
