from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from controller.errors import InputError
from controller.tiers.calibration import Calibration, load_calibration
from controller.tiers.candidates import candidates
from controller.tiers.generate import Objective, Tolerance, generate
from controller.tiers.guarantee import upper_bound
from controller.tiers.rules import Form, Rule, outcome
from tests.unit.controller.tiers.synthetic import population

POINTS = [Tolerance(value) for value in (0.0, 0.01, 0.02, 0.05, 0.1)]


def test_means_of_all_rules_are_those_of_running_each():
    table = population(2000)
    found = candidates(table, thresholds=50)
    for i in np.random.default_rng(0).choice(len(found.rules), 200, replace=False):
        one = outcome(found.rules[i], table)
        assert found.error[i] == pytest.approx(one.error.mean())
        assert found.latency_s[i] == pytest.approx(one.latency_s.mean())
        assert found.cost_usd[i] == pytest.approx(one.cost_usd.mean())


def test_ties_of_confidence_are_on_one_side_of_a_threshold():
    table = population(500)
    rounded = Calibration(
        table.versions, table.error, np.round(table.confidence, 1), table.latency_s, table.cost_usd, table.source
    )
    found = candidates(rounded, thresholds=300)
    for rule, error in zip(found.rules, found.error, strict=True):
        assert error == pytest.approx(outcome(rule, rounded).error.mean())
    # Ten levels of confidence leave ten thresholds of each pair at most, not three hundred.
    assert len(found.rules) <= 5 + 20 * 2 * 11


def test_cancelled_second_version_is_paid_until_the_first_answered():
    table = Calibration(
        ("a", "b"),
        np.zeros((2, 2)),
        np.array([[0.9, 1.0], [0.1, 1.0]]),
        np.array([[1.0, 4.0], [1.0, 4.0]]),
        np.array([[1.0, 8.0], [1.0, 8.0]]),
        "by hand",
    )
    one = outcome(Rule(Form.CONCURRENT, 0, 1, 0.5), table)
    assert one.latency_s.tolist() == [1.0, 4.0]
    assert one.cost_usd.tolist() == [1.0 + 8.0 / 4.0, 9.0]
    other = outcome(Rule(Form.SEQUENTIAL, 0, 1, 0.5), table)
    assert other.latency_s.tolist() == [1.0, 5.0]
    assert other.cost_usd.tolist() == [1.0, 9.0]


@pytest.mark.parametrize("objective", list(Objective))
@pytest.mark.parametrize("is_relative", [False, True])
def test_more_tolerance_never_costs_more_and_saves_in_the_end(objective, is_relative):
    table = population(10_000)
    tolerances = [Tolerance(one.value * (10 if is_relative else 1), is_relative) for one in POINTS]
    tiers = generate(table, tolerances, [objective])
    values = [tier.latency_s if objective is Objective.RESPONSE_TIME else tier.cost_usd for tier in tiers]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.8 * values[0]
    assert all(tier.bound.upper <= tier.tolerance.limit for tier in tiers)


def test_cascade_saves_more_than_any_single_version():
    table = population(20_000)
    (tier,) = generate(table, [Tolerance(0.02)], [Objective.COST])
    best = table.error.mean(axis=0).min()
    singles = [
        table.cost_usd[:, v].mean() for v in range(len(table.versions)) if table.error[:, v].mean() <= best + 0.02
    ]
    assert tier.rule.form is Form.SEQUENTIAL
    assert tier.cost_usd < 0.9 * min(singles)


def test_degradation_beyond_the_tolerance_is_as_rare_as_it_was_promised():
    confidence, runs = 0.9, 60
    everybody = population(200_000, seed=99)
    best = everybody.error.mean(axis=0).min()
    broken = cells = 0
    for seed in range(runs):
        table = everybody.rows(np.random.default_rng(seed).choice(len(everybody), 1500, replace=False))
        for tier in generate(table, POINTS[1:4], [Objective.COST], confidence=confidence, thresholds=40, seed=seed):
            cells += 1
            broken += outcome(tier.rule, everybody).error.mean() - best > tier.tolerance.limit
    # The tiers of one run share their calibration, so at worst they break together.
    assert broken <= 3 * binom.ppf(0.999, runs, 1.0 - confidence)
    assert cells == 3 * runs


