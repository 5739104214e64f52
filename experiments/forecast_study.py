"""Compares forecasters on days they never saw, and fits the one that comes with the package.

Every candidate forecasts the same moments; pinball loss and coverage are reported by trace and level. A candidate's
scores are kept in the folder of results, so an interrupted study goes on with the next one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from pydantic import JsonValue

from controller.arrays import F64
from controller.forecast import LEVELS, growth_of, inputs_sha256
from controller.forecaster_file import ForecasterManifest, forecaster_named, save_forecaster
from controller.rule_arrays import ForecastArrays
from experiments.forecast_samples import DRAWS, HORIZONS_TICKS, JUDGED_TICKS, Moments, all_moments
from experiments.forecast_traces import PRESETS, SOURCES, Part, PartSeries, load_series
from experiments.quantile_fit import FitConfig, coverage, pinball

Say = Callable[[str], None]

HOUR_LAGS = tuple(range(30, 361, 6))
SEASONS = (30, 60, 90, 180, 360)
PERSISTENCE, SHIPPED = "persistence", "mlp inputs 64-32"
"""Names of the candidate that all are measured against, and of the one in the decision path."""


@dataclass(frozen=True)
class StudyConfig:
    """How much is learned from and judged on."""

    train_moments: int = 6000  # of a series under a draw; a row of a file gives a quarter
    judged_moments: int = 1500
    fit: FitConfig = field(default_factory=lambda: FitConfig(epochs=30))
    sequence_steps: int = 2000
    seed: int = 0


QUICK = StudyConfig(train_moments=300, judged_moments=150, fit=FitConfig(epochs=3), sequence_steps=10)


class Forecaster(Protocol):
    """What is compared."""

    @property
    def seconds(self) -> float:
        """Of the fit."""

    def quantiles(self, moments: Moments, horizon_ticks: int) -> F64:
        """Quantiles of growth, (S, Q)."""


@dataclass(frozen=True)
class TraceScore:
    """How good a candidate is on a trace; lists run over the levels."""

    trace: str
    moments: int
    pinball: tuple[float, ...]
    coverage: tuple[float, ...]
    is_held_out: bool

    @property
    def loss(self) -> float:
        """Mean over the levels."""
        return float(np.mean(self.pinball))


@dataclass(frozen=True)
class CandidateScore:
    """How good a candidate is on every trace."""

    name: str
    seconds: float
    traces: tuple[TraceScore, ...]

    @property
    def loss(self) -> float:
        """Mean over the traces that networks learned from other days of; it decides."""
        return float(np.mean([one.loss for one in self.traces if not one.is_held_out]))

    @property
    def coverage(self) -> F64:
        """Mean coverage over the same traces, (Q,)."""
        return np.asarray(np.mean([one.coverage for one in self.traces if not one.is_held_out], axis=0))


def score_of(name: str, forecaster: Forecaster, judged: Sequence[Moments], horizon_ticks: int) -> CandidateScore:
    """Scores a forecaster by trace; all series and draws of a trace count by their moments."""
    column = HORIZONS_TICKS.index(horizon_ticks)
    parts: dict[str, list[tuple[int, F64, F64, bool]]] = {}
    for one in judged:
        found, held = forecaster.quantiles(one, horizon_ticks), one.growth[:, column]
        label = f"{one.series.trace}, rows" if one.series.is_row else one.series.trace
        row = (len(held), pinball(found, held), coverage(found, held), one.series.is_held_out)
        parts.setdefault(label, []).append(row)
    return CandidateScore(name, round(forecaster.seconds, 1), tuple(_pooled(*one) for one in parts.items()))


def _pooled(trace: str, rows: list[tuple[int, F64, F64, bool]]) -> TraceScore:
    weights = [count for count, *_ in rows]
    losses = np.average([loss for _, loss, _, _ in rows], axis=0, weights=weights)
    covered = np.average([share for _, _, share, _ in rows], axis=0, weights=weights)
    return TraceScore(trace, sum(weights), tuple(losses.tolist()), tuple(covered.tolist()), rows[0][3])


class NetworkInPath:
    """A network as the decision path takes it, in numpy."""

    def __init__(self, arrays: ForecastArrays, seconds: float = 0.0) -> None:
        self.arrays, self.seconds = arrays, seconds

    def quantiles(self, moments: Moments, horizon_ticks: int) -> F64:
        """Quantiles of growth, (S, Q)."""
        from experiments.forecasting import inputs_at

        return growth_of(self.arrays, inputs_at(moments.counts, moments.at, moments.known, horizon_ticks))


def run_study(root: Path, config: StudyConfig, part: Part, out: Path, say: Say) -> list[CandidateScore]:
    """Fits and scores every candidate.

    Args:
        root: Directory of the public traces.
        config: How much.
        part: `validation`; `test` once all choices are made.
        out: Folder of results; scores found there under the same config are not made anew.
        say: Told what goes on.

    Returns:
        Scores, in the order of `candidates`.
    """
    series = load_series(root)
    judged = all_moments(series, part, config.judged_moments, config.seed)
    out.mkdir(parents=True, exist_ok=True)
    scores = []
    for name, fit in candidates(series, config):
        key = hashlib.sha256(json.dumps([asdict(config), part, name, LEVELS]).encode()).hexdigest()[:16]
        path = out / f"{name.replace(' ', '-')}-{key}.json"
        if not path.exists():
            say(f"fitting {name}")
            score = score_of(name, fit(), judged, JUDGED_TICKS)
            path.write_text(json.dumps(asdict(score), indent=1) + "\n", encoding="utf-8")
        scores.append(_read(path))
        say(f"{name}: mean pinball loss {scores[-1].loss:.5f}, fitted in {scores[-1].seconds:g} s")
    return scores


def candidates(series: Sequence[PartSeries], config: StudyConfig) -> Iterator[tuple[str, Callable[[], Forecaster]]]:
    """Name of each candidate and what fits it."""
    from experiments import forecast_classical as classical
    from experiments import forecast_nets as nets

    known = all_moments(series, "train", config.train_moments, config.seed)
    learned = [one for one in known if not one.series.is_held_out]

    def fitted(model: classical.Classical) -> Forecaster:
        model.fit(known)
        return model

    def sequence(kind: type[nets.Recurrent] | type[nets.Convolutional], width: int) -> Forecaster:
        steps = nets.SequenceConfig(steps=config.sequence_steps, seed=config.seed)
        dense = all_moments([one for one in series if not one.is_held_out], "train", 10**9, config.seed)
        return nets.fit_sequence_net(learned, dense, kind, width, steps)

    def moment(inputs: nets.Inputs, *hidden: int) -> Callable[[], Forecaster]:
        return lambda: nets.fit_moment_net(learned, inputs, hidden, config.fit)

    yield PERSISTENCE, lambda: fitted(classical.Persistence())
    yield "seasonal-naive hour", lambda: fitted(classical.SeasonalNaive(HOUR_LAGS))
    yield "seasonal-naive day", lambda: fitted(classical.SeasonalNaive((classical.DAY_TICKS,)))
    yield "holt-winters", lambda: fitted(classical.HoltWinters(SEASONS))
    yield "mlp features 32", moment(nets.feature_inputs, 32)
    yield "mlp windows 64-32", moment(nets.window_inputs, 64, 32)
    yield SHIPPED, moment(nets.all_inputs, 64, 32)
    yield "gru 32", lambda: sequence(nets.Recurrent, 32)
    yield "tcn 24", lambda: sequence(nets.Convolutional, 24)


def fit_shipped(root: Path, config: StudyConfig, say: Say) -> tuple[ForecastArrays, ForecasterManifest]:
    """Fits the network of the decision path on all training traces; equal data and config give equal numbers."""
    from experiments.forecast_nets import all_inputs, fit_moment_net

    series = load_series(root)
    known = all_moments([one for one in series if not one.is_held_out], "train", config.train_moments, config.seed)
    say(f"fitting {SHIPPED} on {sum(len(one.at) for one in known)} moments of {len(known)} drawn series")
    found = fit_moment_net(known, all_inputs, config.fit.hidden, config.fit)
    arrays = found.fitted.arrays()
    judged = all_moments(series, "validation", config.judged_moments, config.seed)
    training: dict[str, Any] = {
        "traces": [source.name for source in SOURCES if not source.is_held_out],
        "generated": list(PRESETS),
        "split": "train",
        "draws": [asdict(draw) for draw in DRAWS],
        "config": json.loads(json.dumps(asdict(config))),
        "moments": sum(len(one.at) for one in known),
        "data_sha256": data_sha256(series),
    }
    validation: dict[str, JsonValue] = {
        str(horizon): _summary(score_of(SHIPPED, NetworkInPath(arrays), judged, horizon)) for horizon in HORIZONS_TICKS
    }
    manifest = ForecasterManifest(
        inputs_sha256=inputs_sha256(),
        levels=LEVELS,
        hidden=config.fit.hidden,
        horizons_ticks=HORIZONS_TICKS,
        training=training,
        validation=validation,
    )
    return arrays, manifest


def write_shipped(root: Path, config: StudyConfig, path: Path, say: Say) -> ForecasterManifest:
    """Fits the network of the decision path and writes it."""
    arrays, manifest = fit_shipped(root, config, say)
    return save_forecaster(path, manifest, arrays)


def shipped_score(root: Path, config: StudyConfig, part: Part, horizon_ticks: int = JUDGED_TICKS) -> CandidateScore:
    """Score of the forecaster that comes with the package."""
    judged = all_moments(load_series(root), part, config.judged_moments, config.seed)
    return score_of("shipped", NetworkInPath(forecaster_named("default")), judged, horizon_ticks)


def data_sha256(series: Sequence[PartSeries]) -> str:
    """Digest of the training rates: what a forecaster was fitted on."""
    digest = hashlib.sha256()
    for one in series:
        if one.part == "train" and not one.is_held_out:
            digest.update(one.name.encode())
            digest.update(np.ascontiguousarray(one.per_tick[one.first : one.last], np.float32).tobytes())
            digest.update(np.packbits(one.valid[one.first : one.last]).tobytes())
    return digest.hexdigest()


def _summary(score: CandidateScore) -> dict[str, JsonValue]:
    return {
        "pinball": round(score.loss, 6),
        "coverage": [round(float(share), 4) for share in score.coverage],
        "pinball_by_trace": {one.trace: round(one.loss, 6) for one in score.traces},
    }


def _read(path: Path) -> CandidateScore:
    value = json.loads(path.read_text(encoding="utf-8"))
    traces = tuple(
        TraceScore(one["trace"], one["moments"], tuple(one["pinball"]), tuple(one["coverage"]), one["is_held_out"])
        for one in value["traces"]
    )
    return replace(CandidateScore(value["name"], value["seconds"], ()), traces=traces)
