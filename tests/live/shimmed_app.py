"""An application for Serve's own YAML, which the foreign cluster deploys with our policy; and who decides for it."""

import time

from ray import serve


class Model:
    def __call__(self, request):
        return "here"


class ServingController:
    """Decides what it was told, as of now or of a stated age."""

    def __init__(self):
        self.counts, self.age_s = {}, 0.0

    def decide(self, counts, age_s=0.0):
        self.counts, self.age_s = counts, age_s

    async def targets(self):
        return {"at_s": time.time() - self.age_s, "app": "shimmed", "targets": self.counts}


QUICK = {"graceful_shutdown_timeout_s": 1, "graceful_shutdown_wait_loop_s": 0.1, "ray_actor_options": {"num_cpus": 0}}
app = serve.deployment(Model).options(name="model", **QUICK).bind()

CONFIG = {
    "applications": [
        {
            "name": "shimmed",
            "route_prefix": "/shimmed",
            "import_path": "tests.live.shimmed_app:app",
            "autoscaling_policy": {
                "policy_function": "serving.shim:ProvisorPolicy",
                "policy_kwargs": {"app": "shimmed", "stale_after_s": 30, "fetch_every_s": 0.2},
            },
            "deployments": [
                {
                    "name": "model",
                    "autoscaling_config": {
                        "min_replicas": 0,
                        "max_replicas": 3,
                        "upscale_delay_s": 0,
                        "downscale_delay_s": 0,
                        "downscale_to_zero_delay_s": 0,
                    },
                }
            ],
        }
    ]
}
