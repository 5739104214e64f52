"""Learns policies for a scenario, from nothing to policy files.

The rule comes first: its forecaster is fitted and its settings are tuned. Then PPO learns, seed by seed, to turn the
rule's knobs, and what is best on the validation days is exported: the network where it beats the rule there, else the
rule itself. The test days are never opened.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from controller.config import write_run_header
from controller.errors import UsageError, mismatch
from controller.identity import require_own_packages
from controller.policies.policy_file import PolicyContent, save_policy_file
from controller.scenario import load_scenario
from envs.world import World, build_world
from experiments.base_rule import BaseRule, make_base_rule
from experiments.judging import Judge, MakePolicy
from experiments.objective import Score
from experiments.rival_forms import note_rival, rival_policy
from experiments.run_config import RunConfig
from experiments.selection import AS_IS, Aim, Selection, Validate

if TYPE_CHECKING:
    from experiments.schedule import InputScale

Tensors = Mapping[str, NDArray[np.float32]]
BEST = "policy.provisor"
_SCALE_WINDOWS, _SCALE_WINDOW_S = 12, 10800.0
RULE = "rule.provisor"
"""The tuned rule with its fitted forecaster, as a policy file: the rival that a learned policy has to beat."""


class TrainProgress(Protocol):
    """Told what a training does; shows it."""

    def stage(self, text: str, total: int) -> None:
        """A stage of `total` steps begins (trials, or decisions)."""

    def trial(self, done: int, value: float, best: float) -> None:
        """A setting of the rule was tried."""

    def rollout(self, steps: int, mean_return: float) -> None:
        """A rollout and its update are done."""

    def validated(self, steps: int, score: Score, rule: Score) -> None:
        """The policy was evaluated on the validation days."""


@dataclass(frozen=True)
class TrainedPolicy:
    """One seed's result."""

    seed: int
    path: Path | None  # of the policy file; None: of this form nothing is exported
    steps: int  # decisions seen by the exported weights; 0: the rule, or a clone that PPO did not improve
    score: Score
    rule: Score

    @property
    def gain(self) -> float:
        """Share by which the policy is better than the rule on validation; 0 where the rule was exported."""
        return 1.0 - self.score.value / self.rule.value


@dataclass(frozen=True)
class Training:
    """What a run of `provisor train` came to."""

    policies: tuple[TrainedPolicy, ...]
    best: Path | None  # copy of the policy that is best on validation; None: of this form nothing is exported
    base: BaseRule


def train(
    run: RunConfig, out: Path, *, resume: bool = False, steps: int | None = None, progress: TrainProgress | None = None
) -> Training:
    """Trains every seed of a run.

    Args:
        run: The run; its scenario's training and validation days are used.
        out: Run folder: `run.json`, `base/`, `seed-N/` with checkpoint and TensorBoard files, `policy-seed-N.provisor`,
            `rule.provisor`, the tuned rule alone, and `policy.provisor`, the best by validation. Of what is not
            exported (`TrainConfig.is_exported`), `seed-N/rival.json` and `seed-N/rival.npz` in place of policy files.
        resume: Go on with what is in the folder.
        steps: Decisions per seed in place of the configured ones.
        progress: Told what goes on.

    Returns:
        The policies.

    Raises:
        ProvisorError: Something in the run is wrong, or the folder holds another run.
        KeyboardInterrupt: As given; `resume` goes on from there.
    """
    require_own_packages()
    if steps is not None:
        if run.train.learner == "schedule":
            raise UsageError(mismatch("steps", "none for learner schedule, which runs train.schedule.trials", steps))
        run = run.model_copy(update={"train": run.train.model_copy(update={"steps": steps})})
    config = run.train
    if not resume and any((*out.glob("seed-*/checkpoint.pt"), *out.glob("seed-*/schedule.log"))):
        raise UsageError(f"out: expected a folder without a training, got {out} (continue it with --resume)")
    if not resume and (out / "base").exists():
        shutil.rmtree(out / "base")
    worlds, held_out = training_worlds(run)
    write_run_header(out, run, config.seeds)
    if progress is not None:
        progress.stage("tuning the rule", config.tune.trials)
    base = make_base_rule(worlds, held_out, config, out / "base", None if progress is None else progress.trial)
    course = _course(run, worlds, held_out, base)
    policies = [_train_one(course, seed, out, resume, progress) for seed in config.seeds]
    save_policy_file(out / RULE, _rule_content(course))
    best = min(policies, key=lambda one: one.score.value)
    if best.path is None:
        return Training(tuple(policies), None, base)
    shutil.copyfile(best.path, out / f".{BEST}")
    (out / f".{BEST}").replace(out / BEST)
    return Training(tuple(policies), out / BEST, base)


