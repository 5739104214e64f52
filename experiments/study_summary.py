"""What a study came to, as files: the settings, which `--policy` takes, and a summary to keep beside them."""

from __future__ import annotations

import hashlib
import json
import lzma
import math
import pkgutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import JsonValue

import controller.kernels
import envs.kernels
from controller.config import commit_of_code, versions
from controller.errors import ConfigError
from controller.kernel_cache import source_hash
from experiments.search_plan import Settings, gain_of_last
from experiments.study_config import StudyConfig
from experiments.tuning import Range
from experiments.world_ref import fingerprint, world_of

if TYPE_CHECKING:
    from experiments.search import Search

SETTINGS, SUMMARY = "settings.yaml", "study.json"
_TRIALS = ".log.xz"
GAIN_TRIALS = 500
"""Trials over which a summary says how much was still gained; fewer do not show that a search has converged."""

EDGE = 0.01  # share of a range this close to its end
_FEWEST_FOR_IMPORTANCE = 20
_STATES = {"complete": "complete", "given_up": "pruned", "failed": "fail"}


@dataclass(frozen=True, eq=False)
class StudyResult:
    """A study that ended, or that was looked at between batches."""

    config: StudyConfig
    search: Search
    references_usd: tuple[float, ...]
    ended: str | None  # the stop rule's reason; None: not yet

    @property
    def settings(self) -> Settings:
        """The best settings."""
        best = self.search.best
        return self.search.settings(best.number, best.params)


def write_study(result: StudyResult, folder: Path, *, importances: bool = True) -> list[Path]:
    """Writes `settings.yaml` and `study.json` into a folder; returns both.

    Args:
        result: What came out.
        folder: Made if missing.
        importances: Whether to compute how much each setting matters, which takes seconds after a thousand trials.

    Raises:
        ConfigError: The folder cannot be written.
    """
    return _written(result, folder / SETTINGS, folder / SUMMARY, importances)


def commit_study(result: StudyResult, folder: Path) -> list[Path]:
    """Writes the same two files as `NAME.yaml` and `NAME.json`, to be kept with the code."""
    name = result.config.name
    return _written(result, folder / f"{name}.yaml", folder / f"{name}.json", True)


def pack_trials(log: Path, folder: Path, name: str) -> Path:
    """Packs a study's trials as `NAME.log.xz`, from which it can go on elsewhere; returns that file.

    Args:
        log: The study's own file.
        folder: Where the study is kept with the code.
        name: Of the study.

    Raises:
        ConfigError: The folder cannot be written.
    """
    path = folder / f"{name}{_TRIALS}"
    _put(path, lzma.compress(log.read_bytes(), preset=9))
    return path


def unpack_trials(log: Path, folder: Path, name: str) -> bool:
    """Unpacks what `pack_trials` wrote, unless the study's own file is there; says whether it did.

    Raises:
        ConfigError: The file is damaged.
    """
    path = folder / f"{name}{_TRIALS}"
    if log.exists() or not path.exists():
        return False
    try:
        text = lzma.decompress(path.read_bytes())
    except (lzma.LZMAError, EOFError) as error:
        raise ConfigError(f"{path}: expected a study's packed trials, got: {error}") from error
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_bytes(text)
    return True


def edges(result: StudyResult) -> list[dict[str, JsonValue]]:
    """Tuned settings at an end of their range: there the range is the limit, or another setting took the role."""
    found: list[dict[str, JsonValue]] = []
    for one in result.config.ranges:
        value = result.settings[one.name]
        side = None if one.is_flag else _side(one, value)
        if side is not None:
            found.append({"name": one.name, "value": value, "end": side, "range": [one.low, one.high]})
    return found


