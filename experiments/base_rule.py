"""The rule that a training starts from: its forecaster, fitted, and its settings, tuned; kept in the run's folder.

Both are needed before the first rollout, take seconds to minutes, and are the same for every seed, so a resumed run
reads them back. Tuning notes every trial and goes on after the last one noted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import JsonValue

from controller.arrays import F64
from controller.config import parse_config
from controller.errors import UsageError, mismatch
from controller.forecaster_file import forecaster_named
from controller.policies.predictive import MpcPolicy, MpcSettings
from controller.rule_arrays import ForecastArrays
from envs.joint_world import JointWorld
from envs.world import World
from experiments.forecasting import RateSeries, fit_forecaster
from experiments.judging import Judge
from experiments.train_config import TrainConfig
from experiments.tuning import Tuned, tune

FIXED = ("accuracy_tilt", "accuracy_margin", "miss_multiplier")
"""Settings left alone: how far a knob reaches, which a rule without knobs cannot feel; the distance kept from a floor,
which a search would spend because floors are broken by less than its noise; and the dial.
"""

OnTrial = Callable[[int, float, float], None]


@dataclass(frozen=True, eq=False)
class BaseRule:
    """Settings and forecaster of the rule, with how they came about."""

    settings: MpcSettings
    forecast: ForecastArrays
    forecast_report: dict[str, JsonValue]
    tuning_report: dict[str, JsonValue]


def fit_forecast(
    train: Sequence[World], validation: Sequence[World], config: TrainConfig, folder: Path
) -> tuple[ForecastArrays, dict[str, Any]]:
    """The forecaster, fitted or read back, or the one that the base settings name.

    Args:
        train: Worlds of the training days.
        validation: Worlds of the validation days.
        config: Settings.
        folder: Holds `forecaster.npz` and `forecaster.json`.
    """
    if not config.fit_forecaster:
        return forecaster_named(config.base.forecaster), {"forecaster": config.base.forecaster}
    arrays_path, report_path = folder / "forecaster.npz", folder / "forecaster.json"
    if arrays_path.exists() and report_path.exists():
        with np.load(arrays_path, allow_pickle=False) as held:
            if set(held.files) != set(ForecastArrays._fields):
                problem = mismatch(str(arrays_path), f"arrays {', '.join(ForecastArrays._fields)}", sorted(held.files))
                raise UsageError(f"{problem}; start anew without --resume")
            return ForecastArrays(**{name: held[name] for name in ForecastArrays._fields}), _read(report_path)
    control = train[0].setting.control
    horizon_ticks = max(1, round(control.horizon_s / control.tick_s))
    learned, held = ([one for world in worlds for one in tick_rates(world)] for worlds in (train, validation))
    fit = fit_forecaster(learned, held, horizon_ticks, config.forecast)
    folder.mkdir(parents=True, exist_ok=True)
    partial = arrays_path.with_suffix(".partial")
    with partial.open("wb") as stream:
        np.savez(stream, **fit.arrays._asdict())
    _write(report_path, fit.report.plain())
    partial.replace(arrays_path)
    return fit.arrays, fit.report.plain()


def tick_rates(world: World) -> list[RateSeries]:
    """Expected requests per tick over a world's days, in order; of a joint world day by day."""
    control = world.setting.control
    edges_s = np.arange(world.rate_rps.shape[1] + 1) * world.bin_s
    cumulative = np.concatenate([[0.0], np.cumsum(world.rate_rps.sum(axis=0) * world.bin_s)])
    dispersion = max(1.0, world.setting.scenario.arrivals.cv**2)
    if isinstance(world, JointWorld):
        spans_s = [(begin_s, begin_s + world.cell_s) for begin_s in world.begins_s]
    else:
        spans_s = [((world.days[0] - 1) * control.day_s, min(world.days[-1] * control.day_s, float(edges_s[-1])))]
    series = []
    for first_s, end_s in spans_s:
        ticks_s: F64 = np.arange(first_s, end_s + 1e-9, control.tick_s)
        per_tick = np.diff(np.interp(ticks_s, edges_s, cumulative))
        series.append(RateSeries(per_tick, np.ones(len(per_tick), bool), dispersion))
    return series


def tune_settings(
    worlds: Sequence[World],
    forecast: ForecastArrays,
    config: TrainConfig,
    folder: Path,
    on_trial: OnTrial | None = None,
) -> tuple[MpcSettings, dict[str, Any]]:
    """The rule's settings, tuned or read back.

    Args:
        worlds: Worlds of training and validation days; each gives an equal number of stretches.
        forecast: The fitted forecaster.
        config: Settings.
        folder: Holds `rule.json` and `trials.jsonl`.
        on_trial: Called after each trial with (trials done, its value, best value).
    """
    path, trials_path = folder / "rule.json", folder / "trials.jsonl"
    if path.exists():
        held = _read(path)
        return parse_config(held["settings"], MpcSettings, str(path)), held["report"]
    folder.mkdir(parents=True, exist_ok=True)
    if config.tune.trials == 0:
        _write(path, {"settings": config.base.model_dump(mode="json"), "report": {"trials": 0}})
        return config.base, {"trials": 0}
    count = max(1, config.tune.windows // len(worlds))
    judge = Judge(worlds, count, config.tune.window_s, config.tune.seed, config.objective)

    def judged(settings: MpcSettings) -> float:
        return judge.score(lambda setting: MpcPolicy(setting, settings, forecast)).value

    recorded = _recorded(trials_path)
    if recorded:
        judged(config.base)  # the reference that later values are relative to
    with trials_path.open("a", encoding="utf-8") as stream:

        def noted(done: int, value: float, best: float) -> None:
            stream.write(json.dumps(value) + "\n")
            stream.flush()
            if on_trial is not None:
                on_trial(done, value, best)

        found = tune(
            config.base,
            judged,
            trials=config.tune.trials,
            seconds=config.tune.seconds,
            seed=config.tune.seed,
            fixed=FIXED,
            recorded=recorded,
            on_trial=noted,
        )
    report = tuning_report(found)
    _write(path, {"settings": found.best.model_dump(mode="json"), "report": report})
    return found.best, report


def tuning_report(found: Tuned[MpcSettings]) -> dict[str, Any]:
    """What a search came to, as JSON values."""
    return {
        "trials": len(found.values),
        "start_value": found.start_value,
        "best_value": found.value,
        "gain": 1.0 - found.value / found.start_value,
    }


def make_base_rule(
    train: Sequence[World],
    validation: Sequence[World],
    config: TrainConfig,
    folder: Path,
    on_trial: OnTrial | None = None,
) -> BaseRule:
    """Forecaster and settings of the rule that a training starts from."""
    forecast, forecast_report = fit_forecast(train, validation, config, folder)
    settings, tuning = tune_settings((*train, *validation), forecast, config, folder, on_trial)
    return BaseRule(settings, forecast, forecast_report, tuning)


def _recorded(path: Path) -> list[float]:
    """Values noted before; a line cut short by a kill is left out, and with it what follows."""
    values: list[float] = []
    if path.exists():
        whole = path.read_text(encoding="utf-8").rpartition("\n")[0]
        values = [float(line) for line in whole.splitlines()]
        path.write_text("".join(f"{json.dumps(value)}\n" for value in values), encoding="utf-8")
    return values


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path}: expected the file of an earlier run, got: {error}; start anew without --resume"
        ) from error
    return dict(value)


def _write(path: Path, value: dict[str, Any]) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
