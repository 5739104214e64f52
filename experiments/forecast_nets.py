"""Networks that forecast the growth of a rate: on features, on window means, recurrent, and convolutional.

All give quantiles as the decision path does (a lowest one, and softplus increments), take the horizon as an input, and
see no clock. Those on features and window means look at one moment; the recurrent and the convolutional one read the
hour tick by tick, each tick told relative to the means around it, so that a service of any size looks alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from controller.arrays import F64, HISTORY_TICKS
from controller.forecast import FEATURES, LEVELS
from controller.rule_arrays import RATE_TICKS
from experiments.forecast_samples import (
    FLOOR_PER_TICK,
    HORIZONS_TICKS,
    JUDGED_TICKS,
    Moments,
    mean_before,
)
from experiments.forecasting import inputs_at
from experiments.quantile_fit import FitConfig, pinball
from experiments.quantile_net import FittedNet, QuantileNet, fit_quantile_net, pinball_losses

F32 = NDArray[np.float32]
_LIMIT = 5.0
_NOISE = FEATURES.index("1 / sqrt(requests behind the rate now + 1)")


@dataclass(frozen=True)
class SequenceConfig:
    """How long a network that reads ticks is trained."""

    steps: int = 2000
    sequences: int = 128  # per step
    judged_ticks: int = 240  # last ticks of a sequence of an hour and so many that are judged
    learning_rate: float = 3e-3
    seed: int = 0


def horizon_input(ticks: F64 | int) -> F64:
    """The horizon as networks are told it."""
    return np.asarray(np.log(np.asarray(ticks, np.float64) / JUDGED_TICKS))


Inputs = Callable[[Moments], F64]


def feature_inputs(moments: Moments) -> F64:
    """The features alone, (S, F)."""
    return all_inputs(moments)[:, : len(FEATURES)]


def window_inputs(moments: Moments) -> F64:
    """Log means of windows that widen with age, relative to the rate now, and how many requests that rests on."""
    found = all_inputs(moments)
    return np.concatenate([found[:, len(FEATURES) :], found[:, [_NOISE]]], axis=1)


def all_inputs(moments: Moments) -> F64:
    """What the decision path's network is given, but for the horizon."""
    return inputs_at(moments.counts, moments.at, moments.known, JUDGED_TICKS)[:, :-1]


@dataclass(frozen=True, eq=False)
class MomentForecaster:
    """A network that looks at one moment."""

    inputs: Inputs
    fitted: FittedNet
    seconds: float

    def quantiles(self, moments: Moments, horizon_ticks: int) -> F64:
        """Quantiles of growth, (S, Q)."""
        return self.fitted.quantiles(self.inputs(moments), float(horizon_input(horizon_ticks)))


def fit_moment_net(
    moments: Sequence[Moments], inputs: Inputs, hidden: Sequence[int], config: FitConfig
) -> MomentForecaster:
    """Fits a network that looks at one moment; equal arguments give equal networks."""
    began_s = time.monotonic()
    found = np.concatenate([inputs(one) for one in moments])
    growth = np.concatenate([one.growth for one in moments])
    told = horizon_input(np.array(HORIZONS_TICKS))
    fitted = fit_quantile_net(found, growth, told, config, hidden, _weights(moments))
    return MomentForecaster(inputs, fitted, time.monotonic() - began_s)


def _weights(moments: Sequence[Moments]) -> F64:
    """Weight of the loss of every moment, of mean 1."""
    found = np.repeat([loss_weight(one) for one in moments], [len(one.at) for one in moments])
    return np.asarray(found / found.mean())


def loss_weight(moments: Moments) -> float:
    """Weight of the losses of a series under a draw: the root of one over the loss of a rate that stays.

    Losses of a steady series are a hundredth of a bursty one's; unweighted, a fit would care for the bursty alone. The
    root is halfway between caring for losses and caring for losses relative to those of a rate that stays.
    """
    still = np.broadcast_to(np.quantile(moments.judged, LEVELS), (len(moments.at), len(LEVELS)))
    return float(max(pinball(still, moments.judged).mean(), 1e-4) ** -0.5)


def _start(moments: Sequence[Moments]) -> F64:
    return np.asarray(np.quantile(np.concatenate([one.judged for one in moments]), LEVELS))


class Recurrent(nn.Module):
    """A GRU over ticks; its state is what it knows."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.gru = nn.GRU(inputs, width, batch_first=True)

    def forward(self, ticks: torch.Tensor) -> torch.Tensor:
        """(B, T, inputs) to (B, T, width)."""
        known: torch.Tensor = self.gru(ticks)[0]
        return known


class Convolutional(nn.Module):
    """Dilated causal convolutions, each added to what it read; they reach back over 511 ticks."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, width)
        self.layers = nn.ModuleList(nn.Conv1d(width, width, 3, dilation=2**level) for level in range(8))

    def forward(self, ticks: torch.Tensor) -> torch.Tensor:
        """(B, T, inputs) to (B, T, width)."""
        held: torch.Tensor = self.first(ticks).transpose(1, 2)
        for level, layer in enumerate(self.layers):
            held = held + torch.relu(layer(nn.functional.pad(held, (2 ** (level + 1), 0))))
        return held.transpose(1, 2)


NUM_TICK_INPUTS = 6


