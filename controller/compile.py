"""Compiles a scenario's catalog, workload and limits into the arrays of the decision path."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from controller.arrays import (
    F64,
    I64,
    MARKETS,
    SERVERLESS,
    SHAPE_CELLS,
    AnswerArrays,
    Bool,
    CatalogArrays,
    ControlArrays,
    LimitArrays,
    StrictGuard,
    StrictLimits,
    WorkloadArrays,
)
from controller.batching import overflow_options, spare_rps, step_overflow_options
from controller.catalog import Catalog, Distribution, Figure, Market
from controller.compile_limits import compile_limits, compile_strict_limits, new_memory
from controller.errors import CatalogError, ScenarioError
from controller.scenario import MeasuredSpans, Scenario
from controller.tiers.compiled import TierArrays, check_tiers, compile_tiers, overflow_within_tiers, within_tiers
from controller.workflows import CompiledWorkflows, check_served_alone, hops
from controller.workload import RequestClass, Workflow


@dataclass(frozen=True)
class Setting:
    """A scenario in array form: all that both worlds need besides arrivals and spot availability."""

    scenario: Scenario
    source: Catalog
    catalog: CatalogArrays
    workload: WorkloadArrays
    limits: LimitArrays
    control: ControlArrays
    zones: tuple[str, ...]
    answers: AnswerArrays
    strict: StrictLimits | None = None
    tiers: TierArrays | None = None  # where a class has one

    @property
    def shape(self) -> tuple[int, int, int]:
        """(V, P, C)."""
        num_classes, num_variants, num_pools = self.workload.allowed.shape
        return num_variants, num_pools, num_classes

    @property
    def variant_names(self) -> tuple[str, ...]:
        """Names along the V axis."""
        return tuple(v.name for v in self.source.variants)

    @property
    def pool_names(self) -> tuple[str, ...]:
        """Names along the P axis."""
        return tuple(p.name for p in self.source.pools)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names along the C axis."""
        return tuple(c.name for c in self.scenario.workload.classes)


def compile_scenario(
    scenario: Scenario, catalog: Catalog | None = None, measured: MeasuredSpans | None = None
) -> Setting:
    """Array form of a scenario.

    Args:
        scenario: The scenario; its own catalog is loaded unless one is given.
        catalog: A catalog to use instead, already validated.
        measured: In place of the scenario's own. With either, the catalog is the one `at_speed` makes.

    Returns:
        The setting, in catalog order.

    Raises:
        ScenarioError: A class could be answered by no option within its SLO.
        CatalogError: The file of the catalog's measured answers was not read.
    """
    catalog = scenario.load_catalog() if catalog is None else catalog
    shapes: list[Distribution] = []
    compiled, zones = _compile_catalog(catalog, shapes)
    answers = _compile_answers(catalog)
    variants = tuple(v.name for v in catalog.variants)
    tiers = compile_tiers(scenario.workload.classes, variants, compiled, answers)
    workload = _compile_workload(scenario, catalog, compiled)
    if tiers is not None:
        tiers = tiers._replace(may_answer=workload.allowed)
        workload = _kept_to_tiers(workload, compiled, tiers, scenario.workload.classes)
    unscaled = ControlArrays(
        tick_s=scenario.control.tick_s,
        ticks_per_decision=scenario.control.ticks_per_decision,
        horizon_s=scenario.control.horizon_s,
        retry_after_s=scenario.control.retry_after_s,
        day_s=86400.0,
    )
    speed = scenario.speed
    control = ControlArrays(
        tick_s=unscaled.tick_s / speed,
        ticks_per_decision=unscaled.ticks_per_decision,
        horizon_s=unscaled.horizon_s / speed,
        retry_after_s=unscaled.retry_after_s / speed,
        day_s=unscaled.day_s / speed,
    )
    limits = compile_limits(scenario.limits, catalog, speed)
    strict = compile_strict_limits(scenario.limits, catalog, speed, control)
    if (spans := measured or scenario.measured) is not None:
        compiled = at_speed(compiled, speed, spans.start_s, spans.swap_s)
    return Setting(scenario, catalog, compiled, workload, limits, control, zones, answers, strict, tiers)


