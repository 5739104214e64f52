"""What else a decision could have been, and what a world model expects of each.

Predictions are made after the decision was applied and never inside one: they take a world model, which simulates.
Every alternative goes through the same guard as the decision, so what is compared could really have been done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

import numpy as np
from pydantic import Field

from controller.arrays import F64, I64, ON_DEMAND, SERVERLESS, SPOT, ObservationArrays, PlanArrays
from controller.compile import Setting
from controller.config import StrictModel
from controller.loop import DecisionLoop
from controller.plan import replicas_of
from controller.policies.held import HeldPlans
from controller.ports import Rollout, WorldModel

HORIZON_FACTOR: Final = 2.5
"""Predictions look this many forecast horizons ahead: half of it is left once what is launched now serves."""

MOST_ALTERNATIVES: Final = 5
LEAST_ALTERNATIVES: Final = 3

CHOSEN: Final = "chosen"
STANDS: Final = "as it stands"

WorldModelFactory = Callable[[Setting], WorldModel]


class Question(NamedTuple):
    """What is to be predicted: one decision; its arrays have one env and are the receiver's own."""

    tick: int  # of the journal
    observation: ObservationArrays
    plan: PlanArrays  # after the guard
    others: Mapping[str, PlanArrays]  # plans of whoever else decided at that tick, by name


class Expected(StrictModel):
    """What a plan is expected to lead to when it is held over the horizon; none stands where nothing can be said."""

    name: str
    replicas: dict[str, int] = Field(description="after the guard, by option")
    cost_usd: float | None
    cost_usd_error: float | None = Field(description="standard error of the mean, likewise below")
    attainment: float | None
    attainment_error: float | None
    accuracy: float | None
    accuracy_error: float | None


class Prediction(StrictModel):
    """Of one tick: the chosen plan first, then the alternatives; or why there is none."""

    tick: int = Field(ge=0)
    horizon_s: float = Field(default=0.0, ge=0, description="seconds of the run")
    replications: int = Field(default=0, ge=0, description="simulated runs behind each mean; 0: unknown")
    expected: tuple[Expected, ...] = ()
    alike: dict[str, str] = Field(
        default_factory=dict, description="plans of others that came out as one that is expected something of, by name"
    )
    missing: str = Field(default="", description="why nothing was predicted")


def question_of(
    tick: int, observation: ObservationArrays, plan: PlanArrays, others: Mapping[str, PlanArrays] | None = None
) -> Question:
    """A question with arrays of its own: those of a decision loop are overwritten by the next decision."""
    return Question(
        tick,
        ObservationArrays._make(array.copy() for array in observation),
        _copied(plan),
        {name: _copied(one) for name, one in (others or {}).items()},
    )


def horizon_of(setting: Setting) -> float:
    """Seconds that predictions look ahead: whole ticks of the run, at least one."""
    control = setting.control
    return max(1, round(HORIZON_FACTOR * control.horizon_s / control.tick_s)) * control.tick_s


def predict(setting: Setting, model: WorldModel, question: Question) -> Prediction:
    """Asks a world model what a decision and its alternatives would lead to, each held over `horizon_of`."""
    names, plans, alike = alternatives(setting, question)
    horizon_s = horizon_of(setting)
    rollout = model.rollout(question.observation, plans, horizon_s)
    expected = tuple(_expected(setting, name, plans, rollout, k) for k, name in enumerate(names))
    replications = int(getattr(model, "num_replications", 0))
    return Prediction(
        tick=question.tick, horizon_s=horizon_s, replications=replications, expected=expected, alike=alike
    )


def alternatives(setting: Setting, question: Question) -> tuple[list[str], PlanArrays, dict[str, str]]:
    """The chosen plan and at least three others, guarded, no two alike; fewer where the guard makes all alike.

    Returns:
        K names, the chosen plan first, K plans, and whose plans are alike: name to name of the plan that is kept.
    """
    candidates = [(CHOSEN, question.plan), *_candidates(setting, question)]
    plans = PlanArrays._make(np.concatenate(arrays) for arrays in zip(*(p for _, p in candidates), strict=True))
    seen = ObservationArrays._make(np.repeat(array, len(candidates), axis=0) for array in question.observation)
    guarded = _copied(DecisionLoop(setting, HeldPlans(plans), len(candidates)).decide(seen).plan)
    # What was decided stands as it was, whatever a guard without memory would say of it.
    for own, chosen in zip(guarded, question.plan, strict=True):
        own[0] = chosen[0]
    kept: list[int] = []
    alike: dict[str, str] = {}
    # The last two only fill up.
    for k in range(len(candidates)):
        name = candidates[k][0]
        same = next((other for other in kept if _is_same(guarded, k, other)), None)
        enough = LEAST_ALTERNATIVES if k >= len(candidates) - _FILLERS else MOST_ALTERNATIVES
        if same is None and len(kept) <= enough:
            kept.append(k)
        elif same is not None and name in question.others:
            alike[name] = candidates[same][0]
    return [candidates[k][0] for k in kept], PlanArrays._make(array[kept] for array in guarded), alike


_FILLERS = 2