def training_worlds(run: RunConfig) -> tuple[list[World], list[World]]:
    """Worlds to train in and worlds to validate in.

    Of a run on one scenario they are its training and its validation days; of a run on the suite those days of all
    traces for each scenario, then variations, other ones for validation than for training.

    Raises:
        ProvisorError: Something that the run names is missing or wrong.
    """
    suite = run.train.suite
    if suite is None:
        scenario = load_scenario(run.scenario)
        world = build_world(scenario, run.choice.model_copy(update={"days": scenario.splits.train}))
        days = run.choice.model_copy(update={"days": scenario.splits.validation})
        return [world], [build_world(scenario, days, setting=world.setting)]
    from experiments.suite import GENERATED, TRACES, joint_world
    from experiments.variation import varied_world

    recorded = suite.traces or tuple(TRACES)
    everything = [*recorded, *(GENERATED if suite.generated else ())]
    bases = [joint_world(scenario, split="train", traces=everything) for scenario in suite.scenarios]
    held_bases = [joint_world(scenario, split="validation", traces=recorded) for scenario in suite.scenarios]

    def drawn(worlds: Sequence[World], count: int, seed: int) -> list[World]:
        return [varied_world(worlds[index % len(worlds)], seed, index) for index in range(count)]

    train = [*bases, *drawn(bases, suite.variations, suite.seed)]
    return train, [*held_bases, *drawn(held_bases, suite.validation_variations, suite.seed + 1)]


@dataclass(frozen=True)
class _Course:
    """What the seeds of a run have in common."""

    run: RunConfig
    worlds: Sequence[World]
    held_out: Sequence[World]
    base: BaseRule
    judge: Judge  # on the validation days
    rule: Score  # what the rule comes to there


def _course(run: RunConfig, worlds: Sequence[World], held_out: Sequence[World], base: BaseRule) -> _Course:
    from controller.policies.predictive import MpcPolicy

    validation = run.train.validation
    judge = Judge(held_out, validation.windows, validation.window_s, validation.seed, run.train.objective)
    rule = judge.score(lambda setting: MpcPolicy(setting, base.settings, base.forecast))
    return _Course(run, worlds, held_out, base, judge, rule)


def _train_one(course: _Course, seed: int, out: Path, resume: bool, progress: TrainProgress | None) -> TrainedPolicy:
    from controller.policies.learned import LearnedPolicy
    from experiments.evolution import evolve_seed
    from experiments.input_range import with_input_range
    from experiments.trainer import train_seed
    from experiments.training_env import training_env

    run, worlds, base, judge, rule = course.run, course.worlds, course.base, course.judge, course.rule
    config = run.train

    def validate(tensors: Tensors, aim: Aim) -> Score:
        if not config.is_exported:
            return judge.score(lambda setting: rival_policy(setting, config, base, tensors, aim))
        content = new_content(run, worlds[0], base, tensors, seed=seed, aim=aim)
        return judge.score(lambda setting: LearnedPolicy(setting, content))

    if progress is not None:
        progress.stage(f"seed {seed}", config.schedule.trials if config.learner == "schedule" else config.steps)
    digest, folder = settings_digest(run, base), out / f"seed-{seed}"
    metrics: dict[str, Any] = {}
    start = None
    if config.warm_start == "clone":
        from experiments.cloning import clone_seed

        if progress is not None:
            progress.stage(f"seed {seed}: cloning the rule that sees ahead", config.clone.rounds)
        clone = clone_seed(worlds, course.held_out, config, base, seed, folder, config_sha256=digest, resume=resume)
        start, metrics["clone"] = clone.tensors, clone.report
    if config.learner == "schedule":
        selection = _schedule(course, seed, folder, validate, digest, resume, progress)
    else:
        env = training_env(worlds, config, base, seed)
        try:
            if config.learner == "evolution":
                selection = evolve_seed(
                    env, config, seed, folder, validate, config_sha256=digest, resume=resume, progress=progress
                )
            else:
                selection = train_seed(
                    env,
                    config,
                    seed,
                    folder,
                    validate,
                    config_sha256=digest,
                    rule=rule,
                    start=start,
                    resume=resume,
                    progress=progress,
                )
        finally:
            env.close()
    metrics |= {
        "validation": {
            "policy": _plain(selection.best),
            "rule": _plain(rule),
            "curve": [list(p) for p in selection.curve],
        },
        "forecast": base.forecast_report,
        "tuning": base.tuning_report,
    }
    if not config.is_exported:
        note_rival(folder, config, selection.best_tensors, selection.best_steps, metrics)
        return TrainedPolicy(seed, None, selection.best_steps, selection.best, selection.rule)
    content = new_content(
        run,
        worlds[0],
        base,
        selection.best_tensors,
        seed=seed,
        steps=selection.best_steps,
        aim=selection.best_aim,
        metrics=metrics,
    )
    path = out / f"policy-seed-{seed}.provisor"
    rules = _rule_content(course)
    save_policy_file(path, with_input_range(content, rules, worlds, course.held_out, config.validation, selection.span))
    return TrainedPolicy(seed, path, selection.best_steps, selection.best, selection.rule)


