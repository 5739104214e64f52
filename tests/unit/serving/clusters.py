"""What a foreign cluster looks like to a survey: two model deployments of one application on three nodes."""

from copy import deepcopy

from serving.survey import survey_of


def node(name, market, instance="m5.large", **more):
    labels = {"ray.io/node-id": name, "ray.io/market-type": market, "node.kubernetes.io/instance-type": instance}
    return {
        "NodeID": name,
        "Alive": True,
        "NodeManagerAddress": f"10.0.0.{len(name)}",
        "Labels": labels | more.pop("labels", {}),
        "Resources": {"CPU": 2.0, "memory": 8e9, f"node:{name}": 1.0} | more,
    }


def replica(node_id, state="RUNNING"):
    return {"state": state, "node_id": node_id, "actor_name": f"actor-{node_id}", "start_time_s": 1.0}


def deployment(name, target, replicas, **config):
    options = {"num_cpus": 1.0} | config.pop("options", {})
    return {
        "name": name,
        "target_num_replicas": target,
        "required_resources": {"CPU": options["num_cpus"]},
        "deployment_config": {"name": name, "max_ongoing_requests": 8, "ray_actor_options": options} | config,
        "replicas": replicas,
    }


NODES = [
    node("head", "on-demand", **{"node:__internal_head__": 1.0}),
    node("od", "on-demand"),
    node("spot", "spot"),
]

DETAILS = {
    "applications": {
        "theirs": {
            "route_prefix": "/theirs",
            "status": "RUNNING",
            "external_scaler_enabled": True,
            "deployment_topology": {"ingress_deployment": "Gate"},
            "deployments": {
                "Gate": deployment("Gate", 1, [replica("head")]),
                "resnet-small": deployment("resnet-small", 2, [replica("od")] * 2),
                "resnet-large": deployment(
                    "resnet-large", 1, [replica("spot")], options={"label_selector": {"ray.io/market-type": "spot"}}
                ),
            },
        },
        "other": {"route_prefix": "/", "status": "RUNNING", "deployments": {"web": deployment("web", 1, [])}},
    },
    "http_options": {"host": "127.0.0.1", "port": 8000},
}


def details(change=lambda found: None):
    """Serve's instance details, changed in place by a function of them."""
    found = deepcopy(DETAILS)
    change(found)
    return found


def survey(change=lambda found: None, nodes=NODES):
    return survey_of(details(change), nodes)
