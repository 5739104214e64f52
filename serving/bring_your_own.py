"""Which model a variant runs: one of the zoo, a collage network, or any callable of the user's, `module:callable`.

A model is a callable from a list of inputs (one per request, JSON values) to a list of outputs of the same length. A
class, or a function without parameters, makes the model when it is called, once. Both happen in the replica, on one
thread; what the model raises fails the requests of its batch and nothing else. A model that tells how sure it is, so
that a cascade can end with it, has a method `with_confidence` besides; one of a variant with several cells gets a list
of inputs for each pass (see `serving.model_object.answers_of`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.config import load_object
from controller.errors import ConfigError
from serving import zoo
from serving.collage_model import CollageModel, CollageWeights, read_weights
from serving.digit_model import PIXELS
from serving.model_object import Model, made


@dataclass(frozen=True)
class ModelSpec:
    """How a replica gets its model; travels to it as a constructor argument."""

    variant: str
    zoo_weights: bytes | None = None
    reference: str | None = None  # "module:callable"
    network: CollageWeights | None = None

    def load(self) -> Model:
        """The model, imported or built now.

        Raises:
            ConfigError: The reference names nothing callable, or makes nothing callable.
        """
        if self.network is not None:
            return CollageModel(self.network)
        if self.reference is None:
            if self.zoo_weights is None:
                raise ConfigError(f"models.{self.variant}: expected a model, got none")
            return zoo.classifier(self.variant, self.zoo_weights)
        return as_model(load_object(self.reference, f"models.{self.variant}"), f"models.{self.variant}")

    def input_fault(self, value: object) -> str:
        """Why a value cannot be an input; empty where it can. A user's model takes any JSON value."""
        if self.network is not None:
            return zoo.input_fault(value, self.network.side, self.network.largest_pixel)
        return zoo.input_fault(value) if self.reference is None else ""

    @property
    def input_width(self) -> int | None:
        """Numbers that an input is a list of; None for a user's model, of which it is not known."""
        if self.network is not None:
            return self.network.side**2
        return PIXELS if self.reference is None else None


def as_model(found: Any, path: str) -> Model:
    """The model that an object is, or makes where it is a class or a function without parameters.

    Args:
        found: What a reference names.
        path: Field that holds the reference, for the message.

    Raises:
        ConfigError: It is no plain callable, or what it makes is none.
    """
    try:
        return made(found)
    except TypeError as error:
        raise ConfigError(f"{path}: {error}") from error


def model_specs(variants: Sequence[str], own: Mapping[str, str]) -> tuple[dict[str, ModelSpec], list[zoo.Trained]]:
    """A model for each variant: the user's where one is named, else the zoo's.

    Where a manifest of `provisor collage train` is named, it is that network.

    Args:
        variants: Names of the catalog's variants.
        own: Variant to `module:callable`, or to the path of a manifest, `FILE.json`.

    Returns:
        The specs by variant, and the zoo models among them with their measured accuracy.

    Raises:
        ConfigError: `own` names no variant of the catalog, or a variant has no model.
    """
    for name in own:
        if name not in variants:
            raise ConfigError(f"models: expected names of {list(variants)}, got '{name}'")
    missing = [v for v in variants if v not in own and v not in zoo.LADDER]
    if missing:
        known = ", ".join(sorted(zoo.LADDER))
        with_one = f"only {known} come with one"
        raise ConfigError(
            f"models.{missing[0]}: expected 'module:callable' or a network's .json ({with_one}), got nothing"
        )
    trained = zoo.load_or_train([v for v in variants if v not in own])
    specs = {v: _own_spec(v, own[v]) for v in variants if v in own}
    specs |= {name: ModelSpec(name, zoo_weights=one.weights) for name, one in trained.items()}
    return specs, list(trained.values())


def _own_spec(variant: str, named: str) -> ModelSpec:
    if named.endswith(".json"):
        return ModelSpec(variant, network=read_weights(Path(named)))
    return ModelSpec(variant, reference=named)
