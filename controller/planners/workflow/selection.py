"""Model selection by beam search over accuracy profiles, from the sink upwards.

No worker is known here: variants are weighed by `selection_cost`. After JellyBean (arXiv 2205.04713) and its authors'
public code (`libertyeagle/JellyBean`, optimizer/beam_search.py, MIT), written anew.
"""

from __future__ import annotations

from typing import NamedTuple

from controller.planners.workflow.compiled import Instance

BEAM_WIDTH = 10
"""Of the authors' configuration."""


class _State(NamedTuple):
    chosen: dict[int, int]  # operator to variant
    needed: dict[int, float]  # operator to the accuracy that its readers need


def select_variants(instance: Instance, width: int = BEAM_WIDTH) -> list[tuple[int, ...]]:
    """Choices of variants that reach the accuracy asked for, by rising `selection_cost`.

    Differs from the authors' code where that gives no answer or a wrong one: a state that nothing can extend is dropped
    alone (there the whole search ends), and a choice whose accuracy falls short, which tables that are not monotone
    allow, is dropped. One choice that several states come to is returned once.

    Args:
        instance: The problem.
        width: States kept after each operator.
    """
    last = instance.num_operators - 1
    states = [_State({}, {last: instance.problem.accuracy_target})]
    for v in range(last, -1, -1):
        extended = [new for state in states for new in _extended(instance, state, v)]
        # Of equal cost first what needs less of the operators not yet chosen.
        extended.sort(key=lambda s: (_cost(instance, s.chosen), [s.needed[u] for u in sorted(s.needed)]))
        states = extended[:width]
    found = dict.fromkeys(tuple(s.chosen[v] for v in range(last + 1)) for s in states)
    return [one for one in found if instance.accuracy(one) >= instance.problem.accuracy_target]


def _extended(instance: Instance, state: _State, v: int) -> list[_State]:
    found, needed = [], state.needed[v]
    others = {u: accuracy for u, accuracy in state.needed.items() if u != v}
    for m, variant in enumerate(instance.operators[v].variants):
        enough = [s for s in variant.accuracy if s.accuracy >= needed]
        if not enough:
            continue
        chosen = {**state.chosen, v: m}
        if not instance.from_operators[v]:
            found.append(_State(chosen, others))
            continue
        for sample in sorted(enough, key=lambda s: (s.accuracy, s.inputs)):
            wanted = dict(others)
            for u, accuracy in zip(instance.from_operators[v], sample.inputs, strict=True):
                wanted[u] = max(wanted.get(u, accuracy), accuracy)
            found.append(_State(chosen, wanted))
    return found


def _cost(instance: Instance, chosen: dict[int, int]) -> float:
    return sum(
        instance.operators[v].weight * instance.operators[v].variants[m].selection_cost for v, m in chosen.items()
    )
