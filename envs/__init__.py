"""The simulated world: request-level simulator, spot market, lifecycle of instances, and the Gymnasium environment.

Importing the package registers `IDS`; the environment itself is imported when it is made. What its numbers mean is in
`envs.datasheet`.
"""

from __future__ import annotations

from gymnasium.envs.registration import register, registry

SERVING_ENV = "provisor/Serving-v0"

IDS = {
    SERVING_ENV: "default",
    "provisor/Steady-v0": "steady",
    "provisor/Diurnal-v0": "diurnal",
    "provisor/Burst-v0": "burst",
    "provisor/FlashCrowd-v0": "flash-crowd",
    "provisor/SpotStorm-v0": "spot-storm",
    "provisor/ManyClasses-v0": "many-classes",
}
"""Registered ids, each with the scenario that it takes place in unless `scenario=` names another."""

for _id, _scenario in IDS.items():
    if _id not in registry:
        register(
            id=_id,
            entry_point="envs.serving_env:ServingEnv",
            vector_entry_point="envs.gym_vector:ServingVectorEnv",
            kwargs={"scenario": _scenario},
        )
