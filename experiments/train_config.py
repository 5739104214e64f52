"""Settings of a training: base rule, forecaster, PPO, validation."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from controller.config import StrictModel
from controller.forms import Form
from controller.observation import input_index
from controller.policies.predictive import MpcSettings
from controller.rule_arrays import KNOBS
from experiments.objective import ObjectiveConfig
from experiments.quantile_fit import FitConfig

SUITE_SCENARIOS = ("suite-cpu", "suite-gpu", "suite-scarce")
"""Shipped scenarios of the suite (`experiments.suite`)."""


class ForecastConfig(StrictModel):
    """Fit of the quantile forecaster."""

    hidden: tuple[Annotated[int, Field(ge=1, le=512)], Annotated[int, Field(ge=1, le=512)]] = (64, 32)
    epochs: int = Field(default=30, ge=1, le=1000)
    batch_size: int = Field(default=1024, ge=16)
    learning_rate: float = Field(default=3e-3, gt=0)
    stride_ticks: int = Field(default=3, ge=1, description="distance between samples; neighbours tell nearly the same")
    thinnings: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(1.0, 0.3, 3.0),
        min_length=1,
        description="factors of the rate also trained on, so that counting noise is learned",
    )
    seed: int = Field(default=0, ge=0)

    @property
    def fit(self) -> FitConfig:
        """What the fit of the network takes of it."""
        return FitConfig(self.hidden, self.epochs, self.batch_size, self.learning_rate, self.seed)


class TuneConfig(StrictModel):
    """Search for the base rule's settings."""

    trials: int = Field(default=60, ge=0, description="0 leaves the rule as it is given")
    seconds: float = Field(default=600.0, gt=0)
    windows: int = Field(
        default=8, ge=1, description="stretches of the training and validation days that a trial replays"
    )
    window_s: float = Field(default=10800.0, gt=0)
    seed: int = Field(default=0, ge=0)


class PpoConfig(StrictModel):
    """Proximal policy optimisation, defaults as found best in a trial on the same design."""

    num_envs: int = Field(default=128, ge=1)
    rollout_decisions: int = Field(default=64, ge=2, description="decisions per env between updates")
    batch_size: int = Field(default=1024, ge=2)
    epochs: int = Field(default=6, ge=1)
    learning_rate: float = Field(default=6e-4, gt=0, description="falls linearly to 0 at the last step")
    gamma: float = Field(default=0.97, gt=0, lt=1, description="33 decisions: a launch is two")
    gae_lambda: float = Field(default=0.95, gt=0, le=1)
    clip: float = Field(default=0.2, gt=0)
    entropy: float = Field(default=0.0, ge=0)
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(64, 64), min_length=1)
    std: float = Field(
        default=0.06,
        gt=0,
        le=1,
        description="of the first exploration noise on a knob; with three times as much a policy mostly learns to "
        "bear its own noise (launches and swaps that the next decision takes back)",
    )
    knob_std: dict[str, Annotated[float, Field(gt=0, le=1)]] = Field(
        default={}, description="of the first exploration noise on some knobs, by name, in place of `std`"
    )
    burn_in_rollouts: int = Field(
        default=8, ge=0, description="the actor is frozen this long, until the critic is of use"
    )
    torch_threads: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _batches_fill(self) -> PpoConfig:
        rollout = self.num_envs * self.rollout_decisions
        if rollout % self.batch_size:
            raise ValueError(
                f"batch_size: expected a divisor of num_envs x rollout_decisions ({rollout}), got {self.batch_size}"
            )
        return self

    @model_validator(mode="after")
    def _knobs_exist(self) -> PpoConfig:
        for name in self.knob_std:
            if name not in KNOBS:
                raise ValueError(f"knob_std: expected names among {', '.join(KNOBS)}, got {name}")
        return self

    @property
    def rollout_steps(self) -> int:
        """Decisions of all envs per rollout."""
        return self.num_envs * self.rollout_decisions


class CloneConfig(StrictModel):
    """Behaviour cloning of the rule that is told the rate to come (`experiments.cloning`), before PPO begins."""

    rounds: int = Field(default=2, ge=1, le=10, description="collections; from the second on the clone so far acts")
    decisions: int = Field(default=120, ge=1, description="of each env and collection")
    horizon_s: float = Field(default=200.0, gt=0, description="how far ahead the teacher is told the largest rate")
    headroom: float | None = Field(
        default=None,
        ge=0.3,
        le=3.0,
        description="the teacher's capacity over what it is told; default: so that the median target is 0 and the "
        "clone buys about as much as the rule, at better times",
    )
    epochs: int = Field(default=30, ge=1, le=1000)
    batch_size: int = Field(default=512, ge=16)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    huber: float = Field(default=0.3, gt=0, description="errors of a knob above this count linearly")


