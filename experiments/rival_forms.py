"""Learners and actions that no policy file holds: judged by the same stretches as what is exported, and noted.

`rival.json` says what one came to against the rule; `rival.npz` holds its weights, which `experiments.actors` reads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from controller.compile import Setting
from controller.policies.forms import FormPolicy
from controller.ports import Policy
from experiments.actors import actor_of
from experiments.base_rule import BaseRule
from experiments.selection import Aim
from experiments.train_config import TrainConfig

Tensors = Mapping[str, NDArray[np.float32]]


def rival_policy(setting: Setting, config: TrainConfig, base: BaseRule, tensors: Tensors, aim: Aim) -> Policy:
    """The rule under a network of a form that no policy file holds."""
    return FormPolicy(setting, aim.of(base.settings), base.forecast, config.action, actor_of(config, tensors))


def note_rival(
    folder: Path, config: TrainConfig, tensors: Tensors, steps: int, metrics: Mapping[str, JsonValue]
) -> None:
    """Notes what a rival in form came to, and its weights, beside its checkpoint.

    Args:
        folder: Of the seed; gets `rival.json` and `rival.npz`.
        config: Settings.
        tensors: The selected weights.
        steps: Decisions that they have seen.
        metrics: Scores on the validation days, of the rival and of the rule, and how the rule came about.
    """
    with (folder / "rival.npz").open("wb") as stream:
        np.savez(stream, **dict(tensors))  # type: ignore[arg-type]  # its stub takes names of options for arrays
    noted = {"learner": config.learner, "action": config.action, "steps": steps, "metrics": dict(metrics)}
    (folder / "rival.json").write_text(json.dumps(noted, indent=1) + "\n", encoding="utf-8")
