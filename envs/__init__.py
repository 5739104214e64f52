"""The simulated world: request-level simulator, spot market, lifecycle of instances, and the Gymnasium environment.

Importing the package registers `provisor/Serving-v0`; the environment itself is imported when it is made.
"""

from __future__ import annotations

from gymnasium.envs.registration import register, registry

SERVING_ENV = "provisor/Serving-v0"

if SERVING_ENV not in registry:
    register(id=SERVING_ENV, entry_point="envs.serving_env:ServingEnv")