class EvolutionConfig(StrictModel):
    """Evolution strategies on a linear knob policy; the population is `ppo.num_envs`, one episode each."""

    sigma: float = Field(default=0.02, gt=0, le=1, description="standard deviation of a weight's perturbation")
    learning_rate: float = Field(default=0.01, gt=0)
    weight_decay: float = Field(default=0.005, ge=0)
    validate_every: int = Field(default=5, ge=1, description="generations")


CONSTANT = "constant"


class ScheduledWeight(StrictModel):
    """One number of a gain schedule: how far an input of the policy turns a knob."""

    knob: str
    of: str = Field(description="`constant`, or a field of the observation, with /I for its I-th number")
    most: float = Field(gt=0, le=4, description="searched within +- this, per standard deviation of the input")

    @model_validator(mode="after")
    def _exists(self) -> ScheduledWeight:
        if self.knob not in KNOBS:
            raise ValueError(f"knob: expected one of {', '.join(KNOBS)}, got '{self.knob}'")
        if self.of != CONSTANT:
            input_index(self.of)
        return self

    @property
    def name(self) -> str:
        """As a search calls it."""
        return f"{self.knob} by {self.of}"


_SCHEDULED = (
    ("accuracy_tilt", CONSTANT, 1.0),
    ("accuracy_tilt", "accuracy_price", 2.0),
)
"""Weights that are worth on other days what they are on those they were found on, in every scenario tried. Which
others are hangs on what the rule was tuned on, and stands in a scenario's run file. One run of the days cannot tell:
their bill under other requests differs by several percent.
"""


class ScheduleConfig(StrictModel):
    """A gain schedule: a linear policy of a few weights, searched as settings are, on whole days under equal requests.

    Noise of a decision drowns what a knob that acts over hours is worth; a day's bill does not.
    """

    weights: tuple[ScheduledWeight, ...] = Field(
        default=tuple(ScheduledWeight(knob=knob, of=of, most=most) for knob, of, most in _SCHEDULED), min_length=1
    )
    starts: tuple[dict[str, float], ...] = Field(
        default=(), description="weights tried first after none at all, by names such as `headroom by constant`"
    )
    trials: int = Field(default=30, ge=1)
    parts: int = Field(default=3, ge=1, description="the stretches are judged in so many parts; what is hopeless stops")
    give_up_above: float = Field(default=0.01, gt=0, description="share above the best that is hopeless")
    windows: int | None = Field(default=None, ge=1, description="stretches of each world; default: one for each day")
    window_s: float = Field(default=86400.0, gt=0)
    finalists: int = Field(default=3, ge=1, description="best trials that are validated")
    excess_weight: float = Field(
        default=0.0,
        ge=0,
        description="what a trace costs rises by this share per unit of misses beyond the promise, summed over "
        "classes; around a tuned rule the price of a miss is enough, in scenarios it was not tuned for it is not",
    )

    @model_validator(mode="after")
    def _distinct(self) -> ScheduleConfig:
        names = [one.name for one in self.weights]
        if len(set(names)) != len(names):
            raise ValueError(f"weights: expected each input of a knob once, got {names}")
        most = {one.name: one.most for one in self.weights}
        for index, start in enumerate(self.starts):
            for name, value in start.items():
                if name not in most:
                    raise ValueError(f"starts[{index}]: expected names among {', '.join(most)}, got '{name}'")
                if abs(value) > most[name]:
                    raise ValueError(f"starts[{index}].{name}: expected within +-{most[name]:g}, got {value:g}")
        return self


class ValidationConfig(StrictModel):
    """Deterministic evaluation on the validation days, which selects what is exported."""

    every_rollouts: int = Field(default=10, ge=1)
    patience: int = Field(default=12, ge=1, description="validations without a better value after which training stops")
    least_gain: float = Field(
        default=0.002, ge=0, description="share by which a policy must beat the rule to be exported in its place"
    )
    windows: int = Field(default=8, ge=1)
    window_s: float = Field(default=43200.0, gt=0)
    seed: int = Field(default=1_000_003, ge=0)


class SuiteTraining(StrictModel):
    """Training on many scenarios and traces at once, in place of the run's own."""

    scenarios: tuple[str, ...] = Field(default=SUITE_SCENARIOS, min_length=1, description="names or paths")
    traces: tuple[str, ...] = Field(default=(), description="names of the suite's traces; default: all recorded ones")
    generated: bool = Field(default=True, description="train on generated traces beside them")
    variations: int = Field(default=0, ge=0, le=256, description="scenarios drawn around those named, to train in")
    validation_variations: int = Field(default=0, ge=0, le=64, description="others, to validate in")
    seed: int = Field(default=0, ge=0, description="of the variations")


