"""Work space on the stack is zero whatever lay there before, has the shape asked for, and does not pile up."""

import numpy as np

from controller.kernels.compiled import inner, kernel
from controller.kernels.local import flags, floats, integers


@inner
def _filled(rows, columns):
    """Finds what is not zero, then leaves something behind for the next call."""
    table, counts, marks = floats((rows, columns)), integers(columns), flags((2, rows))
    found = 0.0
    for i in range(rows):
        found += (1.0 if marks[0, i] else 0.0) + (1.0 if marks[1, i] else 0.0)
        marks[0, i] = marks[1, i] = True
        for j in range(columns):
            found += abs(table[i, j]) + abs(counts[j])
            table[i, j] = i * columns + j + 1
    for j in range(columns):
        counts[j] += j + 1
    return found


@kernel
def not_zero(rows, columns, times):
    """Sum of what is not zero over several calls."""
    found = 0.0
    for _ in range(times):
        found += _filled(rows, columns)
    return found


@kernel
def copied(rows, columns, out):
    """Writes a table so that it shows its strides."""
    table = floats((rows, columns))
    for i in range(rows):
        for j in range(columns):
            table[i, j] = 10 * i + j
    for i in range(rows):
        row = table[i]
        for j in range(columns):
            out[i, j] = row[j]


def test_work_space_is_zero_in_every_call_and_does_not_pile_up():
    # A gigabyte in all, where a stack has some megabytes.
    assert not_zero(40, 30, 100_000) == 0.0


def test_rows_and_columns_do_not_overlap():
    out = np.empty((3, 4))
    copied(3, 4, out)
    assert out.tolist() == [[10.0 * i + j for j in range(4)] for i in range(3)]


def test_no_size_is_a_size():
    assert not_zero(0, 5, 2) == 0.0