@pytest.mark.parametrize("count", [200, 5000])
def test_rule_that_never_was_seen_to_differ_may_differ_all_the_same(count):
    bound = upper_bound(np.zeros(count), 0.999, np.random.default_rng(0))
    assert -np.log(0.001) / count <= bound.upper <= 14.0 / count


def test_bound_covers_the_mean_as_often_as_stated():
    rng = np.random.default_rng(1)
    truth, runs, confidence = 0.004, 400, 0.95
    missed = 0
    for _ in range(runs):
        draws = rng.choice([1.0, -1.0, 0.0], 800, p=[0.014, 0.010, 0.976])
        missed += upper_bound(draws, confidence, rng, tight=1e-3, most=1000).upper < truth
    assert missed <= binom.ppf(0.999, runs, 1.0 - confidence)


def test_calibration_is_read_back_as_it_was_written(tmp_path):
    table = population(50)
    table.save(tmp_path / "c.npz")
    again = load_calibration(tmp_path / "c.npz")
    assert again.digest() == table.digest()
    assert again.versions == table.versions
    assert again.batch_sizes == ()
    batch_s = np.ones((2, len(table.versions)))
    replace(table, batch_sizes=(1, 8), batch_s=batch_s).save(tmp_path / "c.npz")
    with_batches = load_calibration(tmp_path / "c.npz")
    assert with_batches.batch_sizes == (1, 8)
    assert (with_batches.batch_s == batch_s).all()
    assert with_batches.only(table.versions[:2]).batch_s.shape == (2, 2)
    (tmp_path / "d.npz").write_bytes(b"no")
    with pytest.raises(InputError, match="expected a calibration of versions"):
        load_calibration(tmp_path / "d.npz")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"versions": ("a", "a")}, "versions: expected distinct names"),
        ({"confidence": np.full((2, 2), 1.5)}, r"confidence: expected numbers in 0\.\.1"),
        ({"latency_s": np.zeros((2, 2))}, "latency_s: expected numbers > 0"),
        ({"error": np.full((2, 2), np.nan)}, "error: expected finite numbers >= 0"),
        ({"cost_usd": np.zeros((3, 2))}, "cost_usd: expected at least two rows of 2 versions"),
        ({"batch_sizes": (8, 1), "batch_s": np.ones((2, 2))}, "batch_sizes: expected rising numbers"),
        ({"batch_sizes": (1, 8)}, r"batch_s: expected a row of 2 versions for each of \(1, 8\)"),
        ({"batch_s": np.ones((1, 2))}, "batch_sizes: expected rising numbers"),
        ({"batch_sizes": (1,), "batch_s": np.zeros((1, 2))}, "batch_s: expected finite numbers > 0"),
    ],
)
def test_wrong_calibration_is_refused(changes, text):
    fields = {name: np.ones((2, 2)) for name in ("error", "confidence", "latency_s", "cost_usd")}
    with pytest.raises(InputError, match=text):
        Calibration(**{"versions": ("a", "b"), "source": "x", **fields, **changes})


@pytest.mark.parametrize(
    ("tolerance", "confidence", "text"),
    [(-0.1, 0.999, "tolerance: expected a number >= 0"), (0.1, 1.0, "confidence: expected a number in")],
)
def test_what_cannot_be_promised_is_refused(tolerance, confidence, text):
    with pytest.raises(InputError, match=text):
        generate(population(100), [Tolerance(tolerance)], confidence=confidence)


@pytest.mark.parametrize("has_old", [False, True])
def test_table_whose_writing_is_stopped_is_not_there(monkeypatch, tmp_path, has_old):
    out = tmp_path / "speech.npz"
    if has_old:
        population(40).save(out)

    def stopped(file, **arrays):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez_compressed", stopped)
    with pytest.raises(KeyboardInterrupt):
        population(50).save(out)
    assert [path.name for path in tmp_path.iterdir()] == (["speech.npz"] if has_old else [])
    if has_old:
        assert load_calibration(out).digest() == population(40).digest()
