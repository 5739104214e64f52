"""The learned policy: a small network turns the knobs of the `mpc` rule, and the rule decides.

The network looks once per decision interval and its knobs are held between; the rule acts on them every tick, so it
still answers a preemption at once. A network of zeros is the rule, bit for bit. All of it comes from one policy file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from controller.arrays import F64, Bool, ObservationArrays, PlanArrays
from controller.compile import Setting
from controller.config import parse_config
from controller.errors import ConfigError, PolicyFileError, mismatch
from controller.forecast import INPUTS, inputs_sha256
from controller.observation import NAME, OBSERVATION_SIZE, RuleView, encode_observation, observation_sha256
from controller.policies.policy_file import (
    ForecasterReference,
    InputRange,
    KnobReference,
    Manifest,
    PolicyContent,
    SpecReference,
    TrainingRecord,
    load_policy_file,
)
from controller.policies.predictive import MpcPolicy, MpcSettings
from controller.rule_arrays import KNOBS, ForecastArrays

if TYPE_CHECKING:
    from controller.kernels.network import NetworkArrays


class LearnedPolicy(MpcPolicy):
    """The rule under a network.

    Args:
        setting: What is decided for.
        source: A policy file, or its content.
        miss_multiplier: The preference dial: value of a miss relative to the rule's own; None takes the file's default.
        name: Name in tables and journals.
        replaced: Settings of the rule in place of the file's; `miss_multiplier` among them is the dial.

    Attributes:
        content: The file's content.
        is_known_catalog: Whether the policy was trained on a catalog of this structure.

    Raises:
        PolicyFileError: The file is damaged, or was made for other observations, knobs or (`catalog: fixed`) catalogs.
    """

    def __init__(
        self,
        setting: Setting,
        source: PolicyContent | str | Path,
        miss_multiplier: float | None = None,
        name: str = "learned",
        replaced: Mapping[str, JsonValue] | None = None,
    ) -> None:
        self.content = source if isinstance(source, PolicyContent) else load_policy_file(source)
        manifest = self.content.manifest
        where = "policy file" if isinstance(source, PolicyContent) else str(source)
        check_fits(manifest, setting, where)
        self.is_known_catalog = manifest.catalog_sha256 == setting.source.fingerprint
        self._network = network_of(self.content)
        dial = manifest.dial_default if miss_multiplier is None else miss_multiplier
        super().__init__(setting, rule_settings(manifest, where, dial, replaced), forecast_of(self.content), name)
        self.interval_ticks = int(setting.control.ticks_per_decision)

    def reset(self, num_envs: int) -> None:
        """Forgets all state; the network looks at the next observation."""
        super().reset(num_envs)
        self._is_fresh = True
        self._own: F64 = np.zeros_like(self.knobs)  # what the network said last, held between its looks
        self._forced: F64 | None = None
        self._seen = np.zeros((num_envs, OBSERVATION_SIZE), np.float32)

    def force_raw(self, raw: F64) -> None:
        """The next plan is made from `raw` (N, K), as a journal recorded it; the network still says its own."""
        self._forced = np.array(raw, np.float64)

    def prepare(self, observation: ObservationArrays) -> None:
        """Sets the knobs where a decision interval begins."""
        from controller.kernels.learned import look

        setting = self.setting
        look(setting.catalog, setting.workload, setting.control, *self._arguments(observation))
        self.knobs[...] = self._own if self._forced is None else self._forced
        self._forced = None

    def decide(self, observation: ObservationArrays) -> PlanArrays:
        """Sets the knobs where a decision interval begins, then plans every env; in one call, for speed."""
        from controller.kernels.learned import look_and_plan

        if self._forced is not None:
            return super().decide(observation)
        setting = self.setting
        look_and_plan(setting.catalog, setting.workload, setting.limits, setting.control, *self._arguments(observation))
        return self._plan

    @property
    def input_range(self) -> InputRange | None:
        """What the inputs were in training; None where the file does not say."""
        return self.content.manifest.input_range

    def features(self, observation: ObservationArrays) -> NDArray[np.float32]:
        """The network's inputs if it looked now, (N, D); to be asked before `decide`, and changes nothing."""
        rule = RuleView(self.arrays, self.forecast, self.state, self.knobs, self.dial, self.plan)
        return encode_observation(self.setting, rule, observation)

    def raw_output(self) -> F64:
        """The network's knobs of the last plan, (N, K)."""
        return self._own.copy()

    def _arguments(self, observation: ObservationArrays) -> tuple[Any, ...]:
        """What both kernels take after the setting."""
        return (
            self.arrays,
            self.forecast,
            self._network,
            self._due(observation),
            self.knobs,
            self.dial,
            self.state,
            observation,
            self._plan,
            self._seen,
            self._own,
            0,
            len(observation.tick),
        )

    def _due(self, observation: ObservationArrays) -> Bool:
        """Where the network looks now, (N,)."""
        is_due: Bool = observation.tick % self.setting.control.ticks_per_decision == 0
        if self._is_fresh:
            # A controller that starts between two intervals would else hold zeros until the next.
            is_due = np.ones_like(is_due)
            self._is_fresh = False
        return is_due


