"""Linear and mixed-integer programs, put together from arrays and solved by HiGHS.

A `Program` is minimised. Columns and rows are added in blocks and named by the indices that come back, so that whoever
states a problem never counts them. HiGHS is loaded when a program is solved.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from controller.arrays import F64, I64, Bool
from controller.errors import UsageError, mismatch

OPTIMAL, LIMIT, INFEASIBLE, FAILED = "optimal", "limit", "infeasible", "failed"
"""How a solve ended: within its gap, at its time limit, without any solution, in any other way."""

SHIFTING_COLUMNS = 500
"""Columns from which on HiGHS looks for whole numbers by shifting.

On programs of a fleet over several steps, of which the linear relaxation is nearly whole, shifting finds them, and
sooner: with the feasibility jump, which is on by default, a solve takes about twice as long. On those of one step a
solve without either takes a tenth to a third less time, and comes as near to the best; and a fifth less again where the
relaxation is rounded by shifting fractions between columns (ZI round).
"""


@dataclass(frozen=True)
class Solution:
    """What a solve came to."""

    status: str  # OPTIMAL, LIMIT, INFEASIBLE or FAILED
    values: F64 | None  # by column; None where none was found
    row_dual: F64 | None  # by row, of a linear program: change of the optimum per unit of the row's side
    objective: float  # of `values`; NaN without them
    solve_s: float  # wall-clock time
    gap: float = 0.0  # relative distance of `values` to the best bound; infinite without values


@dataclass
class Program:
    """A minimisation, grown block by block."""

    num_columns: int = 0
    num_rows: int = 0
    _columns: list[tuple[F64, F64, F64, Bool]] = field(default_factory=list)  # cost, lower, upper, is_integer
    _rows: list[tuple[F64, F64]] = field(default_factory=list)  # lower, upper
    _entries: list[tuple[I64, I64, F64]] = field(default_factory=list)  # row, column, value

    def add_columns(
        self, cost: ArrayLike, lower: ArrayLike = 0.0, upper: ArrayLike = np.inf, integer: ArrayLike = False
    ) -> I64:
        """Adds columns; the arguments are broadcast together. Returns their indices in that shape."""
        given = np.broadcast_arrays(cost, lower, upper, integer)
        shape = given[0].shape
        costs, lowers, uppers, integers = (np.ravel(one) for one in given)
        block = (costs.astype(np.float64), lowers.astype(np.float64), uppers.astype(np.float64), integers.astype(bool))
        self._columns.append(block)
        first = self.num_columns
        self.num_columns += costs.size
        return np.arange(first, self.num_columns).reshape(shape)

    def add_rows(self, lower: ArrayLike, upper: ArrayLike) -> I64:
        """Adds rows `lower <= row <= upper`, broadcast together. Returns their indices in that shape."""
        lowers, uppers = np.broadcast_arrays(lower, upper)
        self._rows.append((lowers.ravel().astype(np.float64), uppers.ravel().astype(np.float64)))
        first = self.num_rows
        self.num_rows += lowers.size
        return np.arange(first, self.num_rows).reshape(lowers.shape)

    def add_entries(self, rows: ArrayLike, columns: ArrayLike, values: ArrayLike) -> None:
        """Puts values where rows and columns meet, broadcast together; each place may be named once."""
        row, column, value = np.broadcast_arrays(rows, columns, values)
        self._entries.append(
            (row.ravel().astype(np.int64), column.ravel().astype(np.int64), value.ravel().astype(np.float64))
        )

    def solve_mixed(self, gap: float, limit_s: float, most_nodes: int | None = None) -> Solution:
        """Solves with whole numbers where columns ask for them.

        Args:
            gap: Relative distance to the best bound at which the search may stop.
            limit_s: Wall-clock limit; what was found until then is returned.
            most_nodes: Nodes of the search tree after which it stops, too; unlike time, the same on every machine.

        Raises:
            UsageError: HiGHS does not take one of them.
        """
        options: dict[str, Any] = {
            "mip_heuristic_run_feasibility_jump": False,
            "mip_heuristic_run_shifting": self.num_columns >= SHIFTING_COLUMNS,
            "mip_heuristic_run_zi_round": self.num_columns < SHIFTING_COLUMNS,
            "mip_rel_gap": gap,
            "time_limit": limit_s,
        }
        if most_nodes is not None:
            options["mip_max_nodes"] = most_nodes
        return self._solve(options, is_mixed=True)

    def solve_relaxed(self) -> Solution:
        """Solves the linear relaxation to a vertex: most columns that ask for whole numbers have them."""
        return self._solve({"solver": "simplex"}, is_mixed=False)

    def solve_interior(self) -> Solution:
        """Solves the linear relaxation by an interior point, without crossover to a vertex: fast, nearly optimal."""
        return self._solve({"solver": "ipm", "run_crossover": "off"}, is_mixed=False)

    def _solve(self, options: dict[str, Any], is_mixed: bool) -> Solution:
        import highspy

        solver = _new_solver(highspy)
        for name, value in {"threads": 1, **options}.items():
            # What it does not know, or does not take, would be ignored without a word.
            if solver.setOptionValue(name, value) != highspy.HighsStatus.kOk:
                raise UsageError(mismatch(name, "an option of this version of HiGHS, and a value that it takes", value))
        began = time.perf_counter()
        solver.passModel(self._model(highspy, is_mixed))
        solver.run()
        solve_s = time.perf_counter() - began
        return _read(highspy, solver, solve_s, is_mixed)

    def _model(self, highspy: Any, is_mixed: bool) -> Any:
        model = highspy.HighsLp()
        model.num_col_, model.num_row_ = self.num_columns, self.num_rows
        costs, lowers, uppers, integers = (np.concatenate(parts) for parts in zip(*self._columns, strict=True))
        model.col_cost_, model.col_lower_, model.col_upper_ = costs, lowers, uppers
        row_lowers, row_uppers = (np.concatenate(parts) for parts in zip(*self._rows, strict=True))
        model.row_lower_, model.row_upper_ = row_lowers, row_uppers
        rows, columns, values = (np.concatenate(parts) for parts in zip(*self._entries, strict=True))
        order = np.lexsort((rows, columns))
        starts = np.concatenate(([0], np.cumsum(np.bincount(columns, minlength=self.num_columns))))
        model.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        model.a_matrix_.start_ = starts.astype(np.int32)
        model.a_matrix_.index_ = rows[order].astype(np.int32)
        model.a_matrix_.value_ = values[order]
        if is_mixed:
            kinds = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)
            model.integrality_ = [kinds[int(whole)] for whole in integers]
        return model


def _new_solver(highspy: Any) -> Any:
    """A solver that prints nothing."""

    class Quiet(highspy.Highs):  # type: ignore[misc]  # what it extends is known when it is loaded
        def __init__(self) -> None:
            # The constructor of `Highs` itself prints a banner on standard output before it can be told not to.
            super(highspy.Highs, self).__init__()
            self.setOptionValue("output_flag", False)

    return Quiet()


def _read(highspy: Any, solver: Any, solve_s: float, is_mixed: bool) -> Solution:
    ended, kinds = solver.getModelStatus(), highspy.HighsModelStatus
    status = {
        kinds.kOptimal: OPTIMAL,
        kinds.kTimeLimit: LIMIT,
        kinds.kInfeasible: INFEASIBLE,
        kinds.kUnboundedOrInfeasible: INFEASIBLE,
    }.get(ended, FAILED)
    found, info = solver.getSolution(), solver.getInfo()
    has_values = (
        bool(found.value_valid) and info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
    )
    return Solution(
        status=status,
        values=np.array(found.col_value, np.float64) if has_values else None,
        row_dual=np.array(found.row_dual, np.float64) if found.dual_valid else None,
        objective=float(info.objective_function_value) if has_values else float("nan"),
        solve_s=solve_s,
        gap=(float(info.mip_gap) if is_mixed else 0.0) if has_values else float("inf"),
    )
