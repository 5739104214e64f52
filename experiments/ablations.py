"""Ablations of a training: the same run with one thing changed.

Each file of `experiments/configs/ablations` names only what differs and is laid over a run file:

    provisor train RUN.yaml --ablation no-warm-start
    provisor train RUN.yaml --ablation no-forecaster --ablation residual --out runs/train/both

Without `--out` the results lie beside those of the run, in `runs/train/NAME-ABLATION`, and every one of them prints how
it compares with the rule on the same validation stretches. What is changed:

- `no-warm-start`, `warm-start`: PPO begins with the rule, or with a clone of the rule that sees ahead;
- `no-forecaster`: rule and policy see persistence;
- `ppo`, `evolution`, `schedule`: another learner: PPO, evolution strategies on a linear policy, a gain schedule;
- `constants`: a gain schedule that looks at nothing, so what it gains other settings of the rule would have gained;
- `recurrent`: an LSTM before the knob network;
- `residual`, `direct`, `per-option`: another form of the action (`controller.forms`), learned by PPO.

The last four are judged by the same stretches as the knobs and are not exported: `seed-N/rival.json` holds what they
came to. `--ablation` takes the path of a file of your own too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from controller.config import read_yaml
from controller.errors import ConfigError, UsageError, mismatch
from experiments.run_config import RunConfig, parse_run

FOLDER = Path(__file__).parent / "configs" / "ablations"


def ablation_names() -> tuple[str, ...]:
    """Names of the shipped ones."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


def ablated_run(path: str | Path, ablations: Sequence[str]) -> RunConfig:
    """A run file with ablations laid over it, in order; its name is extended by theirs.

    Args:
        path: The run file.
        ablations: Names of shipped ones, or paths.

    Raises:
        ConfigError: A file is wrong, or what they make together is.
        UsageError: There is no such ablation.
    """
    value = _mapping(path)
    for one in ablations:
        value = _laid_over(value, _mapping(_file_of(one)))
    if ablations:
        value["name"] = "-".join([str(value.get("name", "run")), *(Path(one).stem for one in ablations)])
    return parse_run(value, " with ".join([str(path), *ablations]))


def _file_of(name: str) -> Path:
    if name in ablation_names():
        return FOLDER / f"{name}.yaml"
    if not Path(name).is_file():
        raise UsageError(mismatch("ablation", f"a file or one of {', '.join(ablation_names())}", name))
    return Path(name)


def _mapping(path: str | Path) -> dict[str, Any]:
    value = read_yaml(path)
    if not isinstance(value, dict):
        raise ConfigError(mismatch(str(path), "a mapping", value))
    return value


def _laid_over(value: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """`value` with every field of `other` in place of its own; mappings field by field."""
    found = dict(value)
    for name, entry in other.items():
        own = found.get(name)
        found[name] = _laid_over(own, entry) if isinstance(own, dict) and isinstance(entry, dict) else entry
    return found