def tick_inputs(counts: F64) -> F32:
    """What a network that reads ticks is told of each, (T, 6), from that tick and those before it alone."""
    at = np.arange(1, len(counts) + 1)
    means = [mean_before(counts, at, 1)]
    for ticks in (RATE_TICKS, 60, HISTORY_TICKS):
        total = np.concatenate([[0.0], np.cumsum(counts)])
        known = np.minimum(at, ticks)
        means.append((total[at] - total[at - known]) / known)
    logs = [np.log(mean + FLOOR_PER_TICK) for mean in means]
    ratios = [logs[0] - logs[1], logs[1] - logs[2], logs[2] - logs[3]]
    change = np.diff(logs[1], prepend=logs[1][0])
    found = np.stack([*ratios, logs[0] - logs[3], change, 1.0 / np.sqrt(means[1] * RATE_TICKS + 1.0)], axis=1)
    return np.asarray(np.clip(found, -_LIMIT, _LIMIT), np.float32)


class SequenceNet(nn.Module):
    """A reader of ticks and quantiles of what it knows."""

    def __init__(self, reader: nn.Module, width: int, hidden: int, start: F64, generator: torch.Generator) -> None:
        super().__init__()
        self.reader = reader
        self.head = QuantileNet(width + NUM_TICK_INPUTS + 1, [hidden], start, generator)

    def forward(self, ticks: torch.Tensor, places: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
        """Quantiles at some places of each sequence.

        Args:
            ticks: (B, T, inputs).
            places: (J,) where quantiles are asked for.
            told: (B, J) horizon of each.

        Returns:
            (B, J, Q).
        """
        known = self.reader(ticks)[:, places]
        found: torch.Tensor = self.head(torch.cat([known, ticks[:, places], told[..., None]], dim=-1))
        return found


@dataclass(frozen=True, eq=False)
class SequenceForecaster:
    """A network that reads the last hour tick by tick."""

    net: SequenceNet
    seconds: float

    def quantiles(self, moments: Moments, horizon_ticks: int) -> F64:
        """Quantiles of growth, (S, Q)."""
        inputs = tick_inputs(moments.counts)
        found = []
        last = torch.tensor([HISTORY_TICKS - 1])
        with torch.no_grad():
            for at in np.array_split(moments.at, max(1, len(moments.at) // 512)):
                ticks = torch.from_numpy(inputs[at[:, None] - HISTORY_TICKS + np.arange(HISTORY_TICKS)[None, :]])
                told = torch.full((len(at), 1), float(horizon_input(horizon_ticks)))
                found.append(self.net(ticks, last, told)[:, 0].numpy())
        return np.asarray(np.concatenate(found), np.float64)


def fit_sequence_net(
    moments: Sequence[Moments],
    dense: Sequence[Moments],
    kind: type[Recurrent] | type[Convolutional],
    width: int,
    config: SequenceConfig,
) -> SequenceForecaster:
    """Fits a network that reads ticks.

    Args:
        moments: Moments that networks which look at one moment learn from; for the first quantiles.
        dense: Every moment of the same series, from which sequences are drawn; series alike in weight.
        kind: Which reader.
        width: Its width.
        config: Settings.
    """
    began_s = time.monotonic()
    torch.set_num_threads(1)
    torch.manual_seed(config.seed)
    rng = np.random.default_rng([config.seed, 0x5E9])
    net = SequenceNet(
        kind(NUM_TICK_INPUTS, width), width, 32, _start(moments), torch.Generator().manual_seed(config.seed)
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    told = horizon_input(np.array(HORIZONS_TICKS)).astype(np.float32)
    inputs = [tick_inputs(one.counts) for one in dense]
    weight = np.array([0.25 if one.series.is_row else 1.0 for one in dense])
    losses = torch.tensor([loss_weight(one) for one in dense])
    losses = losses / losses.mean()
    length = HISTORY_TICKS + config.judged_ticks
    places = np.arange(HISTORY_TICKS, length, 5)
    for _ in range(config.steps):
        ticks = np.zeros((config.sequences, length, NUM_TICK_INPUTS), np.float32)
        growth = np.full((config.sequences, len(places)), np.nan, np.float32)
        which = rng.integers(len(told), size=growth.shape)
        drawn = rng.choice(len(dense), config.sequences, p=weight / weight.sum())
        for row, index in enumerate(drawn):
            one = dense[index]
            end = int(rng.choice(one.at)) + int(rng.integers(config.judged_ticks))
            end = max(length, min(end, int(one.at[-1])))
            ticks[row] = inputs[index][end - length : end]
            at = end - length + places + 1
            place = np.searchsorted(one.at, at)
            place = np.minimum(place, len(one.at) - 1)
            growth[row] = np.where(one.at[place] == at, one.growth[place, which[row]], np.nan)
        optimizer.zero_grad()
        found = net(torch.from_numpy(ticks), torch.from_numpy(places), torch.from_numpy(told[which]))
        wanted = torch.from_numpy(growth)
        is_known = ~torch.isnan(wanted)
        of_row = losses[torch.from_numpy(drawn)][:, None].expand(wanted.shape)
        loss = (of_row[is_known] * pinball_losses(found[is_known], wanted[is_known])).mean()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    net.eval()
    return SequenceForecaster(net, time.monotonic() - began_s)