def limits_for(setting: Setting, num_envs: int) -> LimitArrays:
    """A setting's limits for a run of `num_envs` envs, with a memory of its own where some need one."""
    if setting.strict is None:
        return setting.limits
    return setting.limits._replace(strict=StrictGuard(setting.strict, new_memory(num_envs, setting.shape[1])))


def at_speed(catalog: CatalogArrays, speed: float, measured_start_s: float, measured_swap_s: float) -> CatalogArrays:
    """The catalog as a live run at `speed` sees it, for both worlds.

    Control-time spans (emulated launch delay, notice, keep-alive, billing minimum, release lag) shrink by `speed`;
    money per second grows by it, since one live second is billed as `speed` seconds. Service times and SLOs stay. The
    start and swap of a replica are
    what was measured live, whatever the catalog's load times say.

    Args:
        catalog: The catalog at speed 1.
        speed: Control seconds per live second, > 0.
        measured_start_s: Measured seconds from creating a replica to its first answer.
        measured_swap_s: Measured seconds from stopping one replica to the first answer of another in its slot.

    Returns:
        The transformed arrays.
    """
    return catalog._replace(
        load_s=np.where(catalog.usable, measured_start_s, 0.0),
        swap_s=np.where(catalog.usable, measured_swap_s, 0.0),
        launch_s=catalog.launch_s / speed,
        price_usd_per_s=catalog.price_usd_per_s * speed,
        min_billing_s=catalog.min_billing_s / speed,
        release_lag_s=catalog.release_lag_s / speed,
        notice_s=catalog.notice_s / speed,
        keep_alive_s=catalog.keep_alive_s / speed,
        usd_per_gb_s=catalog.usd_per_gb_s * speed,
        usd_per_request=catalog.usd_per_request * speed,
        provisioned_usd_per_gb_s=catalog.provisioned_usd_per_gb_s * speed,
        provisioned_compute_usd_per_gb_s=catalog.provisioned_compute_usd_per_gb_s * speed,
    )


def _value(figure: Figure | None) -> float:
    return 0.0 if figure is None else figure.value


def _shape_row(shapes: list[Distribution], shape: Distribution) -> int:
    if shape not in shapes:
        shapes.append(shape)
    return shapes.index(shape)


