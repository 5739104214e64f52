"""What is fitted to live journals is what they were made from, and samples held back judge it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from controller.catalog import Catalog
from controller.compile import compile_scenario
from controller.config import parse_config
from controller.errors import InputError, UsageError
from controller.journal import JournalError, TruncatedJournalWarning
from controller.measurements import Span
from controller.scenario import Scenario
from experiments.calibrated import calibrated
from experiments.calibration import Calibrator, Fit, Needs
from experiments.journal_samples import read_samples
from experiments.show_fits import show_fits
from tests.tiny import catalog_document, scenario_document, tiny_catalog
from tests.unit.experiments.live_journals import (
    MEDIUM_SPOT_A,
    SMALL_FN,
    SMALL_OD,
    SPEED,
    TICK_S,
    Window,
    add_arrivals,
    each_window,
    gamma_s,
    live_journal,
)

# None of these is what the tiny catalog says: 0.05 and 0.1 s for the first input, 60 s to launch, 10 s to load or
# swap, 3 s to start cold, 50 requests/s with CV 1.
SMALL_S = {1: 0.06, 2: 0.09, 4: 0.15}
MEDIUM_S = 0.2
SERVICE_CV = 0.2
LAUNCH_S, LOAD_S, SWAP_S, COLD_S, FN_S = 70.0, 4.0, 6.0, 2.5, 0.12
RATE_RPS, GAP_CV = 40.0, 1.5
WINDOWS = 150


def fill(window: Window, rng: np.random.Generator) -> None:
    """One window of the run whose parameters stand above."""
    for batch, mean_s in SMALL_S.items():
        window.serve(SMALL_OD, batch, gamma_s(rng, mean_s, SERVICE_CV, 5))
    window.serve(MEDIUM_SPOT_A, 1, gamma_s(rng, MEDIUM_S, SERVICE_CV, 2))
    window.serve(SMALL_FN, 1, gamma_s(rng, FN_S, SERVICE_CV, 2))
    cold_s = [warm + cold for warm, cold in zip(gamma_s(rng, FN_S, 0.2, 1), gamma_s(rng, COLD_S, 0.1, 1), strict=True)]
    window.serve(SMALL_FN, 1, cold_s, is_cold=True)
    # Launches are control time, which the run's speed compressed; loads and swaps are not.
    window.spans += [
        Span("launch", SMALL_OD, LAUNCH_S / SPEED * rng.uniform(0.8, 1.2)),
        Span("load", SMALL_OD, LOAD_S * rng.uniform(0.8, 1.2)),
        Span("swap", MEDIUM_SPOT_A, SWAP_S * rng.uniform(0.8, 1.2)),
    ]


def fits_of(
    paths: Sequence[Path], catalog: Catalog | None = None, needed: Needs | None = None
) -> dict[tuple[str, str], Fit]:
    """Fits by what and where."""
    catalog = catalog or tiny_catalog(batch_max=4)
    calibrator = Calibrator(read_samples(paths, catalog), catalog, needed or Needs())
    return {(fit.what, fit.where): fit for fit in calibrator.fits()}


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    windows = each_window(WINDOWS, fill, seed=1)
    add_arrivals(windows, np.random.default_rng(2), RATE_RPS, GAP_CV)
    return live_journal(tmp_path_factory.mktemp("run") / "journal.jsonl", windows)


@pytest.fixture(scope="module")
def fits(journal: Path) -> dict[tuple[str, str], Fit]:
    return fits_of([journal])


@pytest.fixture(scope="module")
def catalog(fits: dict[tuple[str, str], Fit]) -> Catalog:
    """The tiny catalog with every fit in its place."""
    return parse_config(calibrated(tiny_catalog(batch_max=4), list(fits.values())), Catalog, "calibrated")


def steady(count: int, seconds: float = 0.06, **changes: object) -> list[Window]:
    """Windows with one batch each, all alike."""
    windows = [Window(**changes) for _ in range(count)]
    for window in windows:
        window.serve(SMALL_OD, 1, [seconds])
    return windows


def window_of(option: int) -> Window:
    """A window with one batch of one option."""
    window = Window()
    window.serve(option, 1, [0.06])
    return window


# What is recovered


@pytest.mark.parametrize(
    ("what", "where", "true", "relative_se"),
    [
        # Relative standard errors: the CV of the samples over the root of their number, in 120 of 150 windows.
        ("service", "small on od, batch 1", 0.06, 0.2 / 600**0.5),
        ("service", "small on od, batch 2", 0.09, 0.2 / 600**0.5),
        ("service", "small on od, batch 4", 0.15, 0.2 / 600**0.5),
        ("service", "medium on spot-a, batch 1", MEDIUM_S, 0.2 / 240**0.5),
        ("service", "small on fn, batch 1", FN_S, 0.2 / 240**0.5),
        ("cold start", "small on fn", COLD_S, 0.1 / 120**0.5),
        # Uniform within 20 % on either side: 0.4 / sqrt(12).
        ("launch", "od", LAUNCH_S, 0.4 / 12**0.5 / 120**0.5),
        ("load", "small on od", LOAD_S, 0.4 / 12**0.5 / 120**0.5),
        ("swap", "medium on spot-a", SWAP_S, 0.4 / 12**0.5 / 120**0.5),
        # Counts of a renewal process have the variance CV^2 x mean, here 2.25 x 20 per window of half a second.
        ("arrival rate", "all classes, requests/s", RATE_RPS, (2.25 / 20) ** 0.5 / 120**0.5),
    ],
)
def test_a_mean_is_recovered_within_its_standard_error(
    fits: dict, what: str, where: str, true: float, relative_se: float
) -> None:
    found = fits[what, where].found
    assert found.value == pytest.approx(true, abs=3 * found.se)
    assert found.se == pytest.approx(true * relative_se, rel=0.3)


def test_the_cv_of_the_gaps_is_recovered_within_its_standard_error(fits: dict) -> None:
    fit = fits["arrival gap CV", "all classes"]
    assert fit.found.value == pytest.approx(GAP_CV, abs=3 * fit.found.se)
    assert fit.found.se < 0.1 * GAP_CV
    assert fit.agreement.p > 0.01


def test_shapes_are_recovered(fits: dict) -> None:
    shape = fits["service shape", "small on od"]
    law = stats.gamma(1 / SERVICE_CV**2, scale=SERVICE_CV**2)
    for probability in (0.05, 0.5, 0.95):
        # Of 1800 samples; Kendall and Stuart, The Advanced Theory of Statistics 1, sec. 10.10.
        se = (probability * (1 - probability) / 1800) ** 0.5 / law.pdf(law.ppf(probability))
        assert shape.entry["quantiles"][probability] == pytest.approx(law.ppf(probability), abs=3 * se)
    assert shape.agreement.p > 0.01
    launch = fits["launch shape", "od"].entry["quantiles"]
    assert launch[0.5] == pytest.approx(1.0, abs=0.06)
    assert (launch[0.0], launch[1.0]) == pytest.approx((0.8, 1.2), abs=0.03)


def test_the_line_goes_through_the_fitted_means(fits: dict) -> None:
    # 0.06, 0.09 and 0.15 lie on 0.03 + 0.03 x batch.
    assert fits["service intercept", "small on od"].found.value == pytest.approx(0.03, abs=0.003)
    assert fits["service slope", "small on od"].found.value == pytest.approx(0.03, abs=0.002)


def test_the_calibrated_catalog_answers_with_the_fitted_means(catalog: Catalog, fits: dict) -> None:
    profile = catalog.profiles[0]
    for batch in (1, 2, 4):
        fitted = fits["service", f"small on od, batch {batch}"].found.value
        assert profile.service_s(batch) == pytest.approx(fitted, rel=1e-4)


def test_each_figure_goes_to_its_place_and_says_where_it_comes_from(catalog: Catalog, journal: Path) -> None:
    small_od, small_fn, medium_spot = (catalog.profiles[i] for i in (0, 3, 5))
    assert catalog.pools[0].launch_s.value == pytest.approx(LAUNCH_S, rel=0.05)
    assert small_od.load_s.value == pytest.approx(LOAD_S, rel=0.05)
    assert medium_spot.swap_s.value == pytest.approx(SWAP_S, rel=0.05)
    assert small_fn.cold_start_s.value == pytest.approx(COLD_S, rel=0.05)
    text = small_od.load_s.measured
    assert text.startswith("mean of 120 loads, standard error ")
    assert f"1 live journal(s): {journal.parent.name}/journal.jsonl (sha256 " in text


def test_what_the_journal_does_not_show_stays(catalog: Catalog) -> None:
    before = tiny_catalog(batch_max=4)
    assert catalog.pools[1:] == before.pools[1:]
    assert [p for i, p in enumerate(catalog.profiles) if i not in (0, 3, 5)] == [
        p for i, p in enumerate(before.profiles) if i not in (0, 3, 5)
    ]
    assert catalog.profiles[0].swap_s == before.profiles[0].swap_s
    assert catalog.variants == before.variants


def test_journals_add_up(tmp_path: Path) -> None:
    paths = [live_journal(tmp_path / f"{s}.jsonl", steady(20, s)) for s in (0.1, 0.2)]
    fit = fits_of(paths)["service", "small on od, batch 1"]
    # Neither has 30 outside its held back windows; together they have 32.
    assert (fit.samples, fit.held) == (32, 8)
    assert fit.found.value == pytest.approx(0.15)


def test_a_catalog_is_calibrated_again(tmp_path: Path) -> None:
    document = catalog_document(batch_max=4)
    document["profiles"][0]["service_by_batch_s"] = {
        size: {"value": 9.0, "measured": "an earlier run"} for size in (1, 3)
    }
    before = parse_config(document, Catalog, "c")
    fits = fits_of([live_journal(tmp_path / "j.jsonl", steady(50))], before)
    assert fits["service", "small on od, batch 1"].before == 9.0
    after = parse_config(calibrated(before, list(fits.values())), Catalog, "calibrated")
    table = after.profiles[0].service_by_batch_s
    assert {size: figure.value for size, figure in table.items()} == {1: 0.06, 3: 9.0}


@pytest.mark.parametrize(("pool", "pair", "option"), [(0, "small on od", SMALL_OD), (3, "small on fn", SMALL_FN)])
def test_a_stand_in_is_brought_to_the_speed_of_its_pool_by_the_catalog_that_was_served(
    tmp_path: Path, pool: int, pair: str, option: int
) -> None:
    document = catalog_document(batch_max=4)
    document["pools"][pool]["emulated_speed"] = 2.0
    served = parse_config(document, Catalog, "c")
    setting = compile_scenario(parse_config(scenario_document(speed=SPEED), Scenario, "s"), served)
    windows = [Window() for _ in range(50)]
    for window in windows:
        window.serve(option, 1, [0.06])
    # The catalog that is calibrated has a stand-in of another speed, which the run did not have.
    fits = fits_of([live_journal(tmp_path / "j.jsonl", windows, setting)])
    assert fits["service", f"{pair}, batch 1"].found.value == pytest.approx(0.12)


def test_a_cold_start_does_not_depend_on_the_speed_of_a_stand_in(tmp_path: Path) -> None:
    document = catalog_document(batch_max=4)
    document["pools"][3]["emulated_speed"] = 2.0
    served = parse_config(document, Catalog, "c")
    setting = compile_scenario(parse_config(scenario_document(speed=SPEED), Scenario, "s"), served)
    windows = [Window() for _ in range(50)]
    for window in windows:
        # The profile says 0.1 s for a call, which takes half of it here.
        window.serve(SMALL_FN, 1, [0.05])
        window.serve(SMALL_FN, 1, [2.05], is_cold=True)
    fits = fits_of([live_journal(tmp_path / "j.jsonl", windows, setting)], served)
    assert fits["cold start", "small on fn"].found.value == pytest.approx(2.0)


def test_a_window_that_could_not_be_read_counts_with_the_one_after_it(tmp_path: Path) -> None:
    windows = steady(60, arrivals=20)
    # The controller saw window 30 twice, then what came in two windows.
    windows[31] = Window(arrivals=20, is_measured=False)
    windows[32].arrivals = 40
    rate = fits_of([live_journal(tmp_path / "j.jsonl", windows)])["arrival rate", "all classes, requests/s"]
    assert (rate.samples + rate.held, rate.found.value) == (59, 20 / TICK_S)
    assert rate.found.se == 0


def test_a_count_is_that_of_a_single_window(tmp_path: Path) -> None:
    windows = steady(10, arrivals=20)
    windows[3] = Window(arrivals=20, is_measured=False)
    windows[4].arrivals = 40
    samples = read_samples([live_journal(tmp_path / "j.jsonl", windows)], tiny_catalog(batch_max=4))
    assert samples.counts[0].tolist() == [20.0] * 8


def test_batches_that_the_catalog_does_not_send_are_left_out(tmp_path: Path) -> None:
    windows = steady(50)
    for window in windows:
        window.serve(SMALL_OD, 4, [0.15])
    # Structure is all that two catalogs need to have in common.
    catalog = tiny_catalog(batch_max=2)
    fits = fits_of([live_journal(tmp_path / "j.jsonl", windows)], catalog)
    assert [where for what, where in fits if what == "service"] == ["small on od, batch 1"]
    parse_config(calibrated(catalog, list(fits.values())), Catalog, "calibrated")


def test_cold_calls_that_were_faster_than_warm_ones_cost_nothing_more(tmp_path: Path) -> None:
    windows = [window_of(SMALL_FN) for _ in range(50)]
    for window in windows:
        window.serve(SMALL_FN, 1, [0.05], is_cold=True)
    fit = fits_of([live_journal(tmp_path / "j.jsonl", windows)])["cold start", "small on fn"]
    assert fit.found.value == pytest.approx(-0.01)
    assert fit.entry["value"] == 0.0


def test_equal_gaps_have_a_cv_of_zero(tmp_path: Path) -> None:
    windows = steady(60, gaps_s=[0.0625] * 8)
    assert fits_of([live_journal(tmp_path / "j.jsonl", windows)])["arrival gap CV", "all classes"].found.value == 0


# Held-back windows


def test_every_fifth_window_judges_a_fit_and_is_no_part_of_it(tmp_path: Path) -> None:
    windows = each_window(200, lambda window, rng: window.serve(SMALL_OD, 1, gamma_s(rng, 0.06, 0.1, 1)), seed=3)
    for window in windows[4::5]:
        window.services[0] = window.services[0]._replace(single_s=(window.services[0].single_s[0] * 2,))
    fits = fits_of([live_journal(tmp_path / "j.jsonl", windows)])
    mean = fits["service", "small on od, batch 1"]
    assert (mean.samples, mean.held) == (160, 40)
    assert mean.found.value == pytest.approx(0.06, abs=3 * mean.found.se)
    # Half of what the held back windows say.
    assert mean.error == pytest.approx(-0.5, abs=0.03)
    assert fits["service shape", "small on od"].agreement.p < 1e-6


def test_a_good_fit_has_a_small_error_and_no_unlikely_distance(fits: dict) -> None:
    mean = fits["service", "small on od, batch 1"]
    # 150 samples held back, of 20 % spread.
    assert abs(mean.error) < 3 * 0.2 / 150**0.5
    assert fits["service shape", "small on od"].held == 450


def test_little_held_back_judges_nothing(tmp_path: Path) -> None:
    # Four of 24 windows are held back, one fewer than a verdict needs.
    fit = fits_of([live_journal(tmp_path / "j.jsonl", steady(24))], needed=Needs(service=20))[
        "service", "small on od, batch 1"
    ]
    assert (fit.samples, fit.held, fit.error) == (20, 4, None)


# Too few samples


def test_a_figure_with_too_few_samples_stays_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    windows = steady(50)
    for window in windows[:4]:
        window.spans.append(Span("load", SMALL_OD, 4.0))
        window.serve(MEDIUM_SPOT_A, 1, [0.2])
    fits = fits_of([live_journal(tmp_path / "j.jsonl", windows)])
    load = fits["load", "small on od"]
    assert (load.found, load.entry, load.samples, load.needed) == (None, None, 4, 5)
    before = tiny_catalog(batch_max=4)
    after = parse_config(calibrated(before, list(fits.values())), Catalog, "calibrated")
    assert after.profiles[0].load_s == before.profiles[0].load_s
    assert after.profiles[5] == before.profiles[5]
    # Without a mean there are no ratios to it, and no row that counts none.
    assert ("service shape", "medium on spot-a") not in fits
    show_fits(list(fits.values()))
    rows = capsys.readouterr().out.splitlines()
    assert any("small on od" in row and "load" in row and "kept: 4 of 5 needed" in row for row in rows)
    assert any("medium on spot-a, batch 1" in row and "kept: 4 of 30 needed" in row for row in rows)


def test_without_any_service_time_nothing_is_calibrated(tmp_path: Path) -> None:
    path = live_journal(tmp_path / "j.jsonl", steady(30))
    with pytest.raises(InputError, match=r"at least 30 answered batches .* at most 24 \(small on od, batch 1\) and 6"):
        fits_of([path])


def test_a_journal_without_any_answer_says_so(tmp_path: Path) -> None:
    path = live_journal(tmp_path / "j.jsonl", [Window() for _ in range(40)])
    with pytest.raises(InputError, match="expected at least 30 answered batches .* got none"):
        fits_of([path])


def test_few_gaps_leave_the_cv_to_counts(tmp_path: Path) -> None:
    windows = steady(400, is_measured=True)
    counts = np.random.default_rng(4).poisson(30.0, 400)
    for window, count in zip(windows, counts, strict=True):
        window.arrivals = int(count)
    fit = fits_of([live_journal(tmp_path / "j.jsonl", windows)])["arrival gap CV", "all classes"]
    assert fit.found.value == pytest.approx(1.0, abs=3 * fit.found.se)
    assert fit.note == "from counts of 400 windows"


# Journals that are not taken


def test_a_simulated_journal_is_refused(tmp_path: Path) -> None:
    path = live_journal(tmp_path / "j.jsonl", steady(50), kind="simulated")
    with pytest.raises(InputError, match="expected the journal of a live run, got a simulated one"):
        read_samples([path], tiny_catalog(batch_max=4))


def test_a_journal_of_another_catalog_is_refused(tmp_path: Path) -> None:
    document = catalog_document(batch_max=4)
    document["name"] = "other"
    document["profiles"] = document["profiles"][:-1]
    with pytest.raises(InputError, match=r"profiles of catalog 'other' \(.*\), got one of 'tiny'"):
        read_samples([live_journal(tmp_path / "j.jsonl", steady(50))], parse_config(document, Catalog, "c"))


def test_a_journal_is_given_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a message shows the beginning of a long path alone
    path = live_journal(Path("j.jsonl"), steady(50))
    copy = Path("copy.jsonl")
    copy.write_bytes(path.read_bytes())
    with pytest.raises(UsageError, match=r"JOURNAL: expected each journal once, got 'copy\.jsonl'"):
        read_samples([path, copy], tiny_catalog(batch_max=4))


def test_a_missing_journal_is_named(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match=r"none\.jsonl"):
        read_samples([tmp_path / "none.jsonl"], tiny_catalog(batch_max=4))


def test_a_cut_journal_counts_up_to_the_cut(tmp_path: Path) -> None:
    path = live_journal(tmp_path / "j.jsonl", steady(50))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.warns(TruncatedJournalWarning, match="cut in line 52"):
        samples = read_samples([path], tiny_catalog(batch_max=4))
    assert samples.sources[0].windows == 49


# Journals with sums by window alone


def sums(count: int, noise_s: float = 0.05) -> list[Window]:
    """Windows of a run before there were single durations: 0.08 s on one option, 0.25 s on another, a call or none."""
    rng = np.random.default_rng(5)
    windows = []
    for _ in range(count):
        small, medium, calls = (int(n) for n in rng.integers((20, 5, 0), (60, 25, 2)))
        exact_s = {SMALL_OD: 0.08 * small, MEDIUM_SPOT_A: 0.25 * medium}
        busy_s = {option: abs(seconds + rng.normal(0, noise_s)) for option, seconds in exact_s.items()}
        windows.append(
            Window(
                answered=small + medium + calls,
                invocations=calls,
                busy_s=busy_s,
                is_measured=False,
            )
        )
    return windows


def test_sums_by_window_tell_service_times_where_every_batch_was_one_request(tmp_path: Path) -> None:
    fits = fits_of([live_journal(tmp_path / "j.jsonl", sums(100))])
    for where, seconds in (("small on od, batch 1", 0.08), ("medium on spot-a, batch 1", 0.25)):
        fit = fits["service", where]
        assert fit.found.value == pytest.approx(seconds, abs=3 * fit.found.se)
        assert fit.found.se < 0.05 * seconds
        assert (fit.samples, fit.held) == (80, 20)
        assert "non-negative least squares over 80 windows" in fit.entry["derived"]
    assert ("service shape", "small on od") not in fits


def test_sums_by_window_of_larger_batches_tell_nothing(tmp_path: Path) -> None:
    # What one line plans is served in the window of the next.
    windows = sums(100)
    path = live_journal(tmp_path / "j.jsonl", windows, first_batch_size=4)
    with pytest.raises(InputError, match=r"j\.jsonl: expected a journal with single service times"):
        fits_of([path])


def test_sums_by_window_too_scattered_to_tell_a_time_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = live_journal(tmp_path / "j.jsonl", sums(100, noise_s=3.0))
    with pytest.raises(InputError, match="windows that tell the times of the options apart"):
        fits_of([path])
    catalog = tiny_catalog(batch_max=4)
    measured = live_journal(tmp_path / "k.jsonl", [window_of(MEDIUM_SPOT_A) for _ in range(50)])
    show_fits(Calibrator(read_samples([path, measured], catalog), catalog).fits())
    (row,) = [row for row in capsys.readouterr().out.splitlines() if "small on od, batch 1" in row]
    assert "kept: too uncertain" in row
