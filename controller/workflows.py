"""Workflows compiled against a catalog: who feeds whom, what a message costs, and what an answer is worth."""

from __future__ import annotations

from itertools import product

import numpy as np

from controller.arrays import F64, I64, RANK_BITS, Bool
from controller.catalog import Catalog
from controller.errors import ScenarioError
from controller.scenario import Scenario
from controller.workload import RequestClass, Workflow


class CompiledWorkflows:
    """Arrays of all classes' workflows, as `WorkloadArrays` holds them.

    Args:
        scenario: Whose classes run them.
        catalog: What they run on.

    Raises:
        ScenarioError: A workflow that requests cannot be simulated with.
    """

    def __init__(self, scenario: Scenario, catalog: Catalog) -> None:
        classes = scenario.workload.classes
        by_name = {w.name: w for w in scenario.workload.workflows}
        flows = [by_name[c.workflow] for c in classes]
        most = max(len(flow.operators) for flow in flows)
        names = [v.operator for v in catalog.variants]
        shape = (len(classes), len(names))
        self.num_operators: I64 = np.array([len(flow.operators) for flow in flows], np.int64)
        self.operator: I64 = np.full(shape, -1, np.int64)
        self.feeds: Bool = np.zeros((len(classes), most, most), np.bool_)
        self.rank_bits: I64 = np.zeros(shape, np.int64)
        tables = []
        for c, flow in enumerate(flows):
            for v, name in enumerate(names):
                self.operator[c, v] = flow.operators.index(name) if name in flow.operators else -1
            for source, target, selectivity in flow.edges:
                if selectivity != 1.0:
                    raise ScenarioError(
                        f"workload.workflows[{flow.name}].edges[{source} -> {target}]: expected a selectivity of 1, "
                        f"the only one that requests are served with, got {selectivity:g}"
                    )
                self.feeds[c, flow.operators.index(source), flow.operators.index(target)] = True
            tables.append(self._rank(c, flow, catalog) if len(flow.operators) > 1 else np.zeros(1))
        self.num_inputs: I64 = self.feeds.sum(axis=1).astype(np.int64)
        self.answer_accuracy: F64 = np.zeros((len(classes), max(len(table) for table in tables)))
        for c, table in enumerate(tables):
            self.answer_accuracy[c, : len(table)] = table

    def _rank(self, c: int, flow: Workflow, catalog: Catalog) -> F64:
        """Gives every variant of each operator its bits; returns the accuracy of each combination of them.

        Without a measured profile of combinations, errors of operators count as independent.
        """
        shift, accuracies = 0, []
        for operator in range(len(flow.operators)):
            variants = np.flatnonzero(self.operator[c] == operator)
            self.rank_bits[c, variants] = np.arange(len(variants)) << shift
            width = int(len(variants) - 1).bit_length()
            accuracies.append(
                [catalog.variants[v].accuracy.value for v in variants] + [0.0] * (2**width - len(variants))
            )
            shift += width
        if shift > RANK_BITS:
            raise ScenarioError(
                f"workload.workflows[{flow.name}].operators: expected variants in at most {2**RANK_BITS} combinations, "
                f"got {2**shift}"
            )
        return np.array([np.prod(chosen) for chosen in product(*accuracies[::-1])])


def hops(catalog: Catalog) -> tuple[F64, F64]:
    """Seconds and dollars of a variant's output from one pool to another, (V, P, P) each; 0 without a link."""
    links = {(link.source, link.target): link for link in catalog.links}
    shape = (len(catalog.variants), len(catalog.pools), len(catalog.pools))
    delay_s, usd = np.zeros(shape), np.zeros(shape)
    for p, pool in enumerate(catalog.pools):
        for q, other in enumerate(catalog.pools):
            link = links.get((pool.site, other.site))
            if link is None:
                continue
            for v, variant in enumerate(catalog.variants):
                size = variant.output_bytes.value
                delay_s[v, p, q] = link.delay_s.value + size / link.bytes_per_s.value
                usd[v, p, q] = size / 1e9 * link.usd_per_gb.value
    return delay_s, usd


def check_served_alone(request_class: RequestClass, flow: Workflow) -> None:
    """Refuses what is promised of single answers only.

    Raises:
        ScenarioError: The class has a floor on each answer.
    """
    if len(flow.operators) > 1 and request_class.floor == "each":
        raise ScenarioError(
            f"workload.classes[{request_class.name}].floor: expected 'mean' with a workflow of several operators, "
            f"got 'each'"
        )
