"""Runs one policy in one world, day after day, and journals every decision."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from controller.alternatives import Prediction, predict, question_of
from controller.arrays import ObservationArrays
from controller.compile import Setting
from controller.config import write_run_header
from controller.errors import ScenarioError, UsageError, mismatch
from controller.journal import JournalHeader
from controller.journal_writer import JournalWriter
from controller.loop import Decision, DecisionLoop
from controller.receipts import PREDICTION, RECEIPT, fields_of, receipt_of
from controller.replay import make_header
from controller.scenario import load_scenario
from envs.world import Cell, World, WorldChoice, build_world
from experiments.results import ResultRow, write_results
from experiments.rollout import Progress, Recorder, Ticker, Timer, batches, new_loop, new_simulator, prepare, roll
from experiments.run_config import PolicyChoice, policy_labels

JOURNAL = "journal.jsonl.gz"


class JournalRecorder:
    """Writes each decision with what was seen before it."""

    def __init__(self, writer: JournalWriter) -> None:
        self._writer = writer

    def decided(self, observation: ObservationArrays, decision: Decision, decide_s: float) -> None:
        """One line."""
        self._writer.write(
            observation,
            decision.raw,
            decision.plan,
            decision.actions,
            decision.shares,
            timings_s={"decide_s": decide_s},
        )

    def observed(self, window: ObservationArrays) -> None:
        """The next decision's line holds the window."""


class ReceiptRecorder:
    """Writes a receipt of each decision, and of every n-th what it and its alternatives are expected to lead to.

    Args:
        writer: Of the journal; its recorder stands before this one.
        setting: What is decided for.
        every: Ticks between predictions, >= 1: each simulates some minutes of several plans.
    """

    def __init__(self, writer: JournalWriter, setting: Setting, every: int) -> None:
        from envs.world_model import SimulatedWorldModel

        self._writer, self._setting, self._every = writer, setting, every
        self._model = SimulatedWorldModel(setting)
        self._loop: DecisionLoop | None = None

    def begun(self, loop: DecisionLoop) -> None:
        """The loop keeps what its policy proposes from now on."""
        loop.keep_proposals()
        self._loop = loop

    def decided(self, observation: ObservationArrays, decision: Decision, decide_s: float) -> None:
        """One event, or two."""
        tick = self._writer.ticks - 1
        self._writer.event(RECEIPT, fields_of(receipt_of(self._setting, observation, decision, tick, self._loop)))
        if tick % self._every == 0 and tick > 0:  # before its first window a simulator has counted no machine
            self._writer.event(PREDICTION, fields_of(self._predicted(tick, observation, decision)))

    def observed(self, window: ObservationArrays) -> None:
        """The next decision's line holds the window."""

    def _predicted(self, tick: int, observation: ObservationArrays, decision: Decision) -> Prediction:
        try:
            return predict(self._setting, self._model, question_of(tick, observation, decision.plan))
        except ScenarioError as error:  # a state that no simulator can start from, such as half-done workflows
            return Prediction(tick=tick, missing=str(error)[:200])


@dataclass(frozen=True)
class Simulation:
    """What a simulation wrote and came to."""

    rows: tuple[ResultRow, ...]  # one per day
    journals: tuple[Path, ...]  # likewise; empty where none was asked for
    is_partial: bool


def simulate(
    scenario: str,
    policy: PolicyChoice,
    *,
    choice: WorldChoice | None = None,
    seed: int = 0,
    ticks: int | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
    receipts_every: int | None = None,
) -> Simulation:
    """Runs every chosen day as one cell; Ctrl-C ends it early and keeps the days done and what was journalled.

    Journalled days run one after the other, so that those done are whole; others run side by side, which is quicker.

    Args:
        scenario: Name or path of a scenario.
        policy: What `make_policy` takes.
        choice: What replaces trace, days, scale and market.
        seed: Seed of every cell.
        ticks: Ticks of each day to run; None: the whole day.
        out: Directory for the journals, one per day, and `results.json`; None: nothing is written.
        progress: Told what goes on.
        receipts_every: Journal receipts, with predictions at every n-th tick, n >= 1; None: no receipts.

    Raises:
        ProvisorError: Something that was named is wrong.
    """
    if seed < 0:
        raise UsageError(mismatch("seed", "a whole number >= 0", seed))
    world = build_world(load_scenario(scenario), choice)
    if ticks is not None and not 1 <= ticks <= world.cell_ticks:
        raise UsageError(mismatch("ticks", f"1..{world.cell_ticks}", ticks))
    if receipts_every is not None and (receipts_every < 1 or out is None):
        raise UsageError(mismatch("receipts", "a number of ticks >= 1, and a journal", receipts_every))
    new_loop(world, policy, 1)
    progress = progress or Progress()
    label = policy_labels([policy])[0]
    progress.working_on(f"{label} on {world.setting.scenario.name}")
    rows: list[ResultRow] = []
    journals: list[Path] = []
    cells = world.cells([seed])
    groups = batches(cells)
    if out is not None:
        resolved = {"scenario": world.setting.scenario.model_dump(mode="json"), "policy": label, "scale": world.scale}
        write_run_header(out, resolved, [seed])
        groups = [(cell,) for cell in cells]
    progress.started(len(groups) * (ticks or world.cell_ticks))
    simulator = new_simulator(world, len(groups[0]))
    is_partial = False
    try:
        for group in groups:
            start = prepare(world, group)
            timer = Timer()
            watching: list[Recorder] = [timer, Ticker(progress)]
            if len(group) < len(groups[0]):  # what is left over
                simulator = new_simulator(world, len(group))
            with ExitStack() as opened:
                if out is not None:
                    path = out / (JOURNAL if len(cells) == 1 else f"day{group[0].day:02d}-{JOURNAL}")
                    journals.append(path)
                    writer = opened.enter_context(JournalWriter(path, _header(world, policy, label, group[0])))
                    watching.insert(0, JournalRecorder(writer))
                    if receipts_every is not None:
                        watching.insert(1, ReceiptRecorder(writer, world.setting, receipts_every))
                tally = roll(world, start, policy, watching, ticks, simulator)
            rows += [
                tally.row(n, policy=label, trace=world.trace_name, day=cell.day, seed=seed, decide_ms_p99=timer.ms_p99)
                for n, cell in enumerate(group)
            ]
    except KeyboardInterrupt:
        is_partial = True
    if out is not None:
        write_results(rows, out)
    return Simulation(tuple(rows), tuple(journals), is_partial)


def _header(world: World, policy: PolicyChoice, label: str, cell: Cell) -> JournalHeader:
    described = {"trace": world.trace_name, "scale": world.scale, "day": cell.day}
    return make_header(world.setting, policy, label, (cell.seed,), "simulated", described)
