"""`provisor experiment evidence` from the files it is computed from to values beside bars, tables and pages."""

from __future__ import annotations

import csv
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from controller.errors import ProvisorError
from controller.policies.registry import GENERALIST
from controller.scenario import load_scenario
from experiments.benchmark import FinishedCells, row_error, run_cells
from experiments.benchmark_run import BenchmarkRun
from experiments.checks import Check, at_most, write_checks
from experiments.evidence_checks import (
    EVIDENCE,
    held_out_checks,
    promise_checks,
    published_checks,
    rule_checks,
    seed_checks,
    solved_checks,
)
from experiments.evidence_files import Artefacts
from experiments.evidence_plan import LEARNED, Comparison, Extent, held_out_comparison, suite_comparison
from experiments.evidence_versus import apart_keys
from experiments.leaderboard import Leaderboard, LeaderboardRow
from experiments.leaderboard_files import as_csv, write_leaderboard
from experiments.page import page, table, write_page
from experiments.record import read_record, write_record
from experiments.row_keys import RowKey, row_keys
from experiments.study_again import MOST_DIFFERENCE, KeptStudy, cells_of, found_again, kept_study
from experiments.tuned_rivals import SOLVED, TOLD
from experiments.worker import Workers

RECORD = Path(__file__).with_name("records") / "evidence.json"
STUDY_DAYS = "studies.jsonl"
"""File of the finished days of studies, beside the benchmarks' folders."""

QUICK_TITLE = "no evidence: a few hours of a few days, each policy at its own point alone"

_DECISION_US, _TRAINING_MIN, _TRAINING_CORES = 200.0, 15.0, 2

Progress = Callable[[int, int], None]


