"""Where the router sends each request: the decided shares, for as long as the options behind them serve.

Shares are decided once per tick. An option that loses its last replica before the next tick keeps its share, so what
would be sent there goes to the other options of the class in proportion, if one of them serves.
"""

from __future__ import annotations

import numpy as np

from controller.arrays import F64
from controller.keyed_random import HEDGE, OPTION, stream_key, uniform
from controller.routing import pick_option, pick_other
from serving.rules import RouterTables, Rules


class Split:
    """Draws options by the shares of the rules in force.

    Args:
        tables: Of the router.
        seed: Keys the draws.
    """

    def __init__(self, tables: RouterTables, seed: int) -> None:
        self._tables = tables
        self._keys = {stream: stream_key(seed, stream) for stream in (OPTION, HEDGE)}
        self._cumulative = np.zeros((len(tables.class_names), tables.num_options))
        self._answers = np.zeros(tables.num_options, np.bool_)

    def follow(self, rules: Rules) -> None:
        """Takes the shares of new rules."""
        self._answers = self._tables.is_serverless | (rules.serving > 0)
        shares: F64 = rules.shares.copy()
        for row in shares:
            left = float(row[self._answers].sum())
            if 0.0 < left < float(row.sum()):
                row[~self._answers] = 0.0
                row /= left
        self._cumulative = np.cumsum(shares, axis=1)

    def answers(self, option: int) -> bool:
        """Whether a request sent there is answered soon: a replica serves, or it is serverless."""
        return bool(self._answers[option])

    def option(self, identity: int, request_class: int, turn: int) -> int:
        """Option for a request; -1 where its class has none.

        Args:
            identity: Of the request; keys the draw together with `turn`.
            request_class: Row.
            turn: 0 at arrival; another number draws anew.
        """
        return pick_option(self._cumulative[request_class], uniform(self._keys[OPTION], identity, turn))

    def other(self, identity: int, request_class: int, first: int, turn: int) -> int:
        """Option for a duplicate of a request whose first copy is at `first`; as `pick_other` says."""
        return pick_other(self._cumulative[request_class], first, uniform(self._keys[HEDGE], identity, turn))
