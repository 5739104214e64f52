"""A Ray of somebody else's: a process that starts it, deploys two applications, and then does what its input says.

One line in, one of JSON out: `state`, `set NAME N`, `delete`, `deploy`, `actors`, `shim`, `decide N AGE`. Run as a
script; but for the last two it knows nothing of ours.
"""

import asyncio
import json
import logging
import os
import sys

import patience  # beside this script
import ray
from ray import serve

logging.getLogger("ray").setLevel(logging.ERROR)
logging.getLogger("ray.serve").setLevel(logging.ERROR)


class Model:
    """Takes a time that depends on the model, and says who answered."""

    def __init__(self, name, seconds):
        self.name, self.seconds = name, seconds

    async def __call__(self, value):
        await asyncio.sleep(self.seconds)
        return {"model": self.name, "got": value}

    async def predict(self, values):
        if "raise" in values:
            raise KeyError("no such input")
        await asyncio.sleep(self.seconds * len(values))
        return [{"model": self.name, "got": value} for value in values]


class Gate:
    """What answers their own route; it is not mapped."""

    def __init__(self, small, large):
        self.small = small

    async def __call__(self, request):
        return await self.small.remote("theirs")


class Bystander:
    """Another application, which must not notice anything."""

    def __call__(self, request):
        return os.getpid()


QUICK = {"graceful_shutdown_timeout_s": 1, "graceful_shutdown_wait_loop_s": 0.1, "ray_actor_options": {"num_cpus": 0}}


def deploy():
    small, large = (
        serve.deployment(Model).options(name=name, num_replicas=1, max_ongoing_requests=8, **QUICK).bind(name, seconds)
        for name, seconds in (("small", 0.02), ("large", 0.05))
    )
    gate = serve.deployment(Gate).options(name="gate", **QUICK).bind(small, large)
    serve.run(gate, name="theirs", route_prefix="/theirs", external_scaler_enabled=True)


def shimmed():
    """Deploys an application by Serve's own YAML, scaled by our policy; returns who decides for it."""
    from ray.serve.context import _get_global_client
    from ray.serve.schema import ServeDeploySchema

    from tests.live import shimmed_app

    decider = ray.remote(shimmed_app.ServingController).options(
        name="ServingController", namespace="provisor", num_cpus=0
    )
    made = decider.remote()
    ray.get(made.decide.remote({"model": 2}))
    _get_global_client().deploy_apps(ServeDeploySchema.model_validate(shimmed_app.CONFIG), _blocking=True)
    return made


def state(controller):
    details = ray.get(controller.get_serve_instance_details.remote())
    return {
        name: {
            "route": app["route_prefix"],
            "targets": {key: one["target_num_replicas"] for key, one in app["deployments"].items()},
            "pids": {
                key: sorted(r.get("pid") or 0 for r in one["replicas"]) for key, one in app["deployments"].items()
            },
        }
        for name, app in details["applications"].items()
    }


def main():
    port = int(sys.argv[1])
    found = patience.init(
        address="local",
        num_cpus=2,
        labels={"market": "on-demand"},
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100 << 20,
        _temp_dir=sys.argv[2],
    )
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
    deploy()
    serve.run(serve.deployment(Bystander).options(name="web", **QUICK).bind(), name="bystander", route_prefix="/web")
    print(json.dumps({"address": found.address_info["gcs_address"]}), flush=True)
    from ray.serve._private.common import DeploymentID

    for line in sys.stdin:
        controller = ray.get_actor("SERVE_CONTROLLER_ACTOR", namespace="serve")
        word, *rest = line.split()
        answer = "done"
        if word == "state":
            answer = state(controller)
        elif word == "set":
            identity = DeploymentID(name=rest[0], app_name="theirs")
            ray.get(controller.update_deployment_replicas.remote(identity, int(rest[1])))
        elif word == "delete":
            serve.delete("theirs")
        elif word == "deploy":
            deploy()
        elif word == "shim":
            decider = shimmed()
        elif word == "decide":
            ray.get(decider.decide.remote({"model": int(rest[0])}, float(rest[1])))
        elif word == "actors":
            answer = [a["name"] for a in ray.util.list_named_actors(all_namespaces=True)]
        print(json.dumps(answer), flush=True)
    ray.shutdown()


if __name__ == "__main__":
    main()