class TrainConfig(StrictModel):
    """A training run: one policy file per seed."""

    steps: int = Field(default=1_500_000, ge=1, description="decisions per seed")
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(0,), min_length=1)
    suite: SuiteTraining | None = None
    learner: Literal["ppo", "evolution", "schedule", "recurrent_ppo"] = Field(
        default="ppo",
        description="evolution strategies on a linear policy are the rival learner; `schedule` searches a linear "
        "policy of a few weights on whole days; `recurrent_ppo` has an LSTM before the network (an ablation, not "
        "exported; needs the `study` extra)",
    )
    action: Form = Field(
        default="knobs",
        description="what the network sets: `residual` adds to the rule's capacity by pool, `direct` sets it by "
        "option, `per_option` scores the options that the rule chooses from (ablations, not exported)",
    )
    warm_start: Literal["none", "clone"] = Field(
        default="none", description="PPO begins with the rule itself, or with a clone of the rule that sees ahead"
    )
    clone: CloneConfig = CloneConfig()
    episode_decisions: int = Field(default=120, ge=2)
    twin: bool = Field(default=True, description="subtract the reward of the rule under the same randomness")
    randomise_dial: bool = True
    miss_weight: float = Field(default=5.0, ge=0, description="reward lost per miss, in mean costs of a request")
    accuracy_weight: float = Field(
        default=1.0,
        ge=0,
        description="factor on the worth of accuracy, its usual price at the floor: what is below costs as much as "
        "what is above gains; without it a policy learns that accuracy is a loan which an episode's end forgives",
    )
    start_fleet: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(gt=0)]] = Field(
        default=(0.8, 1.25), description="range of the fleet that an episode starts with, times what the rule would buy"
    )
    start_debt: float = Field(
        default=0.002,
        ge=0,
        description="standard deviation of the accuracy missing at an episode's start, of an hour of requests; a "
        "policy that meets debts no day brings learns how little they weigh, and not when accuracy is cheap",
    )
    env_threads: int = Field(default=1, ge=1)
    catalog: Literal["fixed", "any"] = "any"
    base: MpcSettings = Field(default=MpcSettings(), description="the rule's settings that tuning begins with")
    checkpoint_every_rollouts: int = Field(default=1, ge=1)
    fit_forecaster: bool = Field(
        default=True,
        description="on the scenario's own training days; else the one that the base settings name is used",
    )
    forecast: ForecastConfig = ForecastConfig()
    tune: TuneConfig = TuneConfig()
    ppo: PpoConfig = PpoConfig()
    evolution: EvolutionConfig = EvolutionConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    validation: ValidationConfig = ValidationConfig()
    objective: ObjectiveConfig = ObjectiveConfig()

    @property
    def is_exported(self) -> bool:
        """Whether what is learned is written as a policy file; rivals in form are judged only."""
        return self.action == "knobs" and self.learner != "recurrent_ppo"

    @property
    def least_gain(self) -> float:
        """Share by which weights must beat the rule to be selected; rivals are shown at their best, however bad."""
        return self.validation.least_gain if self.is_exported else -math.inf

    @property
    def hidden(self) -> tuple[int, ...]:
        """Widths of the hidden layers of what is learned; none of a linear policy."""
        return self.ppo.hidden if self.learner == "ppo" else ()

    @model_validator(mode="after")
    def _clone_is_of_use(self) -> TrainConfig:
        if self.warm_start == "clone" and (self.learner != "ppo" or self.action != "knobs"):
            what = f"learner '{self.learner}' with action '{self.action}'"
            raise ValueError(f"warm_start: expected 'none' for {what}, got 'clone'")
        return self

    @model_validator(mode="after")
    def _action_is_learned(self) -> TrainConfig:
        if self.action != "knobs" and self.learner != "ppo":
            raise ValueError(f"action: expected 'knobs' for learner '{self.learner}', got '{self.action}'")
        return self

    @model_validator(mode="after")
    def _knobs_are_set(self) -> TrainConfig:
        if self.ppo.knob_std and self.action != "knobs":
            raise ValueError(f"ppo.knob_std: expected none for action '{self.action}', got {self.ppo.knob_std}")
        return self

    @model_validator(mode="after")
    def _distinct_seeds(self) -> TrainConfig:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds: expected distinct numbers, got {list(self.seeds)}")
        return self