class EvidenceRun:
    """One computation of the evidence.

    Args:
        directory: Gets finished cells, leaderboards, checks and a page; what is finished there is not run again.
        extent: How much is compared.
        artefacts: The files that it is computed from.
    """

    def __init__(self, directory: Path, extent: Extent | None = None, artefacts: Artefacts | None = None) -> None:
        self.directory = directory
        self.extent = extent or Extent()
        self.artefacts = artefacts or Artefacts()
        derived = directory / "policies"
        found = (suite_comparison, held_out_comparison)
        self.comparisons: list[Comparison] = [one(self.artefacts, self.extent, derived) for one in found]
        self.suite, self.held_out = (self._benchmark(one) for one in self.comparisons)
        self._tuning_commands: dict[Path, str] = {}
        self._studies = [] if self.extent.is_quick else self._kept_studies()
        self._days = FinishedCells(directory / STUDY_DAYS)

    @property
    def benchmarks(self) -> list[BenchmarkRun]:
        """The suite and what is held out, as far as there are files for them."""
        return [one for one in (self.suite, self.held_out) if one is not None]

    def cells(self, workers: Workers, progress: Progress | None = None) -> None:
        """Runs all that is not finished."""
        for one in self.benchmarks:
            one.cells(wanted_rows(one), workers, progress)
        for one, board in self._boards():
            if apart := apart_keys(board):
                one.cells(apart, workers, progress)
        run_cells(cells_of(self._studies), self._days, workers, progress)

    def only(self, row: str, workers: Workers, progress: Progress | None = None) -> str:
        """Computes one row of a leaderboard, from nothing where nothing is finished; returns it as CSV.

        Raises:
            UsageError: There is no such row.
        """
        known: dict[str, tuple[BenchmarkRun, RowKey]] = {
            key.text: (one, key) for one in self.benchmarks for key in row_keys(one.plan)
        }
        if row not in known:
            raise row_error(row, known or ["suite-cpu/twitter/learned@mpc"])
        benchmark, key = known[row]
        benchmark.cells([key], workers, progress)
        return as_csv(benchmark.rows([key], row_command))

    def checks(self) -> list[Check]:
        """Every value that has a bar; the cells must be finished."""
        parts = (
            self._extent_checks(),
            self._artefact_checks(),
            self._study_checks(),
            self._suite_checks(),
            self._held_out_checks(),
        )
        return [*(check for part in parts for check in part), decision_check()]

    def solved(self) -> list[Check]:
        """Against the rules that solve programs, which took part."""
        board = self._board(self.suite)
        if board is None or LEARNED not in board.plan.config.row_names:
            return [_unknown("2: saving against the rules that solve programs")]
        return list(solved_checks(board, [name for name in SOLVED if name in board.plan.config.references]))

    def tables(self) -> list[list[LeaderboardRow]]:
        """Rows of each benchmark's leaderboard."""
        return [[board.row(key) for key in wanted_rows(one)] for one, board in self._boards()]

    def write(self, checks: Sequence[Check], tables: Sequence[Sequence[LeaderboardRow]]) -> list[Path]:
        """Writes leaderboards, checks and a page; returns what was written."""
        written: list[Path] = []
        for one, rows in zip(self.benchmarks, tables, strict=True):
            written += write_leaderboard(rows, one.timings(), one.directory, f"evidence: {one.plan.config.name}")
        write_checks(checks, self.directory / "checks.json")
        with (self.directory / "checks.csv").open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(_TITLES)
            writer.writerows(_lines(checks))
        text = page("evidence", self._body(checks), "evidence")
        return [*written, self.directory / "checks.json", write_page(text, self.directory / "evidence.html")]

    def _body(self, checks: Sequence[Check]) -> list[str]:
        body = ["<h1>What the learned controller is worth</h1>"]
        body += [f'<p class="note">{QUICK_TITLE}</p>'] if self.extent.is_quick else []
        folders = [one.directory.relative_to(self.directory) for one in self.benchmarks]
        body += [f'<p><a href="{one}/leaderboard.html">Leaderboard: {one}</a></p>' for one in folders]
        return [*body, table(_TITLES, _lines(checks))]

    def _benchmark(self, comparison: Comparison) -> BenchmarkRun | None:
        config = comparison.config
        return None if config is None else BenchmarkRun(config, out=self.directory / config.name)

    def _board(self, benchmark: BenchmarkRun | None) -> Leaderboard | None:
        return None if benchmark is None else Leaderboard(benchmark.plan, benchmark.finished, row_command)

    def _boards(self) -> Iterator[tuple[BenchmarkRun, Leaderboard]]:
        for one in self.benchmarks:
            board = self._board(one)
            assert board is not None
            yield one, board

    def _extent_checks(self) -> Iterator[Check]:
        if not self.extent.is_whole:
            scenarios, traces = ", ".join(self.extent.scenarios), len(self.extent.traces)
            part = f"{scenarios}: {traces} traces" + (f", {self.extent.hours:g} h a day" if self.extent.hours else "")
            yield Check("extent", part, "the whole suite, all test days", holds=False, command=f"{EVIDENCE} --check")

    def _artefact_checks(self) -> Iterator[Check]:
        problems = dict.fromkeys(problem for one in self.comparisons for problem in one.problems)
        for one in problems:
            yield Check(one.file, one.why, "there, and as it must be", holds=False, command=one.command)

    def _kept_studies(self) -> list[KeptStudy]:
        """Studies of all settings that are compared, which are run again on the days they were tuned on."""
        held_out = self.extent.held_out
        scenarios = [
            *self.extent.scenarios,
            str(self.artefacts.held_out_scenario()) if held_out is None else held_out[0],
        ]
        studies = []
        for name, scenario in self.artefacts.believed_settings(list(dict.fromkeys(scenarios))):
            path = self.artefacts.settings(name, scenario)
            self._tuning_commands[path] = self.artefacts.tuning_command(name, scenario)
            studies.append(kept_study(path, scenario))
        return studies

    def _study_checks(self) -> Iterator[Check]:
        """Whether what was tuned is still what it was found to be."""
        what, bar = "tuned settings run again on the days of their study", f"within {MOST_DIFFERENCE:.1%} of its value"
        if self.extent.is_quick:
            yield Check(what, "not run", bar, holds=False, command=f"{EVIDENCE} --check")
            return
        again = [found_again(study, self._days) for study in self._studies]
        for one in again:
            if not one.holds:
                told = f"{one.now:.4f}, its study has {one.value:.4f}"
                yield Check(
                    f"{what}: {one.path.parent.name}/{one.path.name}", told, bar, False, self._tuning_commands[one.path]
                )
        most = max((one.difference for one in again), default=float("inf"))
        same = sum(one.holds for one in again)
        told = f"{same} of {len(again)}, at most {most:.2%} off" if again else "no settings"
        holds = bool(again) and same == len(again)
        yield Check(what, told, bar, holds, f"{EVIDENCE} --check")

    def _suite_checks(self) -> Iterator[Check]:
        board = self._board(self.suite)
        if board is None or LEARNED not in board.plan.config.row_names:
            for what in ("1: saving against the best published scheme", "2: saving against the strongest tuned rule",
                         f"2: gap to the {TOLD} closed", "4: attainment and floors on every trace"):  # fmt: skip
                yield _unknown(what)
            return
        yield from published_checks(board)
        yield from rule_checks(board)
        yield from promise_checks(board)
        yield from seed_checks(board, LEARNED, self.artefacts.training_command)

    def _held_out_checks(self) -> Iterator[Check]:
        board = self._board(self.held_out)
        if board is None:
            yield _unknown("3: generalist, zero-shot, against the rule tuned there")
            return
        yield from held_out_checks(board)
        yield from seed_checks(board, GENERALIST, lambda _: self.artefacts.training_command(GENERALIST))