def _candidates(setting: Setting, question: Question) -> Iterator[tuple[str, PlanArrays]]:
    seen, plan = question.observation, question.plan
    yield STANDS, _with_replicas(plan, seen.ready[0] + seen.starting[0] + seen.doomed[0])
    yield from question.others.items()
    dearest, cheapest = _dearest(setting, plan), _cheapest(setting, plan, seen)
    for count, word in ((1, "one"), (2, "two")):
        if count == 2:
            yield "on demand instead of spot", _on_demand(setting, plan)
        for option, sign, text in ((dearest, -1, "less of"), (cheapest, 1, "more of")):
            changed = plan.replicas[0].copy()
            if option is not None:
                changed[option] = max(0, changed[option] + sign * count)
            where = "nothing" if option is None else _option_name(setting, option)
            yield f"{word} {text} {where}", _with_replicas(plan, changed)


def _option_name(setting: Setting, option: tuple[int, int]) -> str:
    return f"{setting.variant_names[option[0]]}@{setting.pool_names[option[1]]}"


def _usd_per_request(setting: Setting, plan: PlanArrays) -> F64:
    """(V, P) dollars per request of a busy machine at the plan's batches; infinite for serverless and unusable."""
    catalog = setting.catalog
    rps = _replica_rps(setting, plan)
    is_machine = (catalog.market != SERVERLESS)[None, :] & (rps > 0.0)
    price = np.broadcast_to(catalog.price_usd_per_s[None, :], rps.shape)
    return np.asarray(np.divide(price, rps, out=np.full(rps.shape, np.inf), where=is_machine), np.float64)


def _replica_rps(setting: Setting, plan: PlanArrays) -> F64:
    catalog, batch = setting.catalog, plan.batch_size[0]
    seconds = np.take_along_axis(catalog.service_s, batch[:, :, None].clip(1, catalog.service_s.shape[2] - 1), axis=2)
    rate = np.where(catalog.usable, batch * catalog.concurrency, 0)
    return np.asarray(rate / np.where(catalog.usable, seconds[:, :, 0], 1.0), np.float64)


def _dearest(setting: Setting, plan: PlanArrays) -> tuple[int, int] | None:
    """Planned option of the pool whose machines cost most, the variant of most replicas there."""
    planned = plan.replicas[0] * (setting.catalog.market != SERVERLESS)[None, :]
    pools = np.flatnonzero(planned.any(axis=0))
    if not pools.size:
        return None
    p = int(pools[np.argmax(setting.catalog.price_usd_per_s[pools])])
    return int(np.argmax(planned[:, p])), p


def _cheapest(setting: Setting, plan: PlanArrays, seen: ObservationArrays) -> tuple[int, int] | None:
    """Cheapest option per request in a pool that has room and is open, among the planned variants where there are."""
    allowed = setting.workload.allowed.any(axis=0)
    room = plan.replicas[0].sum(axis=0) < np.minimum(setting.limits.pool_max, setting.catalog.quota)
    usd = np.where(allowed & (room & seen.available[0])[None, :], _usd_per_request(setting, plan), np.inf)
    is_planned = plan.replicas[0].any(axis=1)[:, None]
    for choice in (np.where(is_planned, usd, np.inf), usd):
        if np.isfinite(choice).any():
            v, p = np.unravel_index(int(np.argmin(choice)), choice.shape)
            return int(v), int(p)
    return None


def _on_demand(setting: Setting, plan: PlanArrays) -> PlanArrays:
    """The plan with its spot machines replaced by as much capacity on demand, each variant where it is cheapest."""
    catalog, replicas = setting.catalog, plan.replicas[0].copy()
    rps = _replica_rps(setting, plan)
    usd = np.where((catalog.market == ON_DEMAND)[None, :], _usd_per_request(setting, plan), np.inf)
    for v in np.flatnonzero(np.isfinite(usd).any(axis=1)).tolist():
        spot = (catalog.market == SPOT) & (replicas[v] > 0)
        if spot.any():
            p = int(np.argmin(usd[v]))
            replicas[v, p] += int(np.ceil(float((replicas[v] * rps[v])[spot].sum()) / float(rps[v, p]) - 1e-9))
            replicas[v, spot] = 0
    return _with_replicas(plan, replicas)


def _with_replicas(plan: PlanArrays, replicas: I64) -> PlanArrays:
    return _copied(plan)._replace(replicas=np.asarray(replicas, np.int64)[None].copy())


def _copied(plan: PlanArrays) -> PlanArrays:
    return PlanArrays._make(array.copy() for array in plan)


def _is_same(plans: PlanArrays, a: int, b: int) -> bool:
    """Whether two plans differ in nothing but their reasons and the need they were made for."""
    pairs = [getattr(plans, name) for name in PlanArrays._fields if name not in ("reasons", "need_rps")]
    return all(np.array_equal(array[a], array[b]) for array in pairs)


def _expected(setting: Setting, name: str, plans: PlanArrays, rollout: Rollout, k: int) -> Expected:
    values = {field: float(array[k]) for field, array in rollout._asdict().items()}
    return Expected(
        name=name,
        replicas=replicas_of(plans, k, setting.variant_names, setting.pool_names),
        **{field: float(f"{value:.6g}") if np.isfinite(value) else None for field, value in values.items()},
    )