def _schedule(
    course: _Course,
    seed: int,
    folder: Path,
    validate: Validate,
    digest: str,
    resume: bool,
    progress: TrainProgress | None,
) -> Selection:
    from controller.policies.learned import LearnedPolicy
    from experiments.input_range import Stretches, inputs_on
    from experiments.schedule import input_scale, schedule_seed

    run, worlds, base = course.run, course.worlds, course.base

    def make(tensors: Tensors) -> MakePolicy:
        content = new_content(run, worlds[0], base, tensors, seed=seed)
        return lambda setting: LearnedPolicy(setting, content)

    def scale() -> InputScale:
        content = _rule_content(course)
        sample = Stretches(_SCALE_WINDOWS, _SCALE_WINDOW_S, seed)
        inputs = [inputs_on(world, content, sample) for world in worlds]
        return input_scale(np.concatenate([one.reshape(-1, one.shape[-1]) for one in inputs]))

    return schedule_seed(
        worlds,
        run.train,
        base,
        seed,
        folder,
        validate,
        make,
        scale,
        rule=course.rule,
        config_sha256=digest,
        resume=resume,
        progress=progress,
    )


def _rule_content(course: _Course) -> PolicyContent:
    from controller.observation import OBSERVATION_SIZE
    from controller.rule_arrays import NUM_KNOBS
    from experiments.ppo import zero_tensors

    run, base = course.run, course.base
    zero = zero_tensors(OBSERVATION_SIZE, run.train.hidden, NUM_KNOBS)
    metrics = {"forecast": base.forecast_report, "tuning": base.tuning_report}
    return new_content(run, course.worlds[0], base, zero, seed=run.train.tune.seed, metrics=metrics)


def new_content(
    run: RunConfig,
    world: World,
    base: BaseRule,
    tensors: Tensors,
    *,
    seed: int,
    steps: int = 0,
    aim: Aim = AS_IS,
    metrics: Mapping[str, Any] | None = None,
) -> PolicyContent:
    """Network, forecaster and rule settings as a policy file holds them."""
    from controller.policies.learned import content_of
    from controller.policies.policy_file import TrainingRecord

    scenario = world.setting.scenario
    splits = scenario.splits
    return content_of(
        world.setting,
        tensors,
        settings=aim.of(base.settings),
        forecast=base.forecast,
        hidden=run.train.hidden,
        catalog=run.train.catalog,
        training=TrainingRecord(
            trace=world.trace_name,
            trace_sha256=hashlib.sha256(np.ascontiguousarray(world.rate_rps).tobytes()).hexdigest(),
            scenario=scenario.name,
            train_days=splits.train,
            validation_days=splits.validation,
            seeds=(seed,),
            steps=steps,
        ),
        metrics=metrics or {},
    )


def settings_digest(run: RunConfig, base: BaseRule) -> str:
    """Identifies what a checkpoint was made with; a run is not resumed under other settings."""
    settings = run.model_dump(mode="json", exclude={"out", "policies", "seeds", "days", "trust"})
    digest = hashlib.sha256(json.dumps([settings, base.settings.model_dump(mode="json")], sort_keys=True).encode())
    for array in base.forecast:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _plain(value: Score) -> dict[str, Any]:
    return {name: list(entry) if isinstance(entry, tuple) else entry for name, entry in vars(value).items()}
