"""Small programs with known optima, and how a solve that finds none ends."""

import numpy as np
import pytest

from controller.errors import UsageError
from controller.linear_program import INFEASIBLE, OPTIMAL, SHIFTING_COLUMNS, Program


def knapsack(largest: float) -> tuple[Program, np.ndarray]:
    """Cover 2.5 with whole pieces of 1 at price 1 and any amount at price 2, at most `largest` in all."""
    program = Program()
    columns = program.add_columns([1.0, 2.0], 0.0, np.inf, [True, False])
    program.add_entries(program.add_rows(2.5, largest), columns, 1.0)
    return program, columns


def test_whole_numbers_are_whole_and_the_rest_is_not() -> None:
    program, columns = knapsack(2.75)
    found = program.solve_mixed(gap=0.0, limit_s=10.0)
    assert found.status == OPTIMAL
    # three pieces are too many, so two and half a unit at the double price
    assert found.values is not None
    assert found.values[columns] == pytest.approx([2.0, 0.5])
    assert found.objective == pytest.approx(3.0)


@pytest.mark.parametrize("copies", [1, SHIFTING_COLUMNS // 2 - 1, SHIFTING_COLUMNS // 2 + 1])
def test_a_program_of_any_size_comes_to_its_optimum(copies: int) -> None:
    program = Program()
    columns = program.add_columns(np.tile([1.0, 2.0], (copies, 1)), 0.0, np.inf, [True, False])
    program.add_entries(program.add_rows(np.full(copies, 2.5), 2.75)[:, None], columns, 1.0)
    program.add_entries(program.add_rows(2.0 * copies - 0.5, np.inf), columns[:, 0], 1.0)  # couples them
    found = program.solve_mixed(gap=0.0, limit_s=10.0)
    assert found.status == OPTIMAL
    assert found.objective == pytest.approx(3.0 * copies)


def test_what_the_solver_does_not_take_is_an_error_and_not_ignored() -> None:
    program, _ = knapsack(np.inf)
    with pytest.raises(UsageError, match="mip_rel_gap: expected an option of this version of HiGHS, .* got -1.0"):
        program.solve_mixed(gap=-1.0, limit_s=1.0)


def test_the_relaxation_has_fractions_and_prices() -> None:
    program, _ = knapsack(np.inf)
    found = program.solve_interior()
    assert found.objective == pytest.approx(2.5, rel=1e-6)
    assert found.row_dual == pytest.approx([1.0], rel=1e-6)  # one more to cover costs 1


def test_what_cannot_be_is_said_to_be_infeasible() -> None:
    program, columns = knapsack(np.inf)
    program.add_entries(program.add_rows(-np.inf, 2.0), columns, 1.0)
    found = program.solve_mixed(gap=0.0, limit_s=10.0)
    assert found.status == INFEASIBLE
    assert found.values is None


def test_blocks_broadcast_and_keep_their_shape() -> None:
    program = Program()
    columns = program.add_columns(np.ones((2, 3)), 0.0, [1.0, 2.0, 3.0])
    rows = program.add_rows([1.5, 2.5], np.inf)
    program.add_entries(rows[:, None], columns, 1.0)
    found = program.solve_mixed(gap=0.0, limit_s=10.0)
    assert columns.shape == (2, 3)
    assert found.values is not None
    assert found.values[columns].sum(axis=1) == pytest.approx([1.5, 2.5])


def test_a_solver_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    knapsack(np.inf)[0].solve_mixed(gap=0.0, limit_s=10.0)
    knapsack(np.inf)[0].solve_interior()
    assert capfd.readouterr() == ("", "")
