"""A router without Ray: the real shell and core, whose models answer at once in this process."""

import asyncio
from contextlib import contextmanager

import numpy as np
from starlette.testclient import TestClient

from controller.tiers.audit_config import AuditConfig
from serving.bring_your_own import ModelSpec
from serving.front import app
from serving.given import the_shell
from serving.model_object import ModelAnswer
from serving.rules import router_tables
from serving.serverless import ServerlessTerms
from serving.shell import RouterShell
from tests.unit.serving.worlds import LARGE, LARGE_OD, SMALL, SMALL_OD, rules, setting

STRICT, RELAXED = 0, 1
TIER = {
    "tolerance": 0.05,
    "objective": "cost",
    "variants": ["small", "large"],
    "thresholds": [0.5],
    "bound": 0.04,
    "confidence": 0.999,
    "disagreement": 0.1,
}


def tiered_setting(**changes):
    """Class relaxed has a tier."""
    return setting(relaxed={"tier": TIER | changes})


def cascade_of(*classes):
    """Changes of rules under which these classes ask small and then large."""
    variants = np.full((2, 3), -1)
    variants[list(classes), :2] = [SMALL, LARGE]
    return {"cascade_variant": variants, "cascade_threshold": np.full((2, 2), 0.5)}


class InProcessShell(RouterShell):
    """Its small model is right of even inputs and says how sure it is, its large one always."""

    async def _send(self, dispatch):
        await asyncio.sleep(0)
        return [self.model(dispatch.option // self.tables.num_pools, payload) for payload in dispatch.payloads]

    def model(self, variant, payload):
        return ModelAnswer("even" if payload == "sure" or variant == LARGE else "odd", 0.25 if payload == 1 else 0.75)


def shell_of(of=None, kind=InProcessShell, **audit):
    of = of or tiered_setting()
    specs = {name: ModelSpec(name, reference="of:tests") for name in of.variant_names}
    terms = {2: ServerlessTerms.of(of.catalog, 2)}
    config = AuditConfig.model_validate(audit)
    return kind(router_tables(of), terms, specs, 1, {}, None, config)


@contextmanager
def served(shell, of=None, serving=None, **changes):
    """A client of a router whose machines serve."""
    app.dependency_overrides[the_shell] = lambda: shell
    try:
        with TestClient(app) as client:
            given = rules(of or tiered_setting(), serving or {SMALL_OD: 2, LARGE_OD: 2}, **cascade_of(RELAXED))
            client.portal.call(shell.set_rules, given)
            yield client
    finally:
        app.dependency_overrides.clear()