def wanted_rows(benchmark: BenchmarkRun) -> list[RowKey]:
    """Rows of the leaderboard: all policies at what the first reference came to."""
    return [key for key in row_keys(benchmark.plan) if key.target == benchmark.plan.config.compared_to[0]]


def row_command(row: str) -> str:
    """Computes a row of a leaderboard from nothing."""
    return shlex.join([*EVIDENCE.split(), "--only", row, "--out", "runs/recomputed"])


def decision_check() -> Check:
    """How long one decision of a learned policy takes, as `make bench` measures it."""
    from envs.world import WorldChoice, build_world
    from experiments.bench import ticks

    scenario = load_scenario("default")
    found = ticks(build_world(scenario, WorldChoice(days=scenario.splits.train)))
    what = f"5: one decision of a learned policy, 99th percentile (median {found['decide_us_p50']:g} us)"
    return at_most(what, found["decide_us_p99"], _DECISION_US, " us", "make bench")


def training_check(artefacts: Artefacts, directory: Path, clock: Callable[[], float] = time.monotonic) -> Check:
    """How long the default policy takes to train from scratch: one seed, on two cores, in a process of its own.

    Args:
        artefacts: Name the run.
        directory: Folder for the training; what is there is deleted.
        clock: Seconds.
    """
    import yaml

    from experiments.run_config import load_run

    run_file = artefacts.training_run(GENERALIST)
    what, command = "5: training the default policy from scratch, one seed", f"{EVIDENCE} --full"
    bar = f"<= {_TRAINING_MIN:g} minutes on {_TRAINING_CORES} cores"
    if not run_file.exists():
        return Check(what, f"no {run_file.name} among the configurations", bar, holds=False, command=command)
    try:
        run = load_run(run_file)
    except ProvisorError as error:
        return Check(what, f"failed: {error}", bar, holds=False, command=command)
    run = run.model_copy(update={"train": run.train.model_copy(update={"seeds": run.train.seeds[:1]})})
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    one_seed = directory / "run.yaml"
    one_seed.write_text(yaml.safe_dump(run.model_dump(mode="json"), sort_keys=False), encoding="utf-8")
    provisor = "import sys; from controller.cli import main; sys.exit(main(sys.argv[1:]))"
    words = [sys.executable, "-c", provisor, "train", str(one_seed), "--out", str(directory / "run")]
    began_s = clock()
    done = subprocess.run(words, capture_output=True, text=True, check=False, preexec_fn=_take_cores)
    minutes = (clock() - began_s) / 60.0
    if done.returncode:
        return Check(what, f"failed: {done.stderr.strip()[-200:]}", bar, holds=False, command=command)
    return Check(what, f"{minutes:.1f} minutes", bar, minutes <= _TRAINING_MIN, command)


def _take_cores() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:_TRAINING_CORES])


def keep_record(checks: Sequence[Check], path: Path = RECORD) -> None:
    """Keeps what is measured under `--full` alone."""
    write_record(checks, {"cores": _TRAINING_CORES}, path)


def kept_record(path: Path = RECORD) -> tuple[str, list[Check]]:
    """Title and values of what was measured last under `--full`; where nothing was, that falls short."""
    what = "solver-based rivals and training"
    found = read_record(path, what)
    if found is not None:
        return found
    return what, [Check(what, "never measured", f"{EVIDENCE} --full", holds=False, command=f"{EVIDENCE} --full")]


def _unknown(what: str) -> Check:
    told = "unknown: files are missing or wrong, see above"
    return Check(what, told, "known", holds=False, command=f"{EVIDENCE} --check")


_TITLES = ("what", "measured", "bar", "verdict", "anew")


def _lines(checks: Sequence[Check]) -> list[list[str]]:
    return [[one.what, one.measured, one.bar, "holds" if one.holds else "falls short", one.command] for one in checks]
