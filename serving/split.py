"""Where the router sends each request: the decided shares, for as long as the options behind them serve.

Shares are decided once per tick. An option that loses its last replica before the next tick keeps its share, so what
would be sent there goes to the other options of the class in proportion, if one of them serves. In a cascade it goes to
the other options of the step, or to a later step, if one of them serves, as the next tick's shares will have it.
"""

from __future__ import annotations

import numpy as np

from controller.arrays import F64
from controller.keyed_random import ANSWER, HEDGE, OPTION, stream_key, uniform
from controller.redundancy import SECOND_PASS_ATTEMPT
from controller.routing import pick_option, pick_other
from serving.cascade import Cascade
from serving.rules import RouterTables, Rules


class Split:
    """Draws options by the shares of the rules in force.

    Args:
        tables: Of the router.
        seed: Keys the draws.

    Attributes:
        cascades: By class, of the rules in force.
    """

    def __init__(self, tables: RouterTables, seed: int) -> None:
        self._tables = tables
        self._keys = {stream: stream_key(seed, stream) for stream in (OPTION, HEDGE, ANSWER)}
        num_classes = len(tables.class_names)
        self._cumulative = np.zeros((num_classes, tables.num_options))
        self._collages = np.zeros_like(self._cumulative)
        self._of_steps: list[F64] = []  # by class: (S, P) running sums over the options of each step's variant
        self._answers = np.zeros(tables.num_options, np.bool_)
        self.cascades: list[Cascade] = []

    def follow(self, rules: Rules) -> None:
        """Takes the shares and cascades of new rules."""
        self._answers = self._tables.is_serverless | (rules.serving > 0)
        # The shares of a class's collages stand beside those of its requests, which no collage takes.
        shares: F64 = np.where(self._tables.collage, 0.0, rules.shares)
        of_variant = np.arange(self._tables.num_options) // self._tables.num_pools
        is_chosen = self._tables.collage & (of_variant == rules.collage_variant[:, None])
        self._collages = np.cumsum(np.where(is_chosen, rules.shares, 0.0), axis=1)
        num_pools = self._tables.num_pools
        self.cascades, self._of_steps = [], []
        for c, row in enumerate(shares):
            variants = tuple(int(v) for v in rules.cascade_variant[c] if v >= 0)
            by_variant = row.reshape(-1, num_pools)
            if variants:
                self._follow_steps(by_variant, variants)
            else:
                left = float(row[self._answers].sum())
                if 0.0 < left < float(row.sum()):
                    row[~self._answers] = 0.0
                    row /= left
            of_steps = by_variant[list(variants)]
            thresholds = tuple(float(t) for t in rules.cascade_threshold[c, : max(0, len(variants) - 1)])
            num_options = np.count_nonzero(of_steps > 0.0, axis=1)
            self.cascades.append(Cascade(variants, thresholds, bool(rules.cascade_concurrent[c]), num_options))
            self._of_steps.append(np.cumsum(of_steps, axis=1))
        self._cumulative = np.cumsum(shares, axis=1)

    def _follow_steps(self, by_variant: F64, variants: tuple[int, ...]) -> None:
        """Leaves out what does not serve: options of a step, and steps before one that serves."""
        answers = self._answers.reshape(by_variant.shape)
        serves = [bool((by_variant[v] > 0.0)[answers[v]].any()) for v in variants]
        for step, v in enumerate(variants):
            if serves[step]:
                by_variant[v, ~answers[v]] = 0.0
            elif any(serves[step + 1 :]):
                by_variant[v] = 0.0

    def answers(self, option: int) -> bool:
        """Whether a request sent there is answered soon: a replica serves, or it is serverless."""
        return bool(self._answers[option])

    def first(self, identity: int, request_class: int) -> int:
        """Option in which a request begins; -1 where its class has none."""
        option = self.option(identity, request_class, 0)
        step = self.cascades[request_class].from_step(0) if option >= 0 else -1
        return self.of_step(identity, request_class, step) if step >= 0 else option

    def again(self, identity: int, request_class: int, option: int, turn: int) -> int:
        """Option in place of one that serves no more: of the same step, or of the next that has one; -1 for none.

        Args:
            identity: Of the request.
            request_class: Row.
            option: That serves no more.
            turn: As for `option`.
        """
        step = self._step(request_class, option)
        step = self.cascades[request_class].from_step(step) if step >= 0 else -1
        if step >= 0:
            return self.of_step(identity, request_class, step)
        return self.option(identity, request_class, turn)

    def option(self, identity: int, request_class: int, turn: int) -> int:
        """Option for a request outside a cascade; -1 where its class has none.

        Args:
            identity: Of the request; keys the draw together with `turn`.
            request_class: Row.
            turn: 0 at arrival; another number draws anew.
        """
        return pick_option(self._cumulative[request_class], uniform(self._keys[OPTION], identity, turn))

    def collage(self, identity: int, request_class: int) -> int:
        """Option of the pass over a group's collage; -1 where its class has none.

        Args:
            identity: Of the request that opened the group.
            request_class: Row.
        """
        return pick_option(self._collages[request_class], uniform(self._keys[HEDGE], identity, 0))

    def other_collage(self, identity: int, request_class: int, first: int) -> int:
        """Option of the pass that a second worker makes, `first` being the first one's; as `pick_other` says."""
        return pick_other(
            self._collages[request_class], first, uniform(self._keys[HEDGE], identity, SECOND_PASS_ATTEMPT)
        )

    def of_step(self, identity: int, request_class: int, step: int) -> int:
        """Option of a step of a cascade that has some; a request has one draw for each step."""
        coin = uniform(self._keys[ANSWER], identity, 1 + step)
        pool = pick_option(self._of_steps[request_class][step], coin)
        return self.cascades[request_class].variants[step] * self._tables.num_pools + pool

    def other(self, identity: int, request_class: int, first: int, turn: int) -> int:
        """Option for a duplicate of a request whose first copy is at `first`; as `pick_other` says.

        A duplicate of a cascade's step goes to an option of the same variant.
        """
        coin, step = uniform(self._keys[HEDGE], identity, turn), self._step(request_class, first)
        if step < 0:
            return pick_other(self._cumulative[request_class], first, coin)
        variant, pool = divmod(first, self._tables.num_pools)
        picked = pick_other(self._of_steps[request_class][step], pool, coin)
        return variant * self._tables.num_pools + picked if picked >= 0 else -1

    def _step(self, request_class: int, option: int) -> int:
        return self.cascades[request_class].step_of(option // self._tables.num_pools)
