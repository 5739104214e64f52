"""`provisor profile --attach`: joins a cluster and measures the mapped deployments, one after the other.

Nothing of the application changes but, for its start times, the replica target of the deployment that is measured,
which is set back at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from controller.catalog import Catalog, Profile
from controller.config import versions
from controller.errors import UsageError, mismatch
from controller.scenario import load_scenario
from experiments.attached_cluster import joined
from experiments.attached_profile import Probe, Probed, judge_calls, probe_of, time_calls, time_starts
from experiments.profiling import Inputs
from serving.attach_checks import check_attachable
from serving.mapping import AttachMapping, load_mapping, narrowed
from serving.survey import RUNNING, Survey

_START_TIMEOUT_S = 180.0


@dataclass(frozen=True)
class ProbeOptions:
    """What `provisor profile --attach` was asked to do."""

    mapping: Path
    address: str
    deployments: tuple[str, ...] = ()  # empty: all that are mapped
    sizes: tuple[int, ...] | None = None
    concurrency: int | None = None
    repeats: int = 50
    warmup: int = 5
    starts: int = 3  # 0: start times are not measured


@dataclass(frozen=True)
class Attached:
    """A mapping with the catalog that its figures go into."""

    mapping: AttachMapping
    catalog: Catalog
    catalog_path: Path | None  # None for a shipped one


def attached_catalog(path: Path) -> Attached:
    """The mapping and the catalog of its scenario.

    Raises:
        ConfigError: They do not fit each other.
    """
    mapping = load_mapping(path)
    scenario = load_scenario(mapping.scenario)
    catalog = scenario.load_catalog()
    narrowed(catalog, mapping)
    file = Path(scenario.catalog)
    return Attached(mapping, catalog, file if file.is_file() else None)


def probe_all(options: ProbeOptions, attached: Attached, fed: Inputs, say: Callable[[str], None]) -> list[Probed]:
    """Measures every chosen deployment.

    Args:
        options: What to measure.
        attached: Of the same mapping.
        fed: What is sent.
        say: Prints one line of progress.

    Raises:
        ProvisorError: Something named is wrong, the cluster contradicts the mapping, or a call failed.
    """
    mapping = attached.mapping
    for name in options.deployments:
        if name not in mapping.deployments:
            raise UsageError(mismatch("--deployment", f"one of {sorted(mapping.deployments)}", name))
    with joined(options.address) as survey:
        check_attachable(mapping, narrowed(attached.catalog, mapping), survey, "", sets_targets=False)
        profiles = {(p.variant, p.pool): p for p in attached.catalog.profiles}
        chosen = options.deployments or tuple(mapping.deployments)
        probes = [_probe(name, options, mapping, profiles, survey) for name in chosen]
        return asyncio.run(_measured(probes, options, mapping, fed, survey, say))


def _probe(
    name: str,
    options: ProbeOptions,
    mapping: AttachMapping,
    profiles: dict[tuple[str, str], Profile],
    survey: Survey,
) -> Probe:
    mapped = mapping.deployments[name]
    found = survey.apps[mapping.app].deployments[name]
    running = sum(replica.state == RUNNING for replica in found.replicas)
    return probe_of(
        name,
        mapped,
        profiles[mapped.variant, mapped.pool],
        running,
        sizes=options.sizes,
        concurrency=options.concurrency,
        repeats=options.repeats,
        warmup=options.warmup,
    )


async def _measured(
    probes: Sequence[Probe],
    options: ProbeOptions,
    mapping: AttachMapping,
    fed: Inputs,
    survey: Survey,
    say: Callable[[str], None],
) -> list[Probed]:
    from serving.attached_call import AttachedOption

    app = survey.apps[mapping.app]
    done = []
    for probe in probes:
        name, mapped = probe.deployment, probe.mapped
        caller = AttachedOption(mapping.app, name, mapped.method, mapped.input == "batch").connect()
        sizes = ", ".join(map(str, probe.sizes))
        say(f"timing {name}: batches of {sizes}, {probe.concurrency} at once on each of {probe.replicas} replicas")
        services_s = await time_calls(caller, fed.values, probe)
        accuracy = await judge_calls(caller, fed, probe)
        starts_s: tuple[float, ...] = ()
        if options.starts and app.is_external and not app.deployments[name].has_autoscaling:
            say(f"starting {name} {options.starts} times")
            starts_s = await _starts(mapping.app, name, app.deployments[name].target, options.starts)
        elif options.starts:
            say(f"{name}: start times not measured, since the application sets its own replicas")
        done.append(Probed(probe, services_s, starts_s, accuracy, _where(name, mapping, survey)))
    return done


async def _starts(app: str, name: str, before: int, repeats: int) -> tuple[float, ...]:
    from serving import ray_compat

    controller = ray_compat.serve_controller()

    async def running() -> int:
        states = await ray_compat.replica_states(controller, app)
        return sum(s.deployment == name and s.state == RUNNING for s in states)

    async def set_target(count: int) -> None:
        await ray_compat.set_targets(controller, app, {name: count})

    return await time_starts(running, set_target, before, repeats, _START_TIMEOUT_S)


def _where(name: str, mapping: AttachMapping, survey: Survey) -> str:
    """Host class, date and versions of a measurement."""
    found = survey.apps[mapping.app].deployments[name]
    node = next((n for r in found.replicas if (n := survey.node(r.node_id)) is not None), None)
    kind = "a node" if node is None else f"a node with {node.resources.get('CPU', 0):g} CPU"
    labels = {k: v for k, v in (node.labels if node else {}).items() if "node-id" not in k}
    shown = f" ({', '.join(f'{key}={value}' for key, value in sorted(labels.items()))})" if labels else ""
    numbers: dict[str, Any] = dict(versions())
    day = datetime.now(UTC).date().isoformat()
    return (
        f"pool {mapping.deployments[name].pool}, {kind}{shown}, {day}, Ray {numbers['ray']}, Python {numbers['python']}"
    )