def network_of(content: PolicyContent) -> NetworkArrays:
    """The network as the kernels take it."""
    from controller.kernels.network import NetworkArrays

    layers = range(len(content.manifest.hidden) + 1)
    weights = [content.tensors[f"knobs.{layer}.weight"].T.astype(np.float64) for layer in layers]
    biases = [content.tensors[f"knobs.{layer}.bias"].astype(np.float64) for layer in layers]
    return NetworkArrays(
        widths=np.array([len(weights[0]), *(len(bias) for bias in biases)]),
        weights=np.concatenate([weight.ravel() for weight in weights]),
        biases=np.concatenate(biases),
    )


def content_of(
    setting: Setting,
    tensors: Mapping[str, NDArray[np.float32]],
    *,
    settings: MpcSettings,
    forecast: ForecastArrays,
    hidden: tuple[int, ...],
    catalog: Literal["fixed", "any"],
    training: TrainingRecord,
    metrics: Mapping[str, Any],
    input_range: InputRange | None = None,
) -> PolicyContent:
    """What a policy file holds of a network (`knobs.*` tensors) around a rule."""
    levels = tuple(float(level) for level in forecast.levels)
    widths = (len(forecast.b1), len(forecast.b2))
    manifest = Manifest(
        observation=observation_reference(),
        knobs=knob_references(),
        hidden=hidden,
        settings=settings.model_dump(mode="json", exclude={"forecaster"}),  # the file holds its own
        forecaster=ForecasterReference(inputs=inputs_reference(), levels=levels, hidden=widths),
        dial_default=settings.miss_multiplier,
        catalog=catalog,
        catalog_sha256=setting.source.fingerprint,
        training=training,
        input_range=input_range,
        metrics=dict(metrics),
    )
    fields = forecast._asdict()
    del fields["levels"]
    return PolicyContent(
        manifest,
        {name: np.asarray(array, np.float32) for name, array in tensors.items()}
        | {f"forecaster.{name}": np.asarray(array, np.float32) for name, array in fields.items()},
    )


def observation_reference() -> SpecReference:
    """Identity of the observation this version encodes."""
    return SpecReference(name=NAME, size=OBSERVATION_SIZE, sha256=observation_sha256())


def inputs_reference() -> SpecReference:
    """Identity of the forecaster's inputs."""
    return SpecReference(name="arrivals", size=len(INPUTS), sha256=inputs_sha256())


def knob_references() -> tuple[KnobReference, ...]:
    """The knobs this version turns, and how far."""
    from controller.kernels import mpc

    scales = {
        "headroom": mpc.FACTOR,
        "accuracy_tilt": 1.0,
        "spot_share": mpc.LOGIT,
        "over_provision": mpc.OVER_FACTOR,
        "overflow_fraction": mpc.LOGIT,
        "scale_in_s": mpc.SLOW_FACTOR,
        "on_demand_floor": mpc.LOGIT,
    }
    return tuple(KnobReference(name=name, scale=scales[name]) for name in KNOBS)


def check_fits(manifest: Manifest, setting: Setting, where: str) -> None:
    """Checks that a policy can decide for a setting.

    Raises:
        PolicyFileError: Naming the field, what this version has and what the file was made for.
    """
    pairs: tuple[tuple[str, object, object], ...] = (
        ("observation", observation_reference(), manifest.observation),
        ("forecaster.inputs", inputs_reference(), manifest.forecaster.inputs),
        ("knobs", knob_references(), manifest.knobs),
    )
    for field, expected, found in pairs:
        if expected != found:
            raise PolicyFileError(
                f"{where}: {field}: expected {expected}, got {found}; train it anew with this version"
            )
    fingerprint = setting.source.fingerprint
    if manifest.catalog == "fixed" and manifest.catalog_sha256 != fingerprint:
        what = f"{fingerprint} ('{setting.source.name}'), because the policy says `catalog: fixed`"
        raise PolicyFileError(mismatch(f"{where}: catalog_sha256", what, manifest.catalog_sha256))


def rule_settings(
    manifest: Manifest, where: str, dial: float, replaced: Mapping[str, JsonValue] | None = None
) -> MpcSettings:
    """Settings of the base rule at a dial, some of them replaced.

    Raises:
        PolicyFileError: Naming the settings this version does not take.
    """
    values = {**manifest.settings, "miss_multiplier": dial, **(replaced or {})}
    try:
        return parse_config(values, MpcSettings, f"{where}: settings")
    except ConfigError as error:
        raise PolicyFileError(str(error)) from error


def forecast_of(content: PolicyContent) -> ForecastArrays:
    """The forecaster."""
    arrays = {name: content.tensors[f"forecaster.{name}"].astype(np.float64) for name in ForecastArrays._fields[:-1]}
    return ForecastArrays(**arrays, levels=np.array(content.manifest.forecaster.levels))
