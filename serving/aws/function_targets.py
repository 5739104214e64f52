"""What a router needs in order to call functions in place of emulated environments. boto3 is imported on use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from serving.aws.function_pool import FunctionPool, Spend
from serving.aws.terms import AwsTerms
from serving.rules import RouterTables
from serving.serverless import ServerlessTerms

if TYPE_CHECKING:
    from serving.aws.function_calls import FunctionHost

_MOST_CALLS = 64
# At a time, by one router: each is a thread that waits.


@dataclass(frozen=True)
class FunctionTargets:
    """Functions by option; travels to the router as a constructor argument."""

    terms: AwsTerms
    names: Mapping[int, str]

    def pools(self, tables: RouterTables, terms: Mapping[int, ServerlessTerms]) -> dict[int, FunctionPool]:
        """The ledgers of serverless pools, by row.

        Args:
            tables: Of the router.
            terms: Of each pool, from the catalog.
        """
        own = self.terms.functions
        assert own is not None
        variants = range(len(tables.variant_names))
        found = {}
        for p, its in terms.items():
            options = [v * tables.num_pools + p for v in variants]
            # A variant without a function there is never called.
            expected_s = tuple(tables.item_s(o, 1) if o in self.names else 0.0 for o in options)
            spend = Spend(own.spend_usd_per_hour / len(terms), own.burst_usd / len(terms))
            found[p] = FunctionPool(its, len(variants), expected_s=expected_s, spend=spend)
        return found

    def connect(self, pools: Mapping[int, FunctionPool], num_pools: int) -> FunctionHost:
        """Where calls go.

        Args:
            pools: What `pools` made.
            num_pools: Pools of all kinds in the setting.
        """
        from serving.aws.function_calls import FunctionCaller, FunctionHost

        most = min(_MOST_CALLS, sum(pool.terms.limit for pool in pools.values()))
        return FunctionHost(FunctionCaller(self.terms, most), self.names, pools, num_pools)
