"""What must hold before anything is changed on a cluster that is attached to; every fault is named with its remedy."""

from __future__ import annotations

from collections import Counter

from controller.catalog import Catalog, Profile
from controller.errors import ClusterError, mismatch, one_screen
from serving.mapping import OWN_APP, AttachMapping, MappedDeployment
from serving.survey import RUNNING, AppFacts, DeploymentFacts, Survey, selects


def check_attachable(
    mapping: AttachMapping,
    catalog: Catalog,
    survey: Survey,
    prefix: str,
    *,
    sets_targets: bool,
    has_autoscaler: bool = False,
) -> None:
    """Refuses a mapping that the cluster contradicts.

    Args:
        mapping: What is to be attached.
        catalog: Narrowed to it.
        survey: Of the cluster, just read.
        prefix: Route that our router takes.
        sets_targets: Whether replica targets will be set; without, only routing and placement must be possible.
        has_autoscaler: Whether the cluster's autoscaler takes requests for nodes with labels.

    Raises:
        ClusterError: Naming every fault and what to do about it.
    """
    faults = found_faults(mapping, catalog, survey, prefix, sets_targets=sets_targets, has_autoscaler=has_autoscaler)
    if faults:
        raise ClusterError(f"app '{mapping.app}' cannot be attached as the mapping says:\n{one_screen(faults)}")


def found_faults(
    mapping: AttachMapping,
    catalog: Catalog,
    survey: Survey,
    prefix: str,
    *,
    sets_targets: bool,
    has_autoscaler: bool = False,
) -> list[str]:
    """Every fault, one line each; arguments as for `check_attachable`."""
    app = survey.apps.get(mapping.app)
    if app is None:
        known = sorted(set(survey.apps) - {OWN_APP})
        return [mismatch("app", f"one of the applications on the cluster, {known}", mapping.app)]
    faults = [
        f"route {prefix}: expected to be free for our router, got application '{other.name}' there"
        for other in survey.apps.values()
        if other.route_prefix == prefix
    ]
    if mapping.control and not any(selects(mapping.control, node.labels) for node in survey.nodes):
        faults.append(mismatch("control", "labels that a node of the cluster carries", mapping.control))
    if sets_targets and not app.is_external:
        faults.append(
            f"app '{app.name}': expected external_scaler_enabled, got false, so nobody outside can set its replicas; "
            "redeploy it with external_scaler_enabled: true and without autoscaling_config "
            "(serve.run(..., external_scaler_enabled=True)), or decide without acting (--dry-run)"
        )
    profiles = {(p.variant, p.pool): p for p in catalog.profiles}
    for name, one in mapping.deployments.items():
        faults += _faults_of(name, one, mapping, app, survey, profiles[one.variant, one.pool], sets_targets)
    if sets_targets and mapping.request_nodes:
        faults += _demand_faults(mapping, app, has_autoscaler)
    if sets_targets:
        faults += _quota_faults(mapping, catalog, app)
    return faults


def _faults_of(
    name: str,
    one: MappedDeployment,
    mapping: AttachMapping,
    app: AppFacts,
    survey: Survey,
    profile: Profile,
    sets_targets: bool,
) -> list[str]:
    path = f"deployments.{name}"
    found = app.deployments.get(name)
    if found is None:
        return [mismatch(path, f"a deployment of '{app.name}', one of {sorted(app.deployments)}", name)]
    faults = []
    if sets_targets and found.has_autoscaling:
        faults.append(
            f"{path}: expected no autoscaling_config, got one, so Serve itself sets its replicas; "
            "redeploy it without, or decide without acting (--dry-run)"
        )
    # More calls than a deployment takes would wait in Serve, whose back-off lowers throughput under overload.
    calls = profile.concurrency * (profile.batch_max if one.input == "single" else 1)
    if calls > found.max_ongoing:
        faults.append(
            f"{path}: expected max_ongoing_requests >= {calls} (calls that the profile of '{one.variant}' on "
            f"'{one.pool}' sends to a replica at once), got {found.max_ongoing}"
        )
    return faults + _label_faults(path, one, mapping, found, survey)


def _label_faults(
    path: str, one: MappedDeployment, mapping: AttachMapping, found: DeploymentFacts, survey: Survey
) -> list[str]:
    if one.pool not in mapping.pools:
        return []
    labels = mapping.pools[one.pool].labels
    faults = [
        f"{path}: expected label_selector {key}={labels[key]} (pool '{one.pool}'), got {key}={wanted}"
        for key, wanted in found.selector.items()
        if key in labels and not selects({key: wanted}, labels)
    ]
    for replica in found.replicas:
        node = survey.node(replica.node_id)
        if replica.state == RUNNING and node is not None and not selects(labels, node.labels):
            shown = {key: node.labels.get(key) for key in labels}
            faults.append(
                f"{path}: expected its replicas on nodes with {dict(labels)} (pool '{one.pool}'), got one on "
                f"{node.address} with {shown}"
            )
    return faults


def _demand_faults(mapping: AttachMapping, app: AppFacts, has_autoscaler: bool) -> list[str]:
    """Whether nodes can be asked for."""
    faults = []
    if not has_autoscaler:
        faults.append(
            "request_nodes: expected a cluster with Ray's autoscaler of version 2, got none; leave it out, replicas "
            "that find no node still ask for one"
        )
    return faults + [
        f"deployments.{name}: expected a replica that needs some resource, so that a node can be asked for, got none "
        "(num_cpus 0); give it resources or leave request_nodes out"
        for name in mapping.deployments
        if name in app.deployments and not any(value > 0.0 for value in app.deployments[name].required.values())
    ]


def _quota_faults(mapping: AttachMapping, catalog: Catalog, app: AppFacts) -> list[str]:
    held: Counter[str] = Counter()
    for name, one in mapping.deployments.items():
        if name in app.deployments:
            held[one.pool] += app.deployments[name].target
    return [
        f"pools[{pool.name}].quota: expected at least {held[pool.name]} (replicas that stand now), got {pool.quota}; "
        "the first decision would take the others away"
        for pool in catalog.pools
        if held[pool.name] > pool.quota
    ]