def summary(result: StudyResult, *, importances: bool = True) -> dict[str, JsonValue]:
    """The study in JSON values."""
    config, search = result.config, result.search
    course = search.course
    best = search.best
    states = [trial.state.name.lower() for trial in search.trials]
    return {
        "policy": {"kind": config.kind, "name": config.name},
        "settings": result.settings,
        "start": config.start,
        "more_starts": list(config.more_starts),
        "fixed": list(config.fixed),
        "ranges": {one.name: [one.low, one.high] for one in config.ranges},
        "edges": list(edges(result)),
        "worlds": _worlds(result),
        "objective": config.objective.model_dump(mode="json"),
        "trials": {
            "total": len(states),
            **{name: states.count(state) for name, state in _STATES.items()},
            "best": best.number,
            "ended_by": result.ended,
        },
        "value": {
            "start": course[0],
            "best": course[-1],
            "gain": 1.0 - course[-1] / course[0],
            "gain_of_last": {"trials": min(GAIN_TRIALS, len(course) - 1), "gain": gain_of_last(course, GAIN_TRIALS)},
        },
        "convergence": _improvements(course),
        "importances": _importances(result) if importances else None,
        "search": {"seed": config.seed, "batch": config.batch, "give_up_above": config.give_up_above},
        "solver": _solver(result),
        "cpu_seconds": round(_seconds(result), 3),
        "kernels": kernels_hash(),
        "versions": {**versions()},
        **commit_of_code(),
    }


def kernels_hash() -> str:
    """Hash of all sources that decisions and simulator are compiled from, 16 hex digits."""
    digest = hashlib.sha256()
    for package in (controller.kernels, envs.kernels):
        for module in sorted(one.name for one in pkgutil.iter_modules(package.__path__)):
            digest.update(source_hash(f"{package.__name__}.{module}").encode())
    return digest.hexdigest()[:16]


def _worlds(result: StudyResult) -> list[JsonValue]:
    config, search = result.config, result.search
    start, best = (search.trials[number].user_attrs["worlds"] for number in (0, search.best.number))
    found: list[JsonValue] = []
    for index, ref in enumerate(config.worlds):
        world = world_of(ref)
        found.append(
            {
                **ref.model_dump(mode="json", exclude={"choice": {"days"}}),
                "trace": world.trace_name,
                "classes": list(world.setting.class_names),
                "fingerprint": fingerprint(ref),
                "reference_usd": result.references_usd[index],
                "start": without_seconds(start[index]),
                "best": without_seconds(best[index]),
            }
        )
    return found


def without_seconds(facts: Mapping[str, Any]) -> dict[str, JsonValue]:
    """Facts of a judged world that are the same whenever it is run."""
    return {name: value for name, value in facts.items() if name != "seconds"}


def _seconds(result: StudyResult) -> float:
    return math.fsum(
        facts.get("seconds", 0.0) for trial in result.search.trials for facts in trial.user_attrs["worlds"]
    )


def _solver(result: StudyResult) -> JsonValue:
    """Programs that all trials solved, and how many ended otherwise; None where nothing is solved."""
    counts: dict[str, JsonValue] = {}
    for trial in result.search.trials:
        for facts in trial.user_attrs["worlds"]:
            for name, count in facts.get("solver", {}).items():
                counts[name] = int(str(counts.get(name, 0))) + count
    return counts or None


def _improvements(course: list[float]) -> list[JsonValue]:
    """[trials, best value] at each improvement and at the end."""
    points: list[JsonValue] = []
    for count, value in enumerate(course, 1):
        if count == 1 or value < course[count - 2] or count == len(course):
            points.append([count, value])
    return points


def _importances(result: StudyResult) -> JsonValue:
    """Share of the variance of completed trials that each setting explains; None where there are too few."""
    import optuna

    trials = [trial for trial in result.search.trials if trial.state == optuna.trial.TrialState.COMPLETE]
    if len(trials) < _FEWEST_FOR_IMPORTANCE or len({trial.value for trial in trials}) < 2:
        return None
    study = optuna.create_study()
    study.add_trials(trials)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: round(float(share), 4) for name, share in found.items() if math.isfinite(share)}


def _side(one: Range, value: Any) -> str | None:
    unit = one.unit(float(value))
    if one.is_integer:
        return "low" if value <= one.low else "high" if value >= one.high else None
    return "low" if unit <= EDGE else "high" if unit >= 1.0 - EDGE else None


def _written(result: StudyResult, settings: Path, report: Path, importances: bool) -> list[Path]:
    spec = {"kind": result.config.kind, "name": result.config.name, "settings": result.settings}
    texts = {
        settings: yaml.safe_dump(spec, sort_keys=False, allow_unicode=True, width=120),
        report: json.dumps(summary(result, importances=importances), indent=1, allow_nan=False) + "\n",
    }
    for path, text in texts.items():
        _put(path, text.encode())
    return list(texts)


def _put(path: Path, content: bytes) -> None:
    """Writes a file at once, in a folder that is made if missing."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        raise ConfigError(f"{path}: expected a writable file, got: {error.strerror or error}") from error
