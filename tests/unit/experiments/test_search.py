"""The course of a search is a function of its plan and the values, whether or not it was stopped on the way."""

import math
from pathlib import Path

import numpy as np
import pytest
from optuna.trial import TrialState
from pydantic import Field

from controller.config import StrictModel, parse_config
from controller.errors import ConfigError, UsageError
from experiments.search import FACTS, FAILURE, Search
from experiments.search_plan import Judged, SearchPlan, StopRule, gain_of_last
from experiments.tuning import Range, ranges_of


class Rule(StrictModel):
    headroom: float = Field(default=2.5, ge=0.5, le=3.0)
    rate: float = Field(default=0.9, ge=0.001, le=1.0)
    count: int = Field(default=9, ge=1, le=9)
    is_eager: bool = False
    name: str = "rule"


START = Rule().model_dump()
RANGES = ranges_of(Rule)


def bowl(settings) -> float:
    """Minimum 1 at headroom 1.2, rate 0.1, count 5, eager; 6.0 at the start (1 + 1.69 + 0.91 + 1.6 + 0.3, about)."""
    return (
        1.0
        + (settings["headroom"] - 1.2) ** 2
        + math.log10(settings["rate"] / 0.1) ** 2
        + 0.1 * (settings["count"] - 5) ** 2
        + 0.3 * (not settings["is_eager"])
    )


class BowlJudge:
    """The bowl on every world, the second half as high again; notes what it was asked, and may be interrupted."""

    def __init__(self, interrupted_at: int | None = None) -> None:
        self.asked: list[tuple[dict, int]] = []
        self._interrupted_at = interrupted_at

    def __call__(self, asked):
        found = []
        for settings, world in asked:
            if len(self.asked) == self._interrupted_at:
                raise KeyboardInterrupt
            self.asked.append((settings, world))
            found.append(Judged(bowl(settings) * (1.0 + 0.5 * world), {"world": world}))
        return found


def plan(**changes) -> SearchPlan:
    values = {"ranges": RANGES, "starts": (START,), "worlds": 2, "batch": 4, "seed": 3, "give_up_above": 0.2}
    return SearchPlan(**{**values, **changes})


def searched(path: Path, trials: int, judge=None, **changes) -> Search:
    search = Search(plan(**changes), path, {"of": "the tests"})
    search.run(judge or BowlJudge(), StopRule(trials=trials))
    return search


def course_of(search: Search):
    return [(one.state, one.params, one.value, one.intermediate_values, one.user_attrs) for one in search.trials]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Search:
    """30 trials without a stop."""
    return searched(tmp_path_factory.mktemp("whole") / "study.log", 30)


def test_search_beats_as_many_random_settings(tmp_path: Path) -> None:
    search = searched(tmp_path / "study.log", 41, worlds=1)
    rng = np.random.default_rng(0)
    random = min(
        bowl({one.name: one.value(unit) for one, unit in zip(RANGES, rng.random(len(RANGES)), strict=True)})
        for _ in range(41)
    )
    best = search.settings(search.best.number, search.best.params)
    assert search.course[0] == pytest.approx(bowl(START))
    assert bowl(best) == search.course[-1] < random
    assert best["count"] in (4, 5, 6)
    assert best["is_eager"] is True
    assert best["name"] == "rule"


def test_proposals_are_valid_settings_within_their_ranges(whole: Search) -> None:
    for trial in whole.trials:
        settings = whole.settings(trial.number, trial.params)
        assert Rule.model_validate(settings)
        assert type(settings["count"]) is int
        assert type(settings["is_eager"]) is bool


