"""A policy for Serve's own YAML that decides nothing: it hands on what our controller decided last.

For people who keep Serve's declarative configuration: Serve's controller asks this object ten times a second for
replica counts, and gets those of the named `ServingController`. It never computes, never waits and never raises,
because an exception or a pause in there stops every application on the cluster. What is older than stated, or cannot be
had, changes nothing: Serve then keeps the counts that stand.

    autoscaling_policy:
      policy_function: serving.shim:ProvisorPolicy
      policy_kwargs: {app: theirs, stale_after_s: 30}

Serve's bounds and delays still apply after it; set `upscale_delay_s` and `downscale_delay_s` to 0. An example is
`serving/deploy/serve_with_policy.yaml`.
"""

from __future__ import annotations

import importlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

ACTOR, NAMESPACE = "ServingController", "provisor"

_LOG = logging.getLogger("provisor.shim")
_FETCH_TIMEOUT_S = 5.0
_LOG_EVERY_S = 60.0
# Asked ten times a second, it would else fill the log of Serve's controller.


class Fetched(NamedTuple):
    """The controller's last decision, as it was read."""

    at_s: float  # seconds since the epoch, when it was decided
    app: str
    targets: Mapping[str, int]  # replicas by deployment name


def fetched(answer: Mapping[str, Any]) -> Fetched:
    """The controller's answer, checked: keys `at_s`, `app`, `targets`.

    Raises:
        ValueError: It has another form; KeyError and TypeError likewise.
    """
    targets = {str(name): int(count) for name, count in answer["targets"].items()}
    if any(count < 0 for count in targets.values()):
        raise ValueError(f"targets: expected counts >= 0, got {targets}")
    return Fetched(float(answer["at_s"]), str(answer["app"]), targets)


class ProvisorPolicy:
    """Serve's `AutoscalingPolicy` of an application.

    Args:
        app: Application that the decisions must be for; None takes those for any.
        stale_after_s: Decisions older than this are not handed on.
        fetch_every_s: The controller is asked at most this often.
        actor: Name of the controller's actor.
        namespace: Ray namespace of that actor.
    """

    def __init__(
        self,
        app: str | None = None,
        stale_after_s: float = 30.0,
        fetch_every_s: float = 1.0,
        actor: str = ACTOR,
        namespace: str = NAMESPACE,
    ) -> None:
        self._app, self._stale_after_s, self._fetch_every_s = app, float(stale_after_s), float(fetch_every_s)
        self._actor, self._namespace = actor, namespace
        self._last: Fetched | None = None
        self._asked_s = -float("inf")
        self._thread: threading.Thread | None = None
        self._logged_s = -float("inf")
        self._now_s: Callable[[], float] = time.time
        self._clock_s: Callable[[], float] = time.monotonic
        self._read: Callable[[], Mapping[str, Any]] = self._read_actor

    def __call__(self, contexts: Mapping[Any, Any]) -> tuple[dict[Any, int], dict[Any, dict[str, Any]]]:
        """Replica counts by deployment identity, without those that nothing is decided for; and no state."""
        try:
            self._ask()
            return self._decided(contexts), {}
        except Exception as error:  # noqa: BLE001 - whatever is wrong here must not stop the applications of a cluster
            self._say(f"nothing is changed: {type(error).__name__}: {error}")
            return {}, {}

    def _decided(self, contexts: Mapping[Any, Any]) -> dict[Any, int]:
        last = self._last
        if last is None:
            return {}
        if self._app is not None and last.app != self._app:
            self._say(f"nothing is changed: expected decisions for '{self._app}', got them for '{last.app}'")
            return {}
        age_s = self._now_s() - last.at_s
        # A decision from the future is as wrong as an old one: one of the clocks has jumped.
        if not -self._stale_after_s <= age_s <= self._stale_after_s:
            self._say(f"nothing is changed: the last decision is {age_s:.0f} s old")
            return {}
        counts: dict[Any, int] = {}
        for identity, context in contexts.items():
            count = last.targets.get(identity.name)
            if count is None:
                continue
            # Returned, a zero with requests waiting would be overridden by Serve's cold start, and flap; left out, it
            # stays.
            if count == 0 and context.target_num_replicas == 0:
                continue
            counts[identity] = count
        return counts

    def _ask(self) -> None:
        """Begins to read the controller in a thread of its own, where that is due and none is under way."""
        now_s = self._clock_s()
        is_asking = self._thread is not None and self._thread.is_alive()
        if is_asking or now_s - self._asked_s < self._fetch_every_s:
            return
        self._asked_s = now_s
        self._thread = threading.Thread(target=self._fetch, name="provisor-shim", daemon=True)
        self._thread.start()

    def _fetch(self) -> None:
        try:
            self._last = fetched(self._read())
        except Exception as error:  # noqa: BLE001 - a controller that is away is what staleness is for
            self._say(f"the controller was not read: {type(error).__name__}: {error}")

    def _read_actor(self) -> Mapping[str, Any]:
        ray: Any = importlib.import_module("ray")  # its results are typed too narrowly
        actor = ray.get_actor(self._actor, namespace=self._namespace)
        answer: Mapping[str, Any] = ray.get(actor.targets.remote(), timeout=_FETCH_TIMEOUT_S)
        return answer

    def _say(self, text: str) -> None:
        now_s = self._clock_s()
        if now_s - self._logged_s >= _LOG_EVERY_S:
            self._logged_s = now_s
            _LOG.warning("%s", text[:300])
