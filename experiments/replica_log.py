"""Replicas of a deployment as they are seen now and then: what they cost, and how often their number changes.

For what nobody keeps a ledger of, such as Ray Serve's own autoscaling. The bill follows the rules of the ledger of our
runs: a replica is paid for from when it is first seen, starting, until it is gone, and the rest of its least billed
time and the release lag at its end.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from controller.arrays import I64
from controller.bill import release_charge_s
from controller.errors import RunError, mismatch

REPLICAS = "replicas.json"
_LEAVES = "STOPPING"


@dataclass
class ReplicaLog:
    """What was seen; times in seconds of the run, whose second 0 may lie after the first of them.

    Attributes:
        first_s: When each replica was first there, starting.
        gone_s: When it was there no more; those that still are have none.
        counts: Time, and replicas that started or ran then.
    """

    first_s: dict[str, float] = field(default_factory=dict)
    gone_s: dict[str, float] = field(default_factory=dict)
    counts: list[tuple[float, int]] = field(default_factory=list)

    def saw(self, now_s: float, states: Mapping[str, str]) -> None:
        """Notes a look.

        Args:
            now_s: When.
            states: Serve's state of each replica by its name.
        """
        for name in states:
            self.first_s.setdefault(name, now_s)
        for name in self.first_s.keys() - states.keys() - self.gone_s.keys():
            self.gone_s[name] = now_s
        self.counts.append((now_s, sum(state != _LEAVES for state in states.values())))

    def counts_at(self, times_s: Collection[float]) -> I64:
        """Replicas that started or ran at each of the times, in a form `flap_index` takes: (T, 1, 1).

        Raises:
            RunError: Nobody looked before the first time.
        """
        seen_s = np.array([at_s for at_s, _ in self.counts])
        at = np.searchsorted(seen_s, np.array(list(times_s)) + 1e-9, side="right") - 1
        if len(at) and at[0] < 0:
            raise RunError(mismatch("replicas", f"a look before second {min(times_s):g}", "none"))
        numbers = np.array([count for _, count in self.counts], np.int64)
        return numbers[at].reshape(-1, 1, 1)

    def cost_usd(self, end_s: float, price_usd_per_s: float, min_billing_s: float, release_lag_s: float) -> float:
        """What the replicas cost from second 0, at which those that are there count as launched, until `end_s`.

        Args:
            end_s: What is there then is paid for until then.
            price_usd_per_s: Of one replica.
            min_billing_s: Least seconds billed per launch.
            release_lag_s: Seconds billed after the last use.
        """
        billed_s = 0.0
        for name, first_s in self.first_s.items():
            gone_s = self.gone_s.get(name, np.inf)
            begun_s = max(first_s, 0.0)
            if gone_s <= 0 or begun_s >= end_s:
                continue
            billed_s += min(gone_s, end_s) - begun_s
            if gone_s <= end_s:
                billed_s += release_charge_s(gone_s - begun_s, min_billing_s, release_lag_s)
        return billed_s * price_usd_per_s

    def write(self, folder: Path) -> Path:
        """Writes `replicas.json`."""
        path = folder / REPLICAS
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")
        return path


def read_replicas(folder: Path) -> ReplicaLog:
    """What `ReplicaLog.write` wrote.

    Raises:
        RunError: The run left none.
    """
    path = folder / REPLICAS
    if not path.exists():
        raise RunError(mismatch(str(path), "the replicas of a run", "nothing"))
    found = json.loads(path.read_text(encoding="utf-8"))
    return ReplicaLog(found["first_s"], found["gone_s"], [(float(at), int(count)) for at, count in found["counts"]])
