"""A journal gives back every number exactly, survives a kill, and names the line that is damaged."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controller.arrays import BILL_TERMS, HISTORY_TICKS, empty_actions, empty_observation, empty_plan
from controller.journal import (
    END,
    Journal,
    JournalError,
    JournalHeader,
    JournalTick,
    TruncatedJournalWarning,
    timings_path,
)
from controller.journal_codec import EmptyArrays, decode, encode
from controller.journal_writer import JournalWriter

SHAPE = (2, 3, 2)


def header() -> JournalHeader:
    return JournalHeader(
        kind="simulated",
        scenario={"name": "toy"},
        catalog={"name": "toy"},
        catalog_fingerprint="f" * 64,
        policy="static",
        policy_name="static",
        seeds=(3,),
        shape=SHAPE,
    )


def filled(arrays: Any, rng: np.random.Generator) -> Any:
    """Arrays of the same kind with about half of the entries drawn at random over many magnitudes."""
    drawn = []
    for array in arrays:
        kept = rng.random(array.shape) < 0.5
        if array.dtype == np.bool_:
            values = rng.random(array.shape) < 0.5
        elif array.dtype == np.int64:
            values = rng.integers(0, 2**62, array.shape)
        else:
            values = rng.standard_normal(array.shape) * 10.0 ** rng.integers(-300, 300, array.shape)
        drawn.append(np.where(kept, values, array).astype(array.dtype))
    return arrays._make(drawn)


def sample_ticks(count: int, num_envs: int = 1) -> list[tuple[Any, ...]]:
    """Consecutive ticks whose history follows from the arrivals."""
    rng = np.random.default_rng(7)
    v, p, c = SHAPE
    history = rng.random((num_envs, c, HISTORY_TICKS)) / 3
    ticks = []
    for tick in range(1, count + 1):
        seen = filled(empty_observation(num_envs, SHAPE), rng)
        arrivals = rng.integers(0, 900, (num_envs, c))
        history = history.copy()
        history[:, :, (tick - 1) % HISTORY_TICKS] = arrivals
        seen = seen._replace(tick=np.full(num_envs, tick), arrivals=arrivals, history=history)
        plan = filled(empty_plan(num_envs, SHAPE), rng)
        ticks.append(
            (
                seen,
                rng.standard_normal((num_envs, 4)),
                plan._replace(reasons=np.full(num_envs, 5)),
                filled(empty_actions(num_envs, SHAPE), rng),
                rng.random((num_envs, c, v, p)) / 7,
            )
        )
    return ticks


def written(path: Path, ticks: list[tuple[Any, ...]]) -> Path:
    with JournalWriter(path, header()) as journal:
        for tick in ticks:
            journal.write(*tick)
    return path


def assert_same(tick: JournalTick, written_tick: tuple[Any, ...], env: int = 0) -> None:
    seen, raw, plan, actions, shares = written_tick
    for ours, theirs in ((tick.observation, seen), (tick.plan, plan), (tick.actions, actions)):
        for name, a, b in zip(ours._fields, ours, theirs, strict=True):
            assert a.dtype == b.dtype, name
            np.testing.assert_array_equal(a[0], b[env], err_msg=name)
    np.testing.assert_array_equal(tick.raw[0], raw[env])
    np.testing.assert_array_equal(tick.shares[0], shares[env])


@pytest.mark.parametrize("name", ["run.jsonl", "run.jsonl.gz"])
def test_every_number_comes_back_exactly(tmp_path: Path, name: str) -> None:
    ticks = sample_ticks(3)
    read = list(Journal(written(tmp_path / name, ticks)).ticks())
    assert len(read) == 3
    for tick, original in zip(read, ticks, strict=True):
        assert_same(tick, original)


def test_infinity_and_the_largest_count_come_back(tmp_path: Path) -> None:
    seen, raw, plan, actions, shares = sample_ticks(1)[0]
    plan = plan._replace(overflow_after_s=np.full((1, 2), np.inf), shed_limit=np.array([[0, 2**63 - 1]]))
    raw = np.array([[np.inf, -np.inf, np.nan, 0.1]])
    (tick,) = Journal(written(tmp_path / "run.jsonl", [(seen, raw, plan, actions, shares)])).ticks()
    assert_same(tick, (seen, raw, plan, actions, shares))


def test_the_chosen_env_is_written(tmp_path: Path) -> None:
    (original,) = sample_ticks(1, num_envs=3)
    with JournalWriter(tmp_path / "run.jsonl", header(), env=2) as journal:
        journal.write(*original)
    (tick,) = Journal(tmp_path / "run.jsonl").ticks()
    assert_same(tick, original, env=2)


def test_history_is_stored_once_and_again_after_a_missing_tick(tmp_path: Path) -> None:
    ticks = sample_ticks(4)
    del ticks[2]
    path = written(tmp_path / "run.jsonl", ticks)
    lines = [json.loads(line) for line in path.read_text().splitlines()[1:]]
    assert ["history" in line["observation"] for line in lines] == [True, False, True]
    for tick, original in zip(Journal(path).ticks(), ticks, strict=True):
        assert_same(tick, original)


def test_reasons_are_written_as_texts(tmp_path: Path) -> None:
    path = written(tmp_path / "run.jsonl", sample_ticks(1))
    # 5 = FOLLOW_DEMAND + HOLD_SCALE_IN
    assert json.loads(path.read_text().splitlines()[1])["reasons"] == [
        "capacity follows forecast demand",
        "scale-in is held back by the decay",
    ]


def test_equal_runs_write_equal_bytes_and_timings_lie_beside(tmp_path: Path) -> None:
    paths = [tmp_path / "a" / "run.jsonl.gz", tmp_path / "b" / "run.jsonl.gz"]
    for seconds, path in enumerate(paths):
        with JournalWriter(path, header()) as journal:
            journal.write(*sample_ticks(1)[0], timings_s={"decide_s": seconds / 8})
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert json.loads(timings_path(paths[1]).read_text()) == {"n": 0, "decide_s": 0.125}


def test_predictions_come_back(tmp_path: Path) -> None:
    with JournalWriter(tmp_path / "run.jsonl", header()) as journal:
        journal.write(*sample_ticks(1)[0], predicted={"cost_usd": 0.1})
    (tick,) = Journal(tmp_path / "run.jsonl").ticks()
    assert tick.predicted == {"cost_usd": 0.1}


def test_header_comes_back(tmp_path: Path) -> None:
    assert Journal(written(tmp_path / "run.jsonl", [])).header == header()


def test_every_tick_is_on_disk_when_write_returns(tmp_path: Path) -> None:
    ticks = sample_ticks(2)
    for name in ("run.jsonl", "run.jsonl.gz"):
        journal = JournalWriter(tmp_path / name, header())
        journal.write(*ticks[0])
        journal.write(*ticks[1])
        copy = tmp_path / f"copy-{name}"
        copy.write_bytes((tmp_path / name).read_bytes())  # what a kill would leave
        journal.close()
        if name.endswith(".gz"):
            with pytest.warns(TruncatedJournalWarning):
                read = list(Journal(copy).ticks())
        else:
            read = list(Journal(copy).ticks())
        assert len(read) == 2


@pytest.mark.parametrize("name", ["run.jsonl", "run.jsonl.gz"])
def test_a_cut_last_line_is_left_out_with_a_warning(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / name, sample_ticks(3))
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.warns(TruncatedJournalWarning, match="cut in line 4"):
        assert len(list(Journal(path).ticks())) == 2


def damaged(path: Path, line: int, change: Any) -> Path:
    lines = path.read_text().splitlines()
    lines[line - 1] = change(lines[line - 1])
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(
    "change",
    [
        lambda line: line[:40],
        lambda line: "{}",
        lambda line: "[]",
        lambda line: line.replace('"plan"', '"plam"'),
        lambda line: line.replace('"replicas"', '"replicsa"'),
        lambda line: line.replace('"n":1', '"n":2'),
        lambda line: line.replace('"latency":[[', '"latency":[[99999,'),
        lambda line: line.replace('"shares":[[', '"shares":[[["x"],'),
    ],
)
def test_other_damage_names_the_line(tmp_path: Path, change: Any) -> None:
    path = damaged(written(tmp_path / "run.jsonl", sample_ticks(3)), 3, change)
    with pytest.raises(JournalError, match="line 3"):
        list(Journal(path).ticks())


def test_a_missing_line_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "run.jsonl", sample_ticks(3))
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], lines[1], lines[3]]))
    with pytest.raises(JournalError, match="line 3, n: expected tick 1, got 2"):
        list(Journal(path).ticks())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty file"),
        (b"{}\n", "line 1"),
        (b"not json\n", "line 1"),
        (b'{"journal": 2}\n', "schema 1, got 2"),
        (b'{"journal": 1}\n', "kind"),
    ],
)
def test_a_file_that_is_no_journal_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(content)
    with pytest.raises(JournalError, match=message):
        Journal(path)


def test_missing_and_damaged_archives_are_refused(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="No such file"):
        Journal(tmp_path / "none.jsonl")
    path = tmp_path / "run.jsonl.gz"
    path.write_bytes(b"plain text")
    with pytest.raises(JournalError, match="line 1"):
        Journal(path)
    path.write_bytes(gzip.compress(b"no json\n"))
    with pytest.raises(JournalError, match="line 1"):
        Journal(path)


def test_a_cascade_comes_back_and_a_journal_of_before_has_none():
    shape = (3, 2, 2)
    empty, plan = EmptyArrays(shape).plan, empty_plan(1, shape)
    assert encode(plan, 0, empty) == {}
    assert decode({}, empty).cascade_variant.tolist() == [[[-1, -1, -1]] * 2]
    plan.cascade_variant[0, 1], plan.cascade_threshold[0, 1] = [2, 0, -1], [0.1 + 0.2, np.inf]
    read = decode(json.loads(json.dumps(encode(plan, 0, empty))), empty)
    for name, written, back in zip(plan._fields, plan, read, strict=True):
        np.testing.assert_array_equal(back, written, err_msg=name)


def test_events_lie_between_the_ticks_and_change_none(tmp_path: Path) -> None:
    ticks = sample_ticks(2)
    with JournalWriter(tmp_path / "run.jsonl", header()) as journal:
        journal.event("mode", {"to": "shadow"})
        journal.write(*ticks[0])
        journal.event("receipt", {"n": 0, "cost_usd": 0.25})
        journal.write(*ticks[1])
    read = Journal(tmp_path / "run.jsonl")
    for tick, original in zip(read.ticks(), ticks, strict=True):
        assert_same(tick, original)
    assert [(event.after, event.kind) for event in read.events()] == [(0, "mode"), (1, "receipt")]
    assert [event.fields for event in read.events("receipt")] == [{"n": 0, "cost_usd": 0.25}]
    assert [type(record).__name__ for record in read.records()] == [
        "JournalEvent",
        "JournalTick",
        "JournalEvent",
        "JournalTick",
    ]


def test_end_holds_what_was_spent_since_the_last_tick_by_term(tmp_path: Path) -> None:
    with JournalWriter(tmp_path / "run.jsonl", header()) as journal:
        journal.end(12.5, np.arange(len(BILL_TERMS), dtype=float))
    (end,) = Journal(tmp_path / "run.jsonl").events(END)
    by_term = {term: float(at) for at, term in enumerate(BILL_TERMS)}
    assert end.fields == {"at_s": 12.5, "spend_usd": by_term}


def test_a_journal_goes_on_after_a_kill_in_the_middle_of_a_line(tmp_path: Path) -> None:
    ticks = sample_ticks(3)
    path = written(tmp_path / "run.jsonl", ticks[:2])
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    with JournalWriter(path, header(), is_continuing=True) as journal:
        for tick in ticks[1:]:
            journal.write(*tick)
    for tick, original in zip(Journal(path).ticks(), ticks, strict=True):
        assert_same(tick, original)


def test_a_journal_that_is_not_there_yet_is_begun(tmp_path: Path) -> None:
    with JournalWriter(tmp_path / "run.jsonl", header(), is_continuing=True) as journal:
        journal.write(*sample_ticks(1)[0])
    assert len(list(Journal(tmp_path / "run.jsonl").ticks())) == 1


def test_a_journal_of_another_run_is_not_continued(tmp_path: Path) -> None:
    path = written(tmp_path / "run.jsonl", sample_ticks(1))
    before = path.read_bytes()
    other = header().model_copy(update={"policy_name": "another"})
    with pytest.raises(JournalError, match="policy_name: expected that of the run that goes on, got 'static'"):
        JournalWriter(path, other, is_continuing=True)
    assert path.read_bytes() == before


def test_a_compressed_journal_is_not_continued(tmp_path: Path) -> None:
    path = written(tmp_path / "run.jsonl.gz", sample_ticks(1))
    with pytest.raises(JournalError, match="expected a plain file to continue"):
        JournalWriter(path, header(), is_continuing=True)
