"""How our router calls a deployment of somebody else's application.

A call takes what it takes: nothing is emulated. What their code raises is a fault of the model, which no repeat mends;
everything else that goes wrong (a replica that died, a full queue) may be tried again elsewhere.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from ray.exceptions import RayActorError, RayTaskError

from controller.errors import shown
from serving import ray_compat
from serving.model_object import plain
from serving.replica import ModelFaultError


@dataclass(frozen=True)
class AttachedOption:
    """A mapped deployment as the router calls it; travels to it as a constructor argument."""

    app: str
    deployment: str
    method: str
    takes_batch: bool

    def connect(self) -> AttachedCaller:
        """A caller; only inside the process that calls."""
        handle = ray_compat.deployment_handle(self.deployment, self.app)
        return AttachedCaller(self, handle.options(method_name=self.method))


class AttachedCaller:
    """Calls one deployment.

    Args:
        option: What is called.
        handle: Serve handle of the method.
    """

    def __init__(self, option: AttachedOption, handle: Any) -> None:
        self._option, self._handle = option, handle

    async def infer(self, batch: list[Any], limit_s: float) -> list[Any]:
        """Outputs of one batch.

        Args:
            batch: Inputs.
            limit_s: Seconds after which the call is given up.

        Raises:
            ModelFaultError: Their code raised, or returned another number of outputs.
            TimeoutError: The limit has passed.
        """
        try:
            return await asyncio.wait_for(self._outputs(batch), limit_s)
        except RayTaskError as error:
            # A replica that dies is both kinds of error in some versions.
            if isinstance(error, RayActorError):
                raise
            raise ModelFaultError(shown(error)) from error

    async def _outputs(self, batch: list[Any]) -> list[Any]:
        if not self._option.takes_batch:
            return [plain(value) for value in await asyncio.gather(*[self._call(value) for value in batch])]
        found = plain(await self._call(batch))
        if not isinstance(found, list | tuple) or len(found) != len(batch):
            got = f"{len(found)}" if isinstance(found, list | tuple) else type(found).__name__
            raise ModelFaultError(
                f"{self._option.deployment}.{self._option.method}: expected {len(batch)} outputs, got {got}"
            )
        return [plain(value) for value in found]

    async def _call(self, value: Any) -> Any:
        response = self._handle.remote(value)
        try:
            return await response
        except asyncio.CancelledError:
            # Else their replica would work on for nobody.
            response.cancel()
            raise
