"""The network of the decision path in torch, and how it is fitted: layers of tanh, then quantiles that cannot cross."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from controller.arrays import F64
from controller.forecast import LEVELS, raw_steps
from controller.rule_arrays import ForecastArrays
from experiments.quantile_fit import FitConfig


class QuantileNet(nn.Module):
    """Layers of tanh, then the lowest quantile and softplus increments.

    Args:
        inputs: Numbers in.
        hidden: Units of each layer.
        start: (Q,) quantiles it gives before it is fitted, whatever comes in.
        generator: Of the first weights.
    """

    def __init__(self, inputs: int, hidden: Sequence[int], start: F64, generator: torch.Generator) -> None:
        super().__init__()
        sizes = [inputs, *hidden, len(start)]
        layers = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
        raw = np.concatenate([start[:1], raw_steps(np.maximum(np.diff(start), 1e-3))])
        with torch.no_grad():
            for layer in layers:
                layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) / layer.in_features**0.5)
                layer.bias.zero_()
            # Training begins at the unconditional quantiles: Adam's steps are of one size, and levels lie far apart.
            layers[-1].weight.mul_(0.01)
            layers[-1].bias.copy_(torch.from_numpy(raw.astype(np.float32)))
        self.layers = nn.ModuleList(layers)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """(..., inputs) to (..., Q), rising."""
        *layers, last = self.layers
        for layer in layers:
            rows = torch.tanh(layer(rows))
        raw: torch.Tensor = last(rows)
        lowest = raw[..., :1]
        return torch.cat([lowest, lowest + torch.cumsum(nn.functional.softplus(raw[..., 1:]), dim=-1)], dim=-1)


@dataclass(frozen=True, eq=False)
class FittedNet:
    """A network and the factors its inputs are multiplied by; the horizon, its last input, is taken as it is."""

    net: QuantileNet
    scale: F64  # (F,) of the inputs without the horizon

    def quantiles(self, inputs: F64, told: float) -> F64:
        """Quantiles (S, Q) for inputs (S, F) and a horizon as networks are told it."""
        rows = np.concatenate([inputs * self.scale, np.full((len(inputs), 1), told)], axis=1)
        with torch.no_grad():
            return np.asarray(self.net(torch.from_numpy(rows.astype(np.float32))).numpy(), np.float64)

    def arrays(self) -> ForecastArrays:
        """As the decision path takes it, for a network of two hidden layers; numbers are exact in float32."""
        (w1, b1), (w2, b2), (w3, b3) = (
            (
                np.ascontiguousarray(layer.get_parameter("weight").detach().numpy().T, np.float64),
                layer.get_parameter("bias").detach().numpy().astype(np.float64),
            )
            for layer in self.net.layers
        )
        return ForecastArrays(np.append(self.scale, 1.0), w1, b1, w2, b2, w3, b3, np.array(LEVELS))


def fit_quantile_net(
    inputs: F64,
    growth: F64,
    told: F64,
    config: FitConfig,
    hidden: Sequence[int] | None = None,
    weights: F64 | None = None,
) -> FittedNet:
    """Fits a network by pinball loss; equal arguments give equal networks.

    Args:
        inputs: (S, F) without the horizon.
        growth: (S, H) what is to be forecast, by horizon.
        told: (H,) each horizon as networks are told it; every step takes one of them by chance for each sample.
        config: Settings.
        hidden: Units of each layer in place of the configured ones.
        weights: (S,) of each sample's loss, of mean 1; None: all alike.
    """
    torch.set_num_threads(1)  # layers this small lose more by sharing than they gain
    generator = torch.Generator().manual_seed(config.seed)
    spread = inputs.std(axis=0)
    scale = np.divide(1.0, spread, out=np.ones_like(spread), where=spread > 1e-3).astype(np.float32).astype(np.float64)
    rows = torch.from_numpy((inputs * scale).astype(np.float32))
    wanted = torch.from_numpy(growth.astype(np.float32))
    horizons = torch.from_numpy(told.astype(np.float32))
    weight = torch.ones(len(rows)) if weights is None else torch.from_numpy(weights.astype(np.float32))
    start = np.quantile(growth[:, growth.shape[1] // 2], LEVELS)
    net = QuantileNet(rows.shape[1] + 1, config.hidden if hidden is None else hidden, start, generator)
    optimizer = torch.optim.Adam(net.parameters(), lr=config.learning_rate)
    batches = max(1, len(rows) // config.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.epochs * batches)
    for _ in range(config.epochs):
        order = torch.randperm(len(rows), generator=generator)
        for batch in torch.tensor_split(order, batches):
            which = torch.randint(len(horizons), (len(batch),), generator=generator)
            optimizer.zero_grad()
            found = net(torch.cat([rows[batch], horizons[which][:, None]], dim=1))
            loss = (weight[batch] * pinball_losses(found, wanted[batch, which])).mean()
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()
            schedule.step()
    return FittedNet(net, scale)


def pinball_losses(found: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Pinball loss of each row, mean over levels; `wanted` lacks the last axis of `found`."""
    levels = torch.tensor(LEVELS)
    error = wanted[..., None] - found
    return torch.maximum(levels * error, (levels - 1.0) * error).mean(dim=-1)
