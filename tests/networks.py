"""Policy files of random networks around a rule with settings of its own."""

import itertools

import numpy as np

from controller.forecast import LEVELS, new_forecast
from controller.observation import OBSERVATION_SIZE
from controller.policies.learned import content_of
from controller.policies.policy_file import PolicyContent, TrainingRecord
from controller.policies.predictive import MpcSettings
from controller.rule_arrays import NUM_KNOBS

HIDDEN = (8, 6)
SETTINGS = MpcSettings(headroom=1.4, quantile=0.93, scale_in_s=123.0, overflow_fraction=0.37)
RECORD = TrainingRecord(trace="t", scenario="tiny", train_days=(1, 1), validation_days=(2, 2), seeds=(0,), steps=5)


def forecaster():
    """A network whose numbers are exact in float32, as fitted ones are."""
    rng = np.random.default_rng(7)
    blank = new_forecast(LEVELS, hidden=(4, 3))
    drawn = {
        name: rng.normal(size=array.shape, scale=0.3) for name, array in blank._asdict().items() if name != "levels"
    }
    return blank._replace(**{name: array.astype(np.float32).astype(np.float64) for name, array in drawn.items()})


def network(scale):
    rng = np.random.default_rng(3)
    sizes = (OBSERVATION_SIZE, *HIDDEN, NUM_KNOBS)
    tensors = {}
    for layer, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        tensors[f"knobs.{layer}.weight"] = (rng.normal(size=(outputs, inputs)) * scale).astype(np.float32)
        tensors[f"knobs.{layer}.bias"] = (rng.normal(size=outputs) * scale).astype(np.float32)
    return tensors


def make_content(setting, scale=0.0, catalog="any", **changes):
    content = content_of(
        setting,
        network(scale),
        settings=SETTINGS,
        forecast=forecaster(),
        hidden=HIDDEN,
        catalog=catalog,
        training=RECORD,
        metrics={},
    )
    return PolicyContent(content.manifest.model_copy(update=changes), content.tensors)
