"""What a live run is asked for, the stretch of a trace it replays, and how it is compared with its simulated twin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from controller.catalog import Market
from controller.compile import Setting, compile_scenario
from controller.errors import ConfigError, ScenarioError, TraceError, UsageError, mismatch
from controller.journal import Journal
from controller.policies.registry import GENERALIST, rule_behind
from controller.scenario import MeasuredSpans, Scenario, load_scenario
from controller.tiers.audit_config import AuditConfig
from controller.trust.config import TrustConfig
from controller.trust.mode import Mode
from envs.world import Cell, World, WorldChoice, build_world
from experiments.results import ResultRow, Tally
from experiments.rollout import Start, roll
from experiments.run_config import PolicyChoice, policy_labels
from traces.capture import read_capture
from traces.readers import write_npz

if TYPE_CHECKING:
    from serving.aws.terms import AwsTerms
    from serving.load import LoadRecord, Schedule

MOST_RPS = 25.0
"""Rates above this are thinned: beyond it a run on two cores measures Ray, not the policy."""


ARRIVALS = "arrivals.npz"
WORLD_MODEL = "envs.world_model:SimulatedWorldModel"
"""What predicts the outcome of live decisions, for their receipts."""


@dataclass(frozen=True)
class LiveOptions:
    """What `provisor serve` was asked to do."""

    scenario: str = "demo"
    policy: PolicyChoice = GENERALIST
    rule: PolicyChoice | None = None  # None: the one behind the policy
    choice: WorldChoice = field(default_factory=WorldChoice)
    is_replaying: bool = False
    duration_s: float | None = None
    speed: float = 1.0
    start_hour: float = 0.0
    seed: int = 0
    address: str | None = None
    port: int = 8000
    metrics_port: int = 0
    has_local_nodes: bool = False
    node_terms: AwsTerms | None = None  # on which machines of EC2 are bought as nodes
    function_terms: AwsTerms | None = None  # on which functions of Lambda take what overflows
    mode: Mode | None = None  # None: as the last run in the same folder, else `active`, else `shadow` on a new catalog
    trust: TrustConfig = field(default_factory=TrustConfig)
    audit: AuditConfig = field(default_factory=AuditConfig)
    has_admin: bool = True
    admin_host: str = "127.0.0.1"
    admin_port: int = 0  # 0 for any free one
    token_file: Path | None = None
    has_rehearsals: bool = False
    out: Path = Path("runs/serve")
    models: Mapping[str, str] = field(default_factory=dict)
    attach: Path | None = None  # mapping of an application of somebody else
    on_exit: str = "restore"  # or "keep": its replica targets when we leave
    inputs: str | None = None  # what a replay sends; None: the images of the zoo
    world_model: str | None = WORLD_MODEL

    @cached_property
    def named_rule(self) -> PolicyChoice:
        """What drives where the policy may not.

        Raises:
            ConfigError: The policy is written in another form.
            PolicyFileError: The policy file is damaged.
        """
        return rule_behind(self.policy) if self.rule is None else self.rule

    @property
    def has_nodes(self) -> bool:
        """Whether every instance is a node of the cluster, which the run starts and ends."""
        return self.has_local_nodes or self.node_terms is not None

    @property
    def is_holding(self) -> bool:
        """Whether nothing that is decided is carried out, for as long as the mode stays what it is asked to be."""
        return self.mode is Mode.REPLAY


@dataclass(frozen=True)
class LiveResult:
    """What a live run came to."""

    rows: tuple[ResultRow, ...]  # live, then simulated; empty without a replay
    journal: Path
    status: dict[str, Any]
    record: LoadRecord | None
    schedule: Schedule | None
    is_partial: bool


def require_unnamed(scenario: str | None, run_file: str | None) -> None:
    """Refuses a second scenario beside that of a mapping.

    Raises:
        UsageError: One was named.
    """
    for option, value in (("--scenario", scenario), ("RUN.yaml", run_file)):
        if value is not None:
            raise UsageError(mismatch(option, "nothing with --attach, whose mapping names the scenario", value))


def require_bought(terms: AwsTerms, setting: Setting) -> None:
    """Refuses pools that a run on machines of EC2 cannot buy, before anything is started.

    Raises:
        ConfigError: A pool has no terms, or its nodes are somebody else's.
    """
    from serving.aws.terms import purchases

    catalog = setting.scenario.load_catalog()
    bought = purchases(terms, catalog)
    for pool, most in zip(catalog.pools, setting.limits.pool_max, strict=True):
        if pool.market is not Market.SERVERLESS and pool.name not in bought and most > 0:
            wanted = "provisor with --nodes aws, or a limit of 0 for the pool"
            raise ConfigError(mismatch(f"pools.{pool.name}.node_owner", wanted, pool.node_owner))


def speeded(options: LiveOptions) -> Scenario:
    """The scenario at the run's speed.

    Raises:
        UsageError: An option is out of range.
        ScenarioError: The scenario has several routers, or a speed where what is bought is real.
    """
    if not (np.isfinite(options.speed) and options.speed > 0):
        raise UsageError(mismatch("--speed", "a number > 0", options.speed))
    if options.duration_s is not None and options.duration_s <= 0:
        raise UsageError(mismatch("--duration", "seconds > 0", options.duration_s))
    if options.is_replaying and options.duration_s is None:
        raise UsageError(mismatch("--duration", "seconds, with --replay", None))
    if not 0 <= options.start_hour < 24:
        raise UsageError(mismatch("--start-hour", "an hour in 0..24", options.start_hour))
    scenario = load_scenario(options.scenario)
    if scenario.control.routers > 1:
        raise ScenarioError(mismatch("control.routers", "1 for a live run, which has one", scenario.control.routers))
    speed = scenario.speed * options.speed
    if speed != 1.0 and (options.node_terms is not None or options.function_terms is not None):
        raise ScenarioError(mismatch("speed", "1 with aws: what is real takes the time it takes", speed))
    return scenario.model_copy(update={"speed": speed})


def setting_at_speed(scenario: Scenario, spans: MeasuredSpans | None) -> Setting:
    """The setting of both worlds; before anything was measured, with replicas that start at once."""
    return compile_scenario(scenario, measured=spans or MeasuredSpans(start_s=0.0, swap_s=0.0))


def live_world(scenario: Scenario, options: LiveOptions, setting: Setting) -> World:
    """The chosen stretch of the trace, beginning at the start hour and thinned to what two cores can serve."""
    world = build_world(scenario, options.choice, setting)
    skipped = round(options.start_hour * 3600 / scenario.speed / world.bin_s)
    rates = world.rate_rps[:, skipped:]
    world = replace(world, rate_rps=rates, days=world.days[:1])
    begin = int(float(world.start_s([Cell(world.days[0], 0)])[0]) / world.bin_s + 1e-9)
    span = rates.shape[1] - begin if options.duration_s is None else int(options.duration_s / world.bin_s) + 1
    needed = 0.0 if options.duration_s is None or not options.is_replaying else options.duration_s
    if begin >= rates.shape[1] or (rates.shape[1] - begin) * world.bin_s < needed - 1e-9:
        left_s = max(0.0, (rates.shape[1] - begin) * world.bin_s)
        raise UsageError(mismatch("--duration", f"at most {left_s:.0f} s from the start hour on", options.duration_s))
    peak = float(rates[0, begin : begin + max(1, span)].max())
    thin = min(1.0, MOST_RPS / peak) if peak > 0 else 1.0
    return replace(world, rate_rps=np.ascontiguousarray(rates * thin), scale=world.scale * thin)


def write_arrivals(journal: Path) -> Path | None:
    """Writes what a run was asked for beside its journal, as a trace; None where nobody asked for anything."""
    try:
        return write_npz(read_capture(Journal(journal)).trace, journal.with_name(ARRIVALS))
    except TraceError:
        return None


def who_drove(options: LiveOptions, rule_share: float) -> tuple[PolicyChoice, str]:
    """What a run's twin is simulated with, and what its rows are called: the rule, where that drove all the time.

    So it does in shadow, in which a policy begins that never saw such a catalog.
    """
    label = policy_labels([options.policy])[0]
    if rule_share < 1.0 or options.named_rule == options.policy:
        return options.policy, label
    return options.named_rule, f"{policy_labels([options.named_rule])[0]} in place of {label}"


def result_rows(world: World, start: Start, result: LiveResult, options: LiveOptions) -> tuple[ResultRow, ...]:
    """The live minutes as the journal tells them, and, unless they were cut short, the simulator's of the same ones."""
    live = Tally(world.setting, 1)
    ticks = 0
    most = int((options.duration_s or np.inf) / world.setting.control.tick_s + 1e-9)
    for tick in Journal(result.journal).ticks():
        if tick.observation.tick[0] > 0:
            live.observed(tick.observation)
            ticks += 1
        if ticks == most:
            break
        live.decided(tick.plan)
    trace, day, seed = world.trace_name, start.cells[0].day, options.seed
    decide_s = result.status["decide_s"]
    decide_ms = float(np.quantile(decide_s, 0.99)) * 1e3 if decide_s else None
    drove, label = who_drove(options, float(live.ruled[0]) / max(live.ticks, 1))
    rows = [live.row(0, policy=f"{label} (live)", trace=trace, day=day, seed=seed, decide_ms_p99=decide_ms)]
    if ticks and not result.is_partial:
        twin = roll(world, start, drove, ticks=ticks)
        rows.append(twin.row(0, policy=f"{label} (simulated)", trace=trace, day=day, seed=seed))
    return tuple(rows)
