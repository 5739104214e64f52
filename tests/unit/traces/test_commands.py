import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from controller.errors import ProvisorError, UsageError
from traces.commands import parse_days, trace
from traces.readers import read_trace


def run(*words: str) -> str:
    result = CliRunner().invoke(trace, list(words), standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.output


def test_a_trace_is_made_and_described(tmp_path: Path) -> None:
    out = str(tmp_path / "t.npz")
    assert "steady, 2 days in bins of 10 s" in run(
        "synth", "--preset", "steady", "--days", "2", "--seed", "3", "--mean", "5", "--bin-seconds", "10", "--out", out
    )
    assert read_trace(out).days == 2
    text = run("describe", out, "--days", "2:2", "--plot", str(tmp_path / "t.png"))
    assert "1.00 days" in text
    assert (tmp_path / "t.png").exists()
    found = json.loads(run("describe", out, "--json", "--row", "0"))
    assert found["mean_rps"] == pytest.approx(5.0, rel=0.02)


def test_public_traces_are_listed() -> None:
    listed = run("fetch", "--list")
    assert "autothrottle-diurnal         checksum pinned" in listed
    assert "needs --sha256" in listed


def test_unpinned_traces_are_refused_before_any_connection(tmp_path: Path) -> None:
    with pytest.raises(ProvisorError, match="no checksum is pinned"):
        run("fetch", "twitter-2021-08", "--dest", str(tmp_path))
    with pytest.raises(UsageError, match="NAME: expected the name"):
        run("fetch")


def test_days_are_parsed_or_refused() -> None:
    assert parse_days("14:17") == (14, 17)
    assert parse_days("3") == (3, 3)
    for text in ("", "a:b", "3:", ":3", "1-2"):
        with pytest.raises(UsageError, match="--days: expected A:B"):
            parse_days(text)


@pytest.mark.parametrize("verb", ["describe", "synth", "fetch"])
def test_help_shows_an_example(verb: str) -> None:
    assert f"Example:\n    provisor trace {verb}" in run(verb, "--help")
