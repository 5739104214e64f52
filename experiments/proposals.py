"""What a search tries next: Optuna's TPE while little is known, then its Gaussian process over all that is known.

TPE finds the good region of a dozen settings, and then scatters around it; the process follows the valley. On the
suite's `mpc` 200 trials of both end lower than 1,500 of TPE alone. Once little is gained any more the process looks
where nobody has been, so every other proposal comes from a box around the best, of one of four sizes in turn. Neither
leaves a valley for another: so every fourth proposal is the best with something drawn anew, anywhere: one setting, each
in its turn, or some of them. (On suite-cpu the two had ended with spot machines spread over all zones, 3 % above the
same without that; on suite-scarce with the smallest batches, 10 % above the same with the largest.)
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from experiments.search_plan import SearchPlan
from experiments.tuning import Range

_FEWEST_RANDOM = 10  # trials anywhere in the ranges before proposals follow what is known; at least two per setting
_RANDOM_PER_SETTING, _TPE_PER_SETTING = 2, 4
_MOST_BEST, _MOST_OTHERS = 200, 150  # trials that the process is fitted to: its time grows with their cube
_REDRAWN = 0.5  # share of the proposals that draw several settings anew that draw more than two, of those three, ...
_FIRST_PLACE, _NEXT_PLACE = 0.9, 0.618034  # of a setting in its turns: near an end, then never near where it was
_BOXES = (0.4, 0.2, 0.1, 0.05)  # sides, as shares of the ranges
_CEILING = 0.15  # share above the best from where on it does not matter how bad it was, unless half are as bad


class Proposals:
    """Proposes the trials of a plan, each from a generator keyed by the plan's seed and the trial's number.

    Args:
        plan: What is searched.
        space: Its ranges by name.
    """

    def __init__(self, plan: SearchPlan, space: Mapping[str, BaseDistribution]) -> None:
        self._plan, self._space = plan, dict(space)
        self._num_random = max(_FEWEST_RANDOM, _RANDOM_PER_SETTING * len(self._space))
        self._from_process = self._num_random + _TPE_PER_SETTING * len(self._space)
        if plan.is_near:
            self._num_random, self._from_process = 0, max(len(plan.starts), 2)

    def ask(self, study: optuna.Study, number: int, params: Mapping[str, object] | None = None) -> optuna.Trial:
        """Begins a trial of a study.

        Args:
            study: Its finished trials are what is known, its running ones are the batch's so far.
            number: Of the trial; also the study's next.
            params: Known already, as the search was stopped after it; None: proposed.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            if params is None and number >= self._from_process:
                params = self._from_model(study, number)
            if params is None and number < len(self._plan.starts):
                start = self._plan.starts[number]
                params = {one.name: _within(one, start[one.name]) for one in self._plan.ranges}
            if params is not None:
                study.enqueue_trial(dict(params))
            study.sampler = optuna.samplers.TPESampler(
                seed=self._key(number),
                n_startup_trials=self._num_random,
                multivariate=True,  # settings work together: headroom and quantile, say
                constant_liar=True,  # so that a batch does not propose one place many times
            )
            return study.ask(self._space)

    def _from_model(self, study: optuna.Study, number: int) -> dict[str, object]:
        trials = study.get_trials(deepcopy=False)
        finished = [trial for trial in trials if trial.state.is_finished()]
        space = self._space
        if number % 4 == 2 and not self._plan.is_near:
            return self._redrawn(_lowest(finished), number)
        if number % 2:
            space = self._box(_lowest(finished), _BOXES[number // 2 % len(_BOXES)])
        model = optuna.create_study(
            direction="minimize",
            sampler=optuna.samplers.GPSampler(seed=self._key(number), deterministic_objective=True, n_startup_trials=1),
        )
        known = [trial for trial in finished if _is_within(space, trial)]
        model.add_trials(self._known(known, space))
        # The process must not propose what the batch already tries.
        for trial in trials[len(finished) :]:
            if _is_within(space, trial):
                model.enqueue_trial(trial.params)
                model.ask(space)
        with _one_thread():
            return dict(model.ask(space).params)

    def _redrawn(self, best: FrozenTrial, number: int) -> dict[str, object]:
        """The best with one setting, each in its turn, or with several drawn anew."""
        ranges, turn = self._plan.ranges, number // 4
        if turn % 2 == 0 or len(ranges) == 1:
            times, index = divmod(turn // 2, len(ranges))
            places = {index: (_FIRST_PLACE + times * _NEXT_PLACE) % 1.0}
        else:
            rng = np.random.default_rng(self._key(number))
            count = min(1 + int(rng.geometric(1.0 - _REDRAWN)), len(ranges))
            places = {int(index): float(rng.random()) for index in rng.choice(len(ranges), count, replace=False)}
        drawn: dict[str, object] = dict(best.params)
        for index, place in places.items():
            one = ranges[index]
            drawn[one.name] = not drawn[one.name] if one.is_flag else one.value(place)
        return drawn

    def _box(self, centre: FrozenTrial, side: float) -> dict[str, BaseDistribution]:
        """The ranges around a trial; flags may be either, whole numbers at least one less or more."""
        space = dict(self._space)
        for one in self._plan.ranges:
            if one.is_flag:
                continue
            at = centre.params[one.name]
            low, high = (one.value(one.unit(at) + way * side / 2.0) for way in (-1.0, 1.0))
            if one.is_integer:
                low, high = min(low, max(at - 1, round(one.low))), max(high, min(at + 1, round(one.high)))
                space[one.name] = IntDistribution(int(low), int(high), log=one.is_log)
            else:
                space[one.name] = FloatDistribution(min(low, at), max(high, at), log=one.is_log)
        return space

    def _known(self, finished: list[FrozenTrial], space: dict[str, BaseDistribution]) -> list[FrozenTrial]:
        """Trials as the model learns from them: what is far above the best, was given up or failed, is just bad.

        Of many the best, and some of the others, which say where not to go.
        """
        lowest = _lowest(finished)
        assert lowest.value is not None
        half = float(np.median([trial.value for trial in finished if trial.state == TrialState.COMPLETE]))
        ceiling = max(lowest.value + _CEILING * abs(lowest.value), half)
        values = []
        for trial in finished:
            value = trial.value
            if trial.state == TrialState.PRUNED and trial.last_step is not None:
                # As far above the best as it was when it was given up.
                step = trial.last_step
                value = lowest.value + trial.intermediate_values[step] - lowest.intermediate_values[step]
            values.append(ceiling if value is None else min(value, ceiling))
        order = np.argsort(values, kind="stable")
        best, others = order[:_MOST_BEST], order[_MOST_BEST:]
        if len(others) > _MOST_OTHERS:
            others = np.random.default_rng(self._key(len(finished))).choice(others, _MOST_OTHERS, replace=False)
        return [
            optuna.create_trial(params=finished[index].params, distributions=space, value=values[index])
            for index in sorted([*best.tolist(), *others.tolist()])
        ]

    def _key(self, number: int) -> int:
        return int(np.random.SeedSequence([self._plan.seed, number]).generate_state(1)[0])


def _within(one: Range, value: object) -> float | int | bool:
    if one.is_flag:
        return bool(value)
    inside = min(max(float(str(value)), one.low), one.high)
    return round(inside) if one.is_integer else inside


def _lowest(finished: list[FrozenTrial]) -> FrozenTrial:
    complete = [trial for trial in finished if trial.state == TrialState.COMPLETE]
    return min(complete, key=lambda trial: float(trial.value or 0.0))


def _is_within(space: Mapping[str, BaseDistribution], trial: FrozenTrial) -> bool:
    return all(
        one.low <= trial.params[name] <= one.high
        for name, one in space.items()
        if isinstance(one, FloatDistribution | IntDistribution)
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums are in the order of one thread, so that proposals do not depend on how many there are."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
