"""Trains the networks of a task for every seed and says what each does and costs, beside the single-image network."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from experiments.collage.data import TASKS, Task, split
from experiments.collage.model import SINGLE, CollageNet, Design, designs, macs
from experiments.collage.training import BATCHES, Measured, export, measure, pass_s, trained

SIDES = (2, 3, 4, 5)
SEEDS = 3


@dataclass(frozen=True)
class Network:
    """One form of network over all seeds.

    Attributes:
        task: Images.
        form: `single`, `full` or `shrunk`.
        w: Cells of an edge.
        measured: By seed.
        macs: Multiply-accumulates of a pass.
        pass_s: Core seconds of a pass, by passes at a time.
        design: Form, as JSON keeps it.
    """

    task: str
    form: str
    w: int
    measured: tuple[Measured, ...]
    macs: int
    pass_s: dict[int, float]
    design: dict[str, Any] = field(default_factory=dict)

    @property
    def accuracy(self) -> float:
        """Mean over the seeds."""
        return fmean(one.accuracy for one in self.measured)

    @property
    def deviation(self) -> float:
        """Standard deviation over the seeds; 0 of one."""
        return stdev(one.accuracy for one in self.measured) if len(self.measured) > 1 else 0.0

    @property
    def partly_blank(self) -> float:
        """Accuracy of half-empty collages, mean over the seeds."""
        return fmean(one.partly_blank for one in self.measured)

    def pass_ratio(self, single: Network) -> float:
        """Work of a pass over that of a pass of the single-image network."""
        return self.macs / single.macs

    def time_ratio(self, single: Network, passes: int) -> float:
        """Core time of a pass over that of a pass of the single-image network, so many passes at a time each."""
        return self.pass_s[passes] / single.pass_s[passes]


def train_task(
    name: str,
    say: Callable[[str], None],
    *,
    sides: Sequence[int] = SIDES,
    seeds: int = SEEDS,
    out: Path | None = None,
    is_anew: bool = False,
    task: Task | None = None,
) -> list[Network]:
    """The single-image network of a task and its collage networks.

    Args:
        name: One of `TASKS`.
        say: Prints a line of progress.
        sides: Cells of an edge of the collages.
        seeds: Splits, each with trainings of its own.
        out: Folder that the networks of the first seed are written to; None: they are only kept in the cache.
        is_anew: Train even where weights are kept.
        task: In place of the named one's images and budget.
    """
    chosen = TASKS[name]() if task is None else task
    return [
        _network(chosen, form, design, seeds, say, out, is_anew)
        for w in (1, *sides)
        for form, design in designs(name, w).items()
    ]


def _network(
    task: Task, form: str, design: Design, seeds: int, say: Callable[[str], None], out: Path | None, is_anew: bool
) -> Network:
    measured = []
    nets: list[CollageNet] = []
    for seed in range(seeds):
        began_s = time.perf_counter()
        data = split(task, seed)
        nets.append(trained(task, data, design, seed, is_anew=is_anew))
        measured.append(measure(nets[-1], task, data, seed))
        took_s = time.perf_counter() - began_s
        say(f"{task.name} {form} w={design.w} seed {seed}: {measured[-1].accuracy:.2%} right, {took_s:.0f} s")
    found = Network(
        task.name,
        form,
        design.w,
        tuple(measured),
        macs(design),
        {passes: pass_s(nets[0], passes) for passes in BATCHES},
        design.values(),
    )
    if out is not None:
        details = {"task": task.name, "form": form, "seed": 0, "trained_images": task.trained, "epochs": task.epochs}
        out.mkdir(parents=True, exist_ok=True)
        path = out / (f"{task.name}-single.json" if form == SINGLE else f"{task.name}-{form}-w{design.w}.json")
        export(nets[0], path, {**details, "held_out": asdict(measured[0])})
    return found


def collages(networks: Sequence[Network]) -> Iterator[tuple[Network, Network]]:
    """Every collage network with the single-image network of its task."""
    singles = {one.task: one for one in networks if one.form == SINGLE}
    for one in networks:
        if one.form != SINGLE:
            yield one, singles[one.task]


TITLES = (
    "network",
    "right",
    "s.d. of seeds",
    "points below single",
    "half-empty",
    "k MACs",
    "pass ratio",
    "of w·w passes",
    *(f"time ratio, {passes} at a time" for passes in BATCHES),
)


def lines(networks: Sequence[Network]) -> list[list[str]]:
    """Of the table, one for each network."""
    singles = {one.task: one for one in networks if one.form == SINGLE}
    return [_line(one, singles[one.task]) for one in networks]


def _line(one: Network, single: Network) -> list[str]:
    return [
        f"{one.task} {one.form}" + ("" if one.form == SINGLE else f" {one.w}×{one.w}"),
        f"{one.accuracy:.2%}",
        f"{one.deviation:.2%}" if len(one.measured) > 1 else "one seed",
        f"{100 * (single.accuracy - one.accuracy):.2f}",
        f"{one.partly_blank:.2%}",
        f"{one.macs / 1e3:.1f}",
        f"{one.pass_ratio(single):.2f}",
        f"{one.pass_ratio(single) / one.w**2:.1%}",
        *(f"{one.time_ratio(single, passes):.2f}" for passes in BATCHES),
    ]


def to_json(networks: Sequence[Network]) -> str:
    """All that was measured."""
    return json.dumps([asdict(one) for one in networks], indent=1) + "\n"


def from_json(values: Sequence[Mapping[str, Any]]) -> list[Network]:
    """What `to_json` wrote, parsed."""
    return [
        Network(
            **{
                **value,
                "measured": tuple(Measured(**one) for one in value["measured"]),
                "pass_s": {int(passes): seconds for passes, seconds in value["pass_s"].items()},
            }
        )
        for value in values
    ]