def _compile_catalog(catalog: Catalog, shapes: list[Distribution]) -> tuple[CatalogArrays, tuple[str, ...]]:
    variant_row = {v.name: i for i, v in enumerate(catalog.variants)}
    pool_row = {p.name: i for i, p in enumerate(catalog.pools)}
    zones = tuple(dict.fromkeys(p.zone for p in catalog.pools if p.market is Market.SPOT and p.zone is not None))
    by_option = (len(catalog.variants), len(catalog.pools))
    largest = max(p.batch_max for p in catalog.profiles)
    service_s = np.full((*by_option, largest + 1), np.inf)
    usable, shape_row, cold_row = (
        np.zeros(by_option, np.bool_),
        np.zeros(by_option, np.int64),
        np.zeros(by_option, np.int64),
    )
    batch_max, concurrency = np.zeros(by_option, np.int64), np.zeros(by_option, np.int64)
    load_s, swap_s, cold_start_s = np.zeros(by_option), np.zeros(by_option), np.zeros(by_option)
    for profile in catalog.profiles:
        at = variant_row[profile.variant], pool_row[profile.pool]
        usable[at] = True
        for batch in range(1, largest + 1):
            service_s[at][batch] = profile.service_s(min(batch, profile.batch_max))
        shape_row[at] = _shape_row(shapes, profile.service_shape)
        cold_row[at] = _shape_row(shapes, profile.cold_shape)
        batch_max[at], concurrency[at] = profile.batch_max, profile.concurrency
        load_s[at], swap_s[at], cold_start_s[at] = (
            profile.load_s.value,
            _value(profile.swap_s),
            _value(profile.cold_start_s),
        )
    pools = catalog.pools
    launch_row = np.array([_shape_row(shapes, p.launch_shape) for p in pools])

    def column(values: list[float]) -> F64:
        return np.array(values, np.float64)

    arrays = CatalogArrays(
        accuracy=column([v.accuracy.value for v in catalog.variants]),
        cells=np.array([v.cells for v in catalog.variants], np.int64),
        usable=usable,
        service_s=service_s,
        service_shape=shape_row,
        batch_max=batch_max,
        concurrency=concurrency,
        load_s=load_s,
        swap_s=swap_s,
        cold_start_s=cold_start_s,
        cold_shape=cold_row,
        market=np.array([MARKETS.index(p.market.value) for p in pools], np.int64),
        price_usd_per_s=column([_value(p.price_usd_per_hour) / 3600 for p in pools]),
        launch_s=column([p.launch_s.value for p in pools]),
        launch_shape=launch_row,
        min_billing_s=column([_value(p.min_billing_s) for p in pools]),
        release_lag_s=column([_value(p.release_lag_s) for p in pools]),
        quota=np.array([p.quota for p in pools], np.int64),
        notice_s=column([_value(p.notice_s) for p in pools]),
        zone=np.array([zones.index(p.zone) if p.market is Market.SPOT and p.zone else -1 for p in pools], np.int64),
        keep_alive_s=column([_value(p.keep_alive_s) for p in pools]),
        memory_gb=column([p.memory_gb.value for p in pools]),
        usd_per_gb_s=column([_value(p.usd_per_gb_s) for p in pools]),
        usd_per_request=column([_value(p.usd_per_request) for p in pools]),
        provisioned_usd_per_gb_s=column([_value(p.provisioned_usd_per_gb_s) for p in pools]),
        provisioned_compute_usd_per_gb_s=column([_value(p.provisioned_compute_usd_per_gb_s) for p in pools]),
        billing_step_s=column([_value(p.billing_step_s) or 1.0 for p in pools]),
        shapes=np.stack([shape.table(SHAPE_CELLS) for shape in shapes]),
    )
    return arrays, zones


def _compile_answers(catalog: Catalog) -> AnswerArrays:
    table = catalog.answers
    if table is None:
        return AnswerArrays(np.zeros((0, len(catalog.variants))), np.zeros((0, len(catalog.variants))))
    if table.file is not None:
        raise CatalogError(f"answers.file: expected a catalog whose rows were read by load_catalog, got '{table.file}'")
    names = [v.name for v in catalog.variants]
    return AnswerArrays(
        *(np.stack([table.column(rows, v) for v in names], axis=1) for rows in (table.confidence, table.right))
    )


