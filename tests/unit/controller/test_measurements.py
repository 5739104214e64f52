"""What a live run measured stands in its journal, to the microsecond; journals without it are read as before."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controller.arrays import empty_actions, empty_observation, empty_plan
from controller.journal import Journal, JournalError, JournalHeader
from controller.journal_writer import JournalWriter
from controller.measurements import ServiceSample, Span, WindowMeasurements, evenly

SHAPE = (2, 3, 1)
LARGEST_OPTION = 5
WINDOW = WindowMeasurements(
    services=(
        ServiceSample(0, 1, False, 3, (0.1, 0.11, 0.1234565)),
        ServiceSample(LARGEST_OPTION, 4, True, 20, (2.0,)),
    ),
    num_gaps=40,
    gaps_s=(0.01, 0.0),
    spans=(Span("launch", 1, 3.25), Span("swap", LARGEST_OPTION, 0.5)),
)


def journal_of(path: Path, *windows: WindowMeasurements | None) -> Path:
    header = JournalHeader(
        kind="live",
        scenario={"name": "toy"},
        catalog={"name": "toy"},
        catalog_fingerprint="f" * 64,
        policy="static",
        policy_name="static",
        seeds=(3,),
        shape=SHAPE,
    )
    with JournalWriter(path, header) as journal:
        for tick, window in enumerate(windows):
            seen = empty_observation(1, SHAPE)
            seen.tick[0] = tick
            plan, actions = empty_plan(1, SHAPE), empty_actions(1, SHAPE)
            journal.write(seen, np.zeros((1, 1)), plan, actions, np.zeros((1, 1, 2, 3)), measured=window)
    return path


def test_measurements_come_back_to_the_microsecond(tmp_path: Path) -> None:
    read = [tick.measured for tick in Journal(journal_of(tmp_path / "j.jsonl", WINDOW, WindowMeasurements())).ticks()]
    shortened = WINDOW.services[0]._replace(single_s=(0.1, 0.11, round(0.1234565, 6)))
    assert read == [WINDOW._replace(services=(shortened, WINDOW.services[1])), WindowMeasurements()]


def test_a_journal_without_measurements_holds_no_word_of_them(tmp_path: Path) -> None:
    path = journal_of(tmp_path / "j.jsonl", None)
    assert "measured" not in json.loads(path.read_text().splitlines()[1])
    assert [tick.measured for tick in Journal(path).ticks()] == [None]


@pytest.mark.parametrize(
    ("measured", "text"),
    [
        ({"services": [[6, 1, 0, 1, [0.1]]]}, "option 6 of 6"),
        ({"services": [[0, 0, 0, 1, [0.1]]]}, "a batch of 0"),
        ({"services": [[0, 1, 0, 1, [0.1, 0.1]]]}, "2 of 1"),
        ({"services": [[0, 1, 0, 1, [-0.1]]]}, "duration -0.1"),
        ({"gaps": [1, ["NaN"]]}, "damaged fields"),
        ({"spans": [["boot", 0, 1.0]]}, "kind 'boot'"),
        ({"spans": [["load", 0]]}, "damaged fields"),
    ],
)
def test_damaged_measurements_name_the_line(tmp_path: Path, measured: Any, text: str) -> None:
    path = journal_of(tmp_path / "j.jsonl", WINDOW)
    header, tick = path.read_text().splitlines()
    path.write_text(header + "\n" + json.dumps(json.loads(tick) | {"measured": measured}) + "\n")
    with pytest.raises(JournalError, match="line 2") as caught:
        list(Journal(path).ticks())
    assert text in str(caught.value)


def test_an_even_choice_keeps_order_and_reaches_over_the_whole() -> None:
    assert evenly([1.0, 2.0], 2) == (1.0, 2.0)
    assert evenly([float(i) for i in range(10)], 5) == (0.0, 2.0, 4.0, 6.0, 8.0)
    assert len(evenly([float(i) for i in range(1001)], 16)) == 16
