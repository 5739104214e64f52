"""Checkpoints of a training: everything needed to go on as if nothing had stopped it.

One file of tensors and plain values: networks, optimizer, random generators, the environments' arrays, and the
selection so far. It is read with torch's `weights_only`, so nothing in it can run, and it is for resuming alone: what
decides is a policy file.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from controller.errors import UsageError
from experiments.ppo import FromRule

CHECKPOINT_VERSION = 2


@runtime_checkable
class Restorable(Protocol):
    """Environments whose whole state is named arrays."""

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Copies of every array."""

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Goes on from a snapshot."""


def take(model: FromRule, selection: Mapping[str, Any], config_sha256: str) -> dict[str, Any]:
    """The state of a training between two rollouts, in memory; later steps do not change it."""
    assert model.env is not None
    if not isinstance(model.env, Restorable):
        raise UsageError(
            f"checkpoint: expected environments with snapshot() and restore(), got {type(model.env).__name__}"
        )
    kind, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002 - the generator Stable-Baselines3 shuffles with
    return {
        "version": CHECKPOINT_VERSION,
        "config_sha256": config_sha256,
        "steps": int(model.num_timesteps),
        "updates": int(model._n_updates),  # noqa: SLF001 - not public, and part of the state
        "policy": {name: tensor.clone() for name, tensor in model.policy.state_dict().items()},
        "optimizer": _copied(model.policy.optimizer.state_dict()),
        "torch_random": torch.get_rng_state(),
        "numpy_random": [str(kind), torch.from_numpy(np.array(keys)), int(position), int(has_gauss), float(cached)],
        "last_observation": torch.from_numpy(np.array(model._last_obs)),  # noqa: SLF001 - as above
        "last_starts": torch.from_numpy(np.array(model._last_episode_starts)),  # noqa: SLF001 - as above
        "memory": _memory(model),
        "envs": {name: torch.from_numpy(array) for name, array in model.env.snapshot().items()},
        "selection": dict(selection),
    }


def put(model: FromRule, state: Mapping[str, Any]) -> None:
    """Brings a freshly made model, and its environments, to a checkpoint."""
    assert model.env is not None
    assert isinstance(model.env, Restorable)
    model.policy.load_state_dict(state["policy"])
    model.policy.optimizer.load_state_dict(state["optimizer"])
    model.num_timesteps = state["steps"]
    model._n_updates = state["updates"]  # noqa: SLF001 - not public, and part of the state
    model.env.reset()  # a VecEnv may refuse to step before its first reset
    model.env.restore({name: tensor.numpy() for name, tensor in state["envs"].items()})
    model._last_obs = state["last_observation"].numpy()  # noqa: SLF001 - as above
    model._last_episode_starts = state["last_starts"].numpy()  # noqa: SLF001 - as above
    if state["memory"]:
        actor, critic = (tuple(one.clone() for one in pair) for pair in state["memory"])
        model._last_lstm_states = type(model._last_lstm_states)(actor, critic)  # type: ignore[attr-defined]  # noqa: SLF001 - a memory that is part of the state
    kind, keys, position, has_gauss, cached = state["numpy_random"]
    np.random.set_state((kind, keys.numpy(), position, has_gauss, cached))  # noqa: NPY002 - as above
    torch.set_rng_state(state["torch_random"])


def write(path: Path, state: Mapping[str, Any]) -> None:
    """Writes a checkpoint atomically."""
    stream = io.BytesIO()
    torch.save(dict(state), stream)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as target:
            target.write(stream.getbuffer())
            target.flush()
            os.fsync(target.fileno())
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def read(path: Path, config_sha256: str) -> dict[str, Any]:
    """Reads a checkpoint of a run with the same settings.

    Raises:
        UsageError: The file is damaged, of another version, or of a run with other settings.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        version, found = state["version"], state["config_sha256"]
    except Exception as error:  # torch raises many kinds for a damaged file
        raise UsageError(
            f"{path}: expected a whole checkpoint, got: {type(error).__name__}; start anew without --resume"
        ) from error
    if version != CHECKPOINT_VERSION:
        raise UsageError(f"{path}: expected checkpoint version {CHECKPOINT_VERSION}, got {version!r}")
    if found != config_sha256:
        raise UsageError(
            f"{path}: expected a checkpoint of the same settings, got one of others; start anew without --resume"
        )
    return dict(state)


def _memory(model: FromRule) -> list[Any]:
    """What a recurrent learner remembers of each env, of actor and critic; nothing of any other."""
    states = getattr(model, "_last_lstm_states", None)
    return [] if states is None else [[one.clone() for one in pair] for pair in states]


def _copied(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: _copied(entry) for key, entry in value.items()}
    return [_copied(entry) for entry in value] if isinstance(value, list | tuple) else value
