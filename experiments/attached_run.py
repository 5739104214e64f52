"""The composition root of a live run on an application that somebody else deployed.

Our router is an application of our own; what of theirs changes is the replica targets of the mapped deployments, and
these are put back when we leave, unless they are to be kept. Everything is checked before anything is changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from controller.catalog import Catalog
from controller.compile import Setting, compile_scenario
from controller.errors import ScenarioError, UsageError, mismatch
from controller.identity import require_own_packages
from controller.policies.registry import make_policy
from controller.scenario import MeasuredSpans, Scenario
from envs.world import Cell, World
from experiments.attached_cluster import read_survey
from experiments.live import LiveOptions, LiveResult, live_world, speeded
from experiments.placeholders import placeholders_in
from experiments.rollout import Start, prepare
from experiments.serve import LiveRun
from experiments.signals import signals_ignored, signals_interrupt
from serving.mapping import AttachMapping, load_mapping, narrowed
from serving.node_demand import ReplicaNeeds

KEEP, RESTORE = "keep", "restore"


def serve_attached(options: LiveOptions, say: Callable[[str], None]) -> LiveResult:
    """Joins, checks, serves until the duration ends or a signal arrives, and leaves what is theirs as it was.

    Args:
        options: With `attach`.
        say: Prints one line of progress.

    Raises:
        ProvisorError: Something that was named is wrong, or the cluster contradicts the mapping; nothing was changed.
    """
    require_own_packages()
    mapping, scenario, catalog = attached_scenario(options)
    setting = compile_scenario(scenario, catalog)
    for policy in (options.policy, options.named_rule):
        make_policy(policy, setting)
    world = live_world(scenario, options, setting)
    with signals_interrupt():
        prepare(world, [Cell(world.days[0], options.seed)])
        return _on_cluster(options, scenario, world, mapping, say)


def attached_scenario(options: LiveOptions) -> tuple[AttachMapping, Scenario, Catalog]:
    """The mapping, its scenario and the catalog of the mapped options alone.

    Raises:
        UsageError: Options that do not go together.
        ScenarioError: The scenario runs at another speed than real time.
        ConfigError: The mapping does not fit the catalog, or that still holds placeholders and decisions are to act.
    """
    if options.attach is None:
        raise UsageError(mismatch("--attach", "a mapping file", None))
    if options.address is None:
        raise UsageError(mismatch("--address", "host:port of the cluster, with --attach", None))
    if options.models:
        raise UsageError(
            mismatch("--model", "no model with --attach: the application has its own", dict(options.models))
        )
    if options.is_replaying and options.inputs is None:
        raise UsageError(mismatch("--input", "what to send to the application, with --attach and --replay", None))
    mapping = load_mapping(options.attach)
    scenario = speeded(replace(options, scenario=mapping.scenario))
    if scenario.speed != 1.0:
        raise ScenarioError(
            mismatch("speed", "1 with --attach, where machines and service times are real", scenario.speed)
        )
    catalog = narrowed(scenario.load_catalog(), mapping)
    unknown = placeholders_in(catalog)
    if unknown and not options.is_holding:
        raise UsageError(
            f"catalog '{catalog.name}': expected known figures before decisions act, got {len(unknown)} placeholders "
            f"({', '.join(unknown[:3])}, ...); fill them in (provisor profile --attach) or decide without acting "
            "(--mode replay)"
        )
    return mapping, scenario, catalog


def _on_cluster(
    options: LiveOptions, scenario: Scenario, world: World, mapping: AttachMapping, say: Callable[[str], None]
) -> LiveResult:
    from serving import cluster as clusters
    from serving.app import APP_NAME
    from serving.attach_checks import check_attachable
    from serving.attached import replica_needs
    from serving.ray_compat import has_autoscaler

    say(f"joining Ray at {options.address}")
    cluster = clusters.join_cluster(str(options.address), {}, options.port, clusters.own_code(), starts_serve=False)
    say(clusters.node_loss_text())
    before: dict[str, int] = {}
    try:
        survey = read_survey()
        prefix, acts = cluster.route_prefix, not options.is_holding
        check_attachable(
            mapping, world.setting.source, survey, prefix, sets_targets=acts, has_autoscaler=has_autoscaler()
        )
        app = survey.apps[mapping.app]
        found = {name: app.deployments[name].target for name in mapping.deployments}
        before = found if acts and options.on_exit == RESTORE else {}
        say(f"attached to '{mapping.app}': " + ", ".join(f"{name} {count}" for name, count in found.items()))
        live = AttachedRun(options, scenario, world, cluster, {}, say)
        live.mapping, live.found = mapping, found
        live.needs = replica_needs(mapping, app) if mapping.request_nodes and acts else None
        result = asyncio.run(live.run())
    finally:
        with signals_ignored():
            try:
                _leave(mapping, before, say, asks=mapping.request_nodes and not options.is_holding)
            finally:
                cluster.close(APP_NAME)
    return live.compared(result)


def _leave(mapping: AttachMapping, before: Mapping[str, int], say: Callable[[str], None], *, asks: bool) -> None:
    """Stops our controller first, so that nobody sets targets after they were put back, and asks for no more nodes."""
    from serving import ray_compat
    from serving.actuator import AWAY
    from serving.attached import restore_targets
    from serving.controller_start import kill_controller

    kill_controller()
    if asks and ray_compat.has_autoscaler():
        ray_compat.request_nodes([])
    if not before:
        return
    say("restoring replica targets: " + ", ".join(f"{name} {count}" for name, count in before.items()))
    try:
        failed = restore_targets(ray_compat.serve_controller(), mapping.app, before)
    except AWAY as error:
        failed = [str(error)]
    for line in failed:
        say(f"warning: not restored: {line}")


class AttachedRun(LiveRun):
    """One run in front of deployments of somebody else."""

    mapping: AttachMapping
    found: Mapping[str, int]  # replica targets when we came
    needs: Mapping[str, ReplicaNeeds] | None  # where nodes are asked for

    def _node_needs(self) -> Mapping[str, ReplicaNeeds] | None:
        return self.needs

    def _application(self) -> tuple[Any, Any]:
        from serving.app import build_attached
        from serving.attached import attached_layout, attached_options

        setting = self._world.setting
        layout = attached_layout(self.mapping, setting.source)
        options = attached_options(self.mapping, layout)
        return build_attached(setting, options, self._cell.env_seed, layout, self._options.audit), layout

    async def _spans(self, layout: Any) -> MeasuredSpans | None:
        # Nothing of theirs is started to be measured: start times are those of the catalog.
        return None

    def _setting_with(self, spans: MeasuredSpans | None) -> Setting:
        return self._world.setting

    def _start_of(self, world: World) -> Start:
        start = prepare(world, [self._cell])
        replicas = np.zeros_like(start.replicas)
        variants, pools = world.setting.variant_names, world.setting.pool_names
        for name, one in self.mapping.deployments.items():
            replicas[0, variants.index(one.variant), pools.index(one.pool)] = self.found[name]
        return replace(start, replicas=replicas)

    def _inputs(self) -> tuple[list[Any], list[Any] | None]:
        from experiments.profiling import look_here, read_inputs

        look_here()
        fed = read_inputs(self._options.inputs)
        return fed.values, fed.labels

    def _resolved(self) -> dict[str, Any]:
        attached = {"attach": self.mapping.model_dump(mode="json"), "on_exit": self._options.on_exit}
        return super()._resolved() | attached