def _compile_workload(scenario: Scenario, catalog: Catalog, compiled: CatalogArrays) -> WorkloadArrays:
    classes = scenario.workload.classes
    workflows = {w.name: w for w in scenario.workload.workflows}
    shape = (len(classes), *compiled.usable.shape)
    allowed, network_s, egress_usd = np.zeros(shape, np.bool_), np.zeros(shape), np.zeros(shape)
    collage = np.zeros(shape, np.bool_)
    flows = CompiledWorkflows(scenario, catalog)
    hop_s, hop_usd = hops(catalog)
    is_collage, is_machine = compiled.cells[:, None] > 1, compiled.market != SERVERLESS
    for c, request_class in enumerate(classes):
        flow = workflows[request_class.workflow]
        check_served_alone(request_class, flow)
        network_s[c], egress_usd[c] = _network(request_class, flow, catalog)
        fits = compiled.service_s[:, :, 1] + network_s[c] <= request_class.slo_s
        right = (flows.operator[c] >= 0)[:, None]
        accurate = compiled.accuracy[:, None] >= request_class.accuracy_floor
        may_answer = compiled.usable & right & fits & (accurate | (request_class.floor == "mean"))
        allowed[c] = may_answer & ~is_collage
        if len(flow.operators) == 1:
            collage[c] = may_answer & is_collage & is_machine
        _check_answerable(request_class, flow, allowed[c], compiled.accuracy, flows.operator[c])
    workload = WorkloadArrays(
        share=np.array([c.share for c in classes]),
        slo_s=np.array([c.slo_s for c in classes]),
        attainment_target=np.array([c.attainment_target for c in classes]),
        accuracy_floor=np.array([c.accuracy_floor for c in classes]),
        floor_each=np.array([c.floor == "each" for c in classes]),
        value_usd=np.array([c.value_usd for c in classes]),
        queue_limit=np.array([c.queue_limit for c in classes], np.int64),
        drop_at_deadline=np.array([c.drop_at_deadline for c in classes]),
        allowed=allowed,
        collage=collage,
        network_s=network_s,
        egress_usd=egress_usd,
        overflow_option=np.full(len(classes), -1),
        step_overflow=np.full(allowed.shape[:2], -1),
        spare_rps=np.zeros(len(classes)),
        num_operators=flows.num_operators,
        operator=flows.operator,
        feeds=flows.feeds,
        num_inputs=flows.num_inputs,
        rank_bits=flows.rank_bits,
        answer_accuracy=flows.answer_accuracy,
        hop_s=hop_s,
        hop_usd=hop_usd,
    )
    return workload._replace(
        overflow_option=overflow_options(compiled, workload),
        step_overflow=step_overflow_options(compiled, workload),
        spare_rps=spare_rps(compiled, workload),
    )


def _kept_to_tiers(
    workload: WorkloadArrays, compiled: CatalogArrays, tiers: TierArrays, classes: tuple[RequestClass, ...]
) -> WorkloadArrays:
    workload = within_tiers(workload, tiers)
    check_tiers(workload, compiled, tiers, classes)
    allowed = overflow_within_tiers(workload, compiled, tiers)
    return workload._replace(
        overflow_option=overflow_options(compiled, workload._replace(allowed=allowed)),
        step_overflow=step_overflow_options(compiled, workload),
    )


def _check_answerable(request_class: RequestClass, flow: Workflow, allowed: Bool, accuracy: F64, operator: I64) -> None:
    best = 1.0
    for index, name in enumerate(flow.operators):
        can = allowed.any(axis=1) & (operator == index)
        if not can.any():
            of_operator = f" for operator '{name}'" if len(flow.operators) > 1 else ""
            raise ScenarioError(
                f"workload.classes[{request_class.name}].slo_s: expected an option{of_operator} that answers within "
                f"it, got {request_class.slo_s}"
            )
        best *= float(accuracy[can].max())
    if best < request_class.accuracy_floor:
        raise ScenarioError(
            f"workload.classes[{request_class.name}].accuracy_floor: "
            f"expected at most {best:.4g} (best variant within the SLO), "
            f"got {request_class.accuracy_floor}"
        )


def _network(request_class: RequestClass, flow: Workflow, catalog: Catalog) -> tuple[F64, F64]:
    """Seconds and dollars between the source site and an option, (V, P) each: of the request and of the answer.

    With several operators, only of the request where they begin, and only of the answer where they end.
    """
    begins = set(flow.operators) - {target for _, target, _ in flow.edges}
    ends = set(flow.operators) - {source for source, _, _ in flow.edges}
    links = {(link.source, link.target): link for link in catalog.links}
    delay_s = np.zeros((len(catalog.variants), len(catalog.pools)))
    usd = np.zeros_like(delay_s)
    for p, pool in enumerate(catalog.pools):
        for source, target, is_request in (
            (request_class.source_site, pool.site, True),
            (pool.site, request_class.source_site, False),
        ):
            link = links.get((source, target))
            if link is None:
                continue
            for v, variant in enumerate(catalog.variants):
                if variant.operator not in (begins if is_request else ends):
                    continue
                size = variant.input_bytes.value if is_request else variant.output_bytes.value
                delay_s[v, p] += link.delay_s.value + size / link.bytes_per_s.value
                usd[v, p] += size / 1e9 * link.usd_per_gb.value
    return delay_s, usd
