"""Values beside bars, what is kept of Fashion-MNIST, and the files of the study."""

import json
from dataclasses import replace

import numpy as np
import pytest

from controller.errors import ConfigError
from experiments.collage import kept, plots
from experiments.collage.draws import Kind
from experiments.collage.live_rows import LiveFound, LiveRow
from experiments.collage.networks import Network
from experiments.collage.run import checks_of, study, write_and_show
from experiments.collage.study import COLLAGE, NONE, Extent, Figures, Row, find
from experiments.collage.training import BATCHES, Measured
from experiments.collage.verdict import accuracy_checks, best_collages, findings, latency_checks, loss_of

TINY = Extent(groups=400, sizes=(9, 16, 25), ratios=(1.0, 2.0), replayed=5)


def network(task: str, form: str, w: int, accuracy: float) -> Network:
    found = Measured(accuracy, accuracy, 0.9, 0.0, None)
    return Network(task, form, w, (found, found), 1000 * w, dict.fromkeys(BATCHES, 1e-3 * w))


def networks(accuracy: float = 0.97) -> list[Network]:
    found = [network("digits", "single", 1, 0.99)]
    found += [network("digits", "full", w, accuracy) for w in (2, 3, 4, 5)]
    found += [network("fashion", "single", 1, 0.9)]
    return found + [network("fashion", form, w, 0.8 + gain) for w in (2, 3, 4, 5) for form, gain in FORMS.items()]


FORMS = {"full": 0.02, "shrunk": 0.01}


@pytest.fixture(scope="module")
def found():
    rng = np.random.default_rng(1)
    latency_s = rng.uniform(0.1, 0.2, 2000)
    latency_s[:60] += 0.5
    return study(latency_s, TINY, networks(), "measured once", lambda _: None)


def row(mode: str, k: int, p99_s: float, deviation_s: float = 0.1, servers: float = 1.0) -> Row:
    times = Figures(0.1, p99_s, 0.9, 0.2, deviation_s)
    return Row(k, Kind.INDEPENDENT, mode, 1.0, 0.25, times, times, 0.1, servers, 0.2, 0.03, 0.0, ())


@pytest.mark.parametrize(("k", "least", "least_tuned"), [(9, 1.5, 1.4), (16, 1.5, 1.6), (25, 2.0, 2.0)])
def test_each_size_of_group_has_its_bars(k, least, least_tuned) -> None:
    def short(p99_s: float, tuned_s: float) -> int:
        rows = [row(COLLAGE, size, 1.0, 0.01) for size in (9, 16, 25)]
        rows += [row("none", size, 9.0, 0.1) for size in (9, 16, 25)]
        rows += [row("replication", size, 1.0, servers=2.0) for size in (9, 16, 25)]
        rows += [row("re-send at T", size, p99_s if size == k else 9.0) for size in (9, 16, 25)]
        rows += [row("re-send, tuned", size, tuned_s if size == k else 9.0) for size in (9, 16, 25)]
        return sum(not check.holds for check in latency_checks(rows))

    assert short(least + 0.01, least_tuned + 0.01) == 0
    assert short(least - 0.01, least_tuned + 0.01) == 1
    assert short(least + 0.01, least_tuned - 0.01) == 1


def test_accuracy_below_its_bar_falls_short(found) -> None:
    poor = [replace(one, measured=(Measured(0.95, 0.9, 0.9, 0.0, None),)) if one.w == 2 else one for one in networks()]
    assert all(check.holds for check in accuracy_checks(networks(), found.rows))
    assert [check.what[:10] for check in accuracy_checks(poor, found.rows) if not check.holds] == ["digits 2×2"]


def test_loss_is_that_of_the_answers_that_a_collage_gave(found) -> None:
    one, single = network("digits", "full", 3, 0.9), network("digits", "single", 1, 0.95)
    own = find(found.rows, 9, COLLAGE)
    assert 0.01 < own.by_collage < 0.05
    assert loss_of(own, one, single) == pytest.approx(0.05 * own.by_collage)
    with pytest.raises(ValueError, match="collage: expected 3 cells an edge, got 2"):
        loss_of(own, replace(one, w=2), single)


def test_best_form_of_each_size_is_taken() -> None:
    assert {(one.task, one.form) for one, _ in best_collages(networks())} == {("digits", "full"), ("fashion", "full")}


def test_findings_name_the_remedy_of_blocks(found) -> None:
    said = list(findings(found.rows, TINY.ratios))
    assert any("blocks in time" in line and "second collage worker" in line for line in said)
    assert any("blocks in a group, rotated" in line for line in said)


def test_what_was_measured_is_kept_with_its_date(tmp_path) -> None:
    path = tmp_path / "tables" / "fashion.json"
    kept.keep(networks(), path)
    title, read = kept.kept(path)
    assert read == networks()
    assert title.startswith("measured on 2")
    path.write_text(path.read_text().replace("0.97", "0.99"))
    with pytest.raises(ConfigError, match="SHA-256 of the networks: expected"):
        kept.kept(path)


def test_nothing_kept_is_said() -> None:
    with pytest.raises(ConfigError, match="expected what provisor experiment collage --full keeps"):
        kept.kept(kept.FILE.with_name("nothing.json"))


def test_shipped_networks_of_fashion_can_be_read() -> None:
    title, found = kept.kept()
    assert "at commit" in title
    assert {one.w for one in found} == {1, 2, 3, 4, 5}


def test_study_writes_tables_plots_and_page(found, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(plots, "KINDS", (Kind.INDEPENDENT,))  # the others' plots are of the same form, and slow
    one = LiveRow("", 100, 0, 0, 0.03, 0.14, 0.3, 0.4, 0.11, 0.2, 0.02, 0.98)
    live = LiveFound((replace(one, mode=NONE, p99_s=0.7), replace(one, mode=COLLAGE)), 1.2, 9)
    found = replace(found, live=live, evaluated=({"policy": "redundant", "cost $": "9.75"},), shares=("all hedged",))
    with np.errstate(all="ignore"):  # matplotlib's own arithmetic
        holds = write_and_show(found, tmp_path)
    assert holds == all(check.holds for check in checks_of(found))
    assert sum(check.what.startswith("live") for check in checks_of(found)) == 3
    names = {path.name for path in tmp_path.iterdir()}
    assert {"checks.json", "collage.json", "report.html", "ratios.png", "accuracy.png", "cdf_independent.png"} <= names
    values = json.loads((tmp_path / "collage.json").read_text(), parse_constant=pytest.fail)
    assert len(values["rows"]) == len(found.rows)
    report, shown = (tmp_path / "report.html").read_text(), capsys.readouterr().out
    assert "<svg" in report
    for text in ("collages", "9.75", "all hedged", "pass ratio 1.20"):
        assert text in shown
        assert text in report.lower() or text == "collages"


def test_rule_is_asked_for_every_slo_and_value_of_a_miss(found) -> None:
    assert len(found.choices) == 12
    ways = {line[2].split()[0] for line in found.choices}
    assert ways <= {"none", "re-send", "hedge", "replicate", "collage"}
    assert len(ways) > 1
