"""`provisor/Serving-v0` and its kin: one world as a Gymnasium environment.

    import gymnasium as gym
    import envs
    env = gym.make("provisor/Serving-v0", scenario="demo")
    observation, info = env.reset(seed=0)
    observation, reward, terminated, truncated, info = env.step(env.action_space.sample())

What the numbers mean is said once, in the data sheet: `envs.datasheet.datasheet()`, or `provisor env`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from controller.arrays import ObservationArrays, PlanArrays
from controller.compile import Setting
from controller.errors import UsageError, mismatch
from controller.rule_arrays import KNOB_RANGE
from controller.scenario import Scenario, load_scenario
from envs.info import info_of
from envs.stepper import EnvOptions, Stepper
from envs.timeline import EpisodeTimeline, Point
from envs.world import WorldChoice, build_world

F32 = NDArray[np.float32]

DEFAULT_OPTIONS = replace(EnvOptions(), twin=False)
"""An episode as an environment made by its id has it."""

RENDER_MODES = ("ansi", "rgb_array")


@dataclass(frozen=True, eq=False)
class EnvSnapshot:
    """A copy of everything that changes in a `ServingEnv`."""

    arrays: Mapping[str, NDArray[Any]]
    seed: int  # of the episodes that follow
    generator: np.random.Generator | None
    points: tuple[Point, ...]


class ServingEnv(gym.Env[F32, F32]):
    """One serving system whose `mpc` rule is steered by knobs.

    Observation, action, reward, ends and info are those of the data sheet (`envs.datasheet`). A pickled or deep-copied
    environment is made again from its arguments and put where the original was: it goes on identically.

    Args:
        scenario: Name or path of a scenario, or the scenario itself; its training days are used.
        options: Length of an episode, reward, and what is randomised; `DEFAULT_OPTIONS` by default.
        render_mode: `ansi` for a few lines of text, `rgb_array` for a picture, of the episode so far; None for neither.

    Raises:
        UsageError: There is no such render mode.
    """

    metadata = {"render_modes": list(RENDER_MODES), "render_fps": 10}  # noqa: RUF012 - Gymnasium reads a plain dict

    def __init__(
        self,
        scenario: str | Scenario = "default",
        options: EnvOptions | None = None,
        render_mode: str | None = None,
    ) -> None:
        if render_mode is not None and render_mode not in RENDER_MODES:
            raise UsageError(mismatch("render_mode", f"one of {', '.join(RENDER_MODES)} or None", render_mode))
        self._made_with = (scenario, options, render_mode)
        if isinstance(scenario, str):
            scenario = load_scenario(scenario)
        world = build_world(scenario, WorldChoice(days=scenario.splits.train))
        self.render_mode = render_mode
        self.stepper = Stepper(world, 1, options or DEFAULT_OPTIONS)
        self.observation_space = self.stepper.observation_space
        self.action_space = self.stepper.action_space
        self._timeline = EpisodeTimeline(self.stepper)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[F32, dict[str, Any]]:
        """Starts an episode; time of the trace, spot market, fleet and accuracy debt follow from the seed."""
        super().reset(seed=seed)
        del options
        self.stepper.seed = int(self.np_random.integers(0, 2**62))
        self.stepper.episodes[:] = 0
        observation = self.stepper.reset()[0]
        if self.render_mode is not None:
            self._timeline.begin()
        return observation, info_of(self.stepper, 0)

    def step(self, action: F32) -> tuple[F32, float, bool, bool, dict[str, Any]]:
        """Runs one decision under the knobs in `action`; `truncated` is the episode's end, there is no other."""
        knobs = np.clip(np.asarray(action, np.float64), *KNOB_RANGE)
        observation, rewards, ended = self.stepper.step(knobs[None])
        if self.render_mode is not None:
            self._timeline.add()
        return observation[0], float(rewards[0]), False, bool(ended[0]), info_of(self.stepper, 0)

    def render(self) -> Any:
        """The episode so far: text in mode `ansi`, an image (height, width, 3) of uint8 in mode `rgb_array`."""
        from envs import render

        if self.render_mode is None:
            gym.logger.warn("render() was called on an environment made without a render_mode; it shows nothing")
            return None
        return render.as_text(self._timeline) if self.render_mode == "ansi" else render.as_image(self._timeline)

    @property
    def setting(self) -> Setting:
        """The scenario in array form."""
        return self.stepper.setting

    def observe(self) -> ObservationArrays:
        """The facts behind the observation, copied: what policies decide on and world models start from."""
        return ObservationArrays._make(array[:1].copy() for array in self.stepper.simulator.observation)

    def planned(self) -> PlanArrays:
        """The last plan of the rule under its knobs, copied; a plan for nothing before the first step."""
        return PlanArrays._make(array[:1].copy() for array in self.stepper.applied)

    def snapshot(self) -> EnvSnapshot:
        """Copies the whole state: simulator, rule, market, counters of the episode, and what seeds the next ones.

        Wrappers keep counters of their own (`TimeLimit`, `RecordEpisodeStatistics`), which are not part of it.
        """
        return EnvSnapshot(
            self.stepper.snapshot(), self.stepper.seed, copy.deepcopy(self._np_random), self._timeline.points
        )

    def restore(self, snapshot: EnvSnapshot) -> None:
        """Goes back to a snapshot; the same actions then give the same observations, rewards and infos, bit for bit.

        Args:
            snapshot: Of this environment, or of another made with the same arguments. It stays usable.

        Raises:
            UsageError: The snapshot is of another scenario's shapes.
        """
        self.stepper.restore(snapshot.arrays)
        self.stepper.seed = snapshot.seed
        self._np_random = copy.deepcopy(snapshot.generator)
        self._timeline.resume(snapshot.points)

    def __getstate__(self) -> dict[str, Any]:
        return {
            "made_with": self._made_with,
            "spec": self.spec,
            "np_random_seed": self._np_random_seed,
            "snapshot": self.snapshot(),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        scenario, options, render_mode = state["made_with"]
        self.__init__(scenario, options, render_mode)  # type: ignore[misc]  # as gymnasium.utils.EzPickle does
        self.spec = state["spec"]
        self._np_random_seed = state["np_random_seed"]
        self.restore(state["snapshot"])
