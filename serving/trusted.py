"""Supervisor, desk and admin API of one controller, built from what its specification says of trust."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from controller.arrays import ObservationArrays
from controller.compile import Setting
from controller.journal import Journal
from controller.loop import DecisionLoop
from controller.policies.registry import PolicySpec, make_policy, plain_spec
from controller.trust.config import TrustConfig
from controller.trust.desk import ControlDesk
from controller.trust.memory import Memory
from controller.trust.mode import Mode
from controller.trust.store import PolicyStore
from controller.trust.supervisor import Supervisor
from serving.admin import AdminApi, AdminServer, Hook

_PORT_AGAIN_S = 1.0

_log = logging.getLogger("provisor.controller")


@dataclass(frozen=True)
class AdminSpec:
    """Where the admin API listens, and what opens it."""

    host: str
    port: int  # 0 for any free one
    token_sha256: str


@dataclass(frozen=True)
class TrustSpec:
    """How far a policy is let; travels to the controller's actor."""

    mode: Mode = Mode.ACTIVE
    config: TrustConfig = field(default_factory=TrustConfig)
    original: str = ""  # the policy file that was named, where it is on the actor's machine; watched for changes
    admin: AdminSpec | None = None


class Trusted:
    """What a controller decides with.

    Args:
        setting: Of the run.
        folder: Of the run: pushed policies and `trust.json` are kept there.
        policy: What `make_policy` takes.
        policy_file: Content of the file that `policy` names, where it is one.
        rule: The named rule, likewise what `make_policy` takes.
        spec: Mode, alarms and admin API.

    Attributes:
        supervisor: Decides.
        desk: Takes an operator's orders.
    """

    def __init__(
        self,
        setting: Setting,
        folder: Path,
        policy: str | PolicySpec,
        policy_file: bytes | None,
        rule: str | PolicySpec,
        spec: TrustSpec,
    ) -> None:
        store = PolicyStore(folder)
        entry = store.entry(policy, policy_file)
        self._spec = spec
        self._server: AdminServer | None = None
        self._opening: asyncio.Task[None] | None = None
        self._port = 0 if spec.admin is None else spec.admin.port
        self.supervisor = Supervisor(
            DecisionLoop(setting, make_policy(rule, setting)),
            plain_spec(rule),
            DecisionLoop(setting, store.make(entry, setting)),
            entry,
            mode=spec.mode,
            config=spec.config,
        )
        self.desk = ControlDesk(setting, self.supervisor, store, original=spec.original)

    def resume(
        self, journal: Journal, state: Mapping[str, Any] | None, memory: Memory | None, admin_port: int
    ) -> ObservationArrays | None:
        """Goes on where a run was cut off, with the admin API where it was; see `ControlDesk.go_on`."""
        self._port = admin_port or self._port
        return self.desk.go_on(journal, state, memory)

    def loops(self) -> dict[str, DecisionLoop]:
        """The policy's, where there is one, and the rule's."""
        policy = self.supervisor.candidate.loop
        return {"rule": self.supervisor.rule} if policy is None else {"policy": policy, "rule": self.supervisor.rule}

    def serve_admin(
        self,
        status: Callable[[], Mapping[str, JsonValue]],
        *,
        notice: Hook | None = None,
        rehearse: Hook | None = None,
    ) -> None:
        """Opens the admin API, where the run has one.

        Args:
            status: What a GET of the status answers.
            notice: Takes a preemption notice; None: not offered, likewise below.
            rehearse: Does to the run what cannot be done to it from outside.

        Raises:
            OSError: The port is taken.
        """
        admin = self._spec.admin
        if admin is not None and self._server is None:
            supervisor = self.supervisor
            api = AdminApi(
                self.desk, status, lambda: supervisor.preferences, supervisor.set_preferences, notice, rehearse
            )
            self._server = AdminServer(api, admin.host, self._port, admin.token_sha256)
            self._port = self._server.port

    def serve_admin_again(self, serve: Callable[[], None], again_s: float = _PORT_AGAIN_S) -> None:
        """Opens it in a new life, as soon as its port is free: meanwhile any connection may have been given that.

        Args:
            serve: Calls `serve_admin`.
            again_s: Seconds between two attempts.
        """
        self._opening = asyncio.create_task(self._until_served(serve, again_s))

    async def _until_served(self, serve: Callable[[], None], again_s: float) -> None:
        while True:
            try:
                serve()
                return
            except OSError as error:
                _log.warning("admin API: expected a free port, got %d: %s; trying again", self._port, error)
            await asyncio.sleep(again_s)

    def gauges(self) -> dict[str, float]:
        """What is exposed of the supervisor, by the metric's name."""
        supervisor = self.supervisor
        return {
            "ticks": float(supervisor.ticks),
            "rule_ticks": float(supervisor.rule_ticks),
            "is_trusted": float(supervisor.probation.is_trusted),
            **{f"mode_{mode}": float(supervisor.mode is mode) for mode in Mode},
            "decide_seconds": supervisor.decide_s[-1],
        }

    @property
    def admin_port(self) -> int:
        """Port of the admin API; 0 where there is none."""
        return self._port

    def close(self) -> None:
        """Closes the admin API."""
        if self._opening is not None:
            self._opening.cancel()
        if self._server is not None:
            self._server.close()
