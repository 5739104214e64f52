"""A benchmark from its configuration to its files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from experiments.benchmark import CELLS, FinishedCells, Plan, note_run, row_error, run_cells, with_own
from experiments.benchmark_cells import BenchmarkCell
from experiments.benchmark_config import BenchmarkConfig, load_benchmark
from experiments.leaderboard import Leaderboard, LeaderboardRow
from experiments.leaderboard_files import Timing, write_leaderboard
from experiments.row_keys import RowKey, row_keys
from experiments.worker import Workers


class BenchmarkRun:
    """One run.

    Args:
        config: File, or what one holds; None: the shipped one.
        quick: In minutes.
        policies: Added to the file's.
        traces: In place of the file's, where there are any.
        scenarios: Likewise.
        out: Folder; None: `runs/NAME`.

    Raises:
        ProvisorError: Something named is missing, wrong, or does not fit.
    """

    def __init__(
        self,
        config: str | Path | BenchmarkConfig | None = None,
        *,
        quick: bool = False,
        policies: Iterable[str] = (),
        traces: Iterable[str] = (),
        scenarios: Iterable[str] = (),
        out: str | Path | None = None,
    ) -> None:
        loaded = config if isinstance(config, BenchmarkConfig) else load_benchmark(config, quick=quick)
        self.plan = Plan(with_own(loaded, policies, traces, scenarios))
        self.directory = Path(out) if out else Path("runs") / self.plan.config.name
        self.finished = FinishedCells(self.directory / CELLS)

    def keys(self, only: str | None = None) -> list[RowKey]:
        """All rows, or one.

        Raises:
            UsageError: There is no such row.
        """
        known = row_keys(self.plan)
        if only is None:
            return known
        found = [key for key in known if key.text == only]
        if not found:
            raise row_error(only, [key.text for key in known])
        return found

    def cells(
        self, keys: Sequence[RowKey], workers: Workers, progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Runs the cells that the rows need and that are not finished: in rounds, where results say what is needed."""
        note_run(self.plan, self.directory)
        run_cells(self._missing(keys), self.finished, workers, progress)  # also where all is finished: it is told so
        while missing := self._missing(keys):
            run_cells(missing, self.finished, workers, progress)

    def _missing(self, keys: Sequence[RowKey]) -> dict[str, BenchmarkCell]:
        return Leaderboard(self.plan, self.finished, str).missing(keys)

    def rows(self, keys: Sequence[RowKey], command: Callable[[str], str]) -> list[LeaderboardRow]:
        """The rows; their cells must be finished."""
        board = Leaderboard(self.plan, self.finished, command)
        return [board.row(key) for key in keys]

    def write(self, keys: Sequence[RowKey], command: Callable[[str], str]) -> tuple[list[LeaderboardRow], list[Path]]:
        """Rows, and the files of the leaderboard."""
        rows = self.rows(keys, command)
        return rows, write_leaderboard(rows, self.timings(), self.directory, self.plan.config.name)

    def timings(self) -> list[Timing]:
        """How long the cells of own points took; all must be finished."""
        board = Leaderboard(self.plan, self.finished, str)
        timings = []
        for case in self.plan.worlds:
            for name in self.plan.config.row_names:
                results = board.own_results(case, name)
                slowest = [one.decide_ms_p99 for one in results if one.decide_ms_p99 is not None]
                seconds = sum(one.wall_s for one in results)
                timings.append(Timing(case.scenario, case.trace, name, max(slowest, default=None), seconds))
        return timings