@pytest.mark.slow
def test_every_fourth_proposal_of_the_process_is_the_best_with_a_part_drawn_anew(tmp_path: Path) -> None:
    search = searched(tmp_path / "study.log", 89, worlds=1, batch=1, give_up_above=None)
    alone, together, places = [], [], {}
    for number in range(6 * len(RANGES), len(search.trials)):
        if number % 4 == 2:
            best = min(search.trials[:number], key=lambda one: one.value)
            now = search.trials[number].params
            changed = [name for name in now if now[name] != best.params[name]]
            if number // 4 % 2:
                together.append(len(changed))
                continue
            alone.append(RANGES[number // 8 % len(RANGES)].name)
            assert changed in ([], alone[-1:])  # a whole number may be drawn as it was
            if not RANGES[number // 8 % len(RANGES)].is_flag:
                places.setdefault(alone[-1], []).append(RANGES[number // 8 % len(RANGES)].unit(now[alone[-1]]))
    # Each setting in its turn, and never near where it was the last time.
    names = [one.name for one in RANGES]
    assert alone == [names[(names.index(alone[0]) + turn) % len(names)] for turn in range(len(alone))]
    assert len(alone) > len(RANGES)
    twice = [found for found in places.values() if len(found) > 1]
    assert twice
    assert all(abs(found[0] - found[1]) > 0.3 for found in twice)
    assert max(together) > 1


def test_value_is_the_mean_over_worlds(whole: Search) -> None:
    # World 1 counts 1.5 times the bowl: the mean is 1.25 times.
    assert whole.trials[0].value == pytest.approx(1.25 * bowl(START))
    assert whole.trials[0].user_attrs[FACTS] == [{"world": 0}, {"world": 1}]


@pytest.mark.parametrize("stopped_after", [1, 9, 14, 22, 40])
def test_interrupted_search_goes_on_with_the_same_proposals(tmp_path: Path, whole: Search, stopped_after: int) -> None:
    path = tmp_path / "study.log"
    with pytest.raises(KeyboardInterrupt):
        searched(path, 30, BowlJudge(interrupted_at=stopped_after))
    assert course_of(searched(path, 30)) == course_of(whole)


def test_search_that_ended_within_a_batch_goes_on_as_if_it_had_not(tmp_path: Path, whole: Search) -> None:
    path = tmp_path / "study.log"
    assert len(searched(path, 11).trials) == 11
    judge = BowlJudge()
    assert course_of(searched(path, 30, judge)) == course_of(whole)
    # Trials 9 and 10 were recorded and are not judged again.
    assert not [asked for asked, _ in judge.asked if asked == whole.settings(9, whole.trials[9].params)]


def test_file_cut_short_in_a_line_goes_on_with_the_same_proposals(tmp_path: Path, whole: Search) -> None:
    path = tmp_path / "study.log"
    searched(path, 30)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-7]) + lines[-7][:20])  # as a kill within the batch leaves it
    assert course_of(searched(path, 30)) == course_of(whole)


def test_search_follows_a_valley_that_tree_estimators_lose(tmp_path: Path) -> None:
    """Ten settings whose best lies at ends of their ranges, one against the other: random search ends far above."""
    names = [f"setting_{index}" for index in range(10)]
    ranges = tuple(Range(name, 0.0, 1.0) for name in names)

    def judge(asked):
        found = []
        for settings, _ in asked:
            x = np.array([settings[name] for name in names])
            found.append(Judged(float(1.0 + (x[0] - x[1] ** 2) ** 2 + x[2:].sum() * (1.0 + x[1]) + (1.0 - x[1])), {}))
        return found

    search = searched(
        tmp_path / "study.log", 70, judge, ranges=ranges, starts=(dict.fromkeys(names, 0.5),), worlds=1, batch=2
    )
    assert search.course[69] < 2.1 < 3.5 < search.course[59]  # the process takes over after 60


def test_more_trials_than_asked_for_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "study.log"
    searched(path, 13)
    judge = BowlJudge()
    assert len(searched(path, 5, judge).trials) == 13
    assert judge.asked == []


def test_other_seed_proposes_other_settings(tmp_path: Path, whole: Search) -> None:
    other = searched(tmp_path / "study.log", 9, seed=4)
    assert other.trials[0].params == whole.trials[0].params
    assert all(a.params != b.params for a, b in zip(other.trials[1:], whole.trials[1:9], strict=True))


def test_hopeless_trial_is_given_up_early_and_what_is_near_the_best_is_not(whole: Search) -> None:
    best = math.inf
    for number, trial in enumerate(whole.trials):
        if number == 0 or number % 4 == 1:  # a batch begins: bars are those of the batches before
            best = min([math.inf, *(one.value for one in whole.trials[:number] if one.state == TrialState.COMPLETE)])
        on_first = bowl(whole.settings(number, trial.params))
        is_hopeless = on_first > 1.2 * best / 1.25
        assert trial.state == (TrialState.PRUNED if is_hopeless else TrialState.COMPLETE)
        assert len(trial.intermediate_values) == (1 if is_hopeless else 2)
    assert {trial.state for trial in whole.trials} == {TrialState.PRUNED, TrialState.COMPLETE}


def test_best_of_a_search_without_giving_up_is_found_with_it(tmp_path: Path) -> None:
    # The worlds rank settings alike, so nothing that could be the best is ever behind.
    patient = searched(tmp_path / "patient.log", 30, give_up_above=None)
    assert {trial.state for trial in patient.trials} == {TrialState.COMPLETE}
    eager = searched(tmp_path / "eager.log", 30, give_up_above=0.0)
    assert eager.best.state == TrialState.COMPLETE
    every = [1.25 * bowl(eager.settings(one.number, one.params)) for one in eager.trials]
    assert eager.course[-1] == pytest.approx(min(every))


def test_settings_that_cannot_be_run_fail_and_the_search_goes_on(tmp_path: Path) -> None:
    def judge(asked):
        return [
            Judged(math.inf, {}, "too eager") if settings["is_eager"] else Judged(bowl(settings), {})
            for settings, _ in asked
        ]

    search = searched(tmp_path / "study.log", 17, judge)
    failed = [trial for trial in search.trials if trial.params["is_eager"]]
    assert failed
    assert all(trial.state == TrialState.FAIL and trial.user_attrs[FAILURE] == "too eager" for trial in failed)
    assert not search.best.params["is_eager"]
    assert course_of(searched(tmp_path / "study.log", 17, judge)) == course_of(search)


def test_start_that_cannot_be_run_ends_the_search(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="start: expected settings that can be run, got: value nan"):
        searched(tmp_path / "study.log", 5, lambda asked: [Judged(math.nan, {}) for _ in asked])


def test_further_starts_are_tried_first_and_lie_within_the_ranges(tmp_path: Path) -> None:
    better = {**START, "headroom": 1.2, "count": 12, "name": "other"}
    search = searched(tmp_path / "study.log", 2, starts=(START, better))
    assert search.settings(1, search.trials[1].params) == {**START, "headroom": 1.2, "count": 9}


def test_search_of_something_else_is_refused_and_the_difference_named(tmp_path: Path) -> None:
    path = tmp_path / "study.log"
    Search(plan(), path, {"worlds": [{"day": 3}, {"day": 4}], "seed": 1})
    with pytest.raises(UsageError, match=r"study.log: expected .* got one with worlds\[1\].day = 4 \(here 5\)"):
        Search(plan(), path, {"worlds": [{"day": 3}, {"day": 5}], "seed": 1})


def test_recorded_trials_of_a_batch_are_taken_over_though_another_version_proposes_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "study.log"
    before = course_of(searched(path, 11))
    after = course_of(searched(path, 17, seed=8))
    assert after[:11] == before
    assert after != course_of(searched(tmp_path / "other.log", 17))


def test_nothing_to_search_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected settings with ranges"):
        Search(plan(ranges=()), tmp_path / "study.log", {})


def test_wide_range_and_its_ends_are_searched() -> None:
    from experiments.search import distribution

    wide = distribution(Range("rate", 0.001, 1.0))
    assert (wide.low, wide.high, wide.log) == (0.001, 1.0, True)
    whole_numbers = distribution(Range("count", 1, 9, is_integer=True))
    assert (whole_numbers.low, whole_numbers.high, whole_numbers.log) == (1, 9, False)


def test_stop_rule_looks_back_on_the_last_trials() -> None:
    course = [2.0, 1.0, 1.0, 0.996]
    assert gain_of_last(course, 1) == pytest.approx(0.004)
    assert gain_of_last(course, 3) == pytest.approx(1 - 0.996 / 2.0)
    assert gain_of_last(course, 99) == gain_of_last(course, 3)
    rule = StopRule(until_gain=0.005, gain_trials=2)
    assert rule.reached(course) == "gain"  # 0.4 % since the second trial
    assert rule.reached(course[:3]) is None  # half since the first
    assert rule.reached(course[:2]) is None  # two trials do not look back on two
    assert StopRule(trials=4).reached(course) == "trials"
    assert StopRule(trials=5).reached(course) is None


@pytest.mark.slow
def test_search_stops_when_nothing_more_is_gained(tmp_path: Path) -> None:
    search = Search(plan(worlds=1), tmp_path / "study.log", {})
    assert search.run(BowlJudge(), StopRule(trials=200, until_gain=0.02, gain_trials=24)) == "gain"
    assert 25 <= len(search.trials) < 200
    assert gain_of_last(search.course, 24) < 0.02
    assert gain_of_last(search.course[:-4], 24) >= 0.02 or len(search.trials) == 25


@pytest.mark.parametrize("fields", [{}, {"trials": 0}, {"until_gain": 0.0}, {"until_gain": 0.1, "gain_trials": 0}])
def test_stop_rule_without_an_end_is_refused(fields) -> None:
    with pytest.raises(ConfigError, match="tune"):
        parse_config(fields, StopRule, "tune")


@pytest.mark.slow
def test_search_near_its_start_follows_what_is_known_from_the_second_trial_on(tmp_path: Path) -> None:
    after = {}
    for is_near in (True, False):  # or else the first trials try places at random, and some are lucky
        searches = [
            searched(tmp_path / f"{is_near}-{seed}.log", 30, is_near=is_near, batch=1, give_up_above=None,
                     ranges=RANGES[:2], seed=seed)
            for seed in range(3)
        ]  # fmt: skip
        after[is_near] = sum(search.course[11] for search in searches)
        assert [search.course[-1] for search in searches] == pytest.approx([1.25 * (1.0 + 1.6 + 0.3)] * 3, rel=0.02)
    assert after[True] < after[False]
