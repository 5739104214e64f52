"""The bare two-hop Serve application that the router is measured against. Imported on use: it needs Ray."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from ray import serve

from serving.replica import Replica

front = FastAPI()


class Asked(BaseModel):
    """Body of a request."""

    input: Any


@serve.ingress(front)
class BareIngress:
    """Hands each request to the replica and its output back, nothing else."""

    def __init__(self, replica: Any) -> None:
        self._replica = replica

    @front.post("/v1/infer")
    async def infer(self, asked: Asked) -> dict[str, int]:
        """The model's output."""
        answers = await self._replica.infer.remote([asked.input], 0.0)
        return {"output": answers[0].output}


def bare_application(spec: Any, concurrency: int) -> Any:
    """The bound application: ingress and one replica of the model `spec` with so many requests at a time."""
    deploy: Any = serve.deployment
    replica = deploy(Replica).options(
        name="bare-replica", max_ongoing_requests=concurrency, ray_actor_options={"num_cpus": 0}
    )
    ingress = deploy(BareIngress).options(
        name="bare-ingress", max_ongoing_requests=1000, ray_actor_options={"num_cpus": 0}
    )
    return ingress.bind(replica.bind(spec, concurrency))
