"""Prints the comparison with Ciw, all scenarios or those named: `python -m tests.peer [SCENARIO ...]`."""

from __future__ import annotations

import sys
import time

from tests.peer.comparison import CRITICAL, FAMILY_ALARM, OUR_REPLICATIONS, SHAPE, compare, ours_of, theirs_of
from tests.peer.scenarios import BY_NAME, SCENARIOS


def main(names: list[str]) -> int:
    """Prints one table per scenario; 1 if a row is beyond its bound, 2 for a name that is not known."""
    unknown = [name for name in names if name not in BY_NAME]
    if unknown:
        print(f"expected scenarios among {', '.join(BY_NAME)}; got {', '.join(unknown)}", file=sys.stderr)
        return 2
    alarms = 0
    for scenario in [BY_NAME[name] for name in names] or SCENARIOS:
        started_s = time.process_time()
        ours_of(scenario)
        middle_s = time.process_time()
        theirs_of(scenario)
        spent_s = f"{middle_s - started_s:.1f} s and {time.process_time() - middle_s:.1f} s of CPU"
        counts = f"{OUR_REPLICATIONS} and {scenario.replications} replications of {scenario.horizon_s:g} s"
        print(f"\n{scenario.name}: {scenario.about}\n  {counts}, {spent_s}")
        print(f"  {'':<20}{'Provisor':>12}{'Ciw':>12}{'z':>8}   resolves")
        for row in compare(scenario):
            values = " " * 24 if row.unit == SHAPE else f"{row.ours:>12.4f}{row.theirs:>12.4f}"
            resolves = "" if row.unit == SHAPE else f"{row.resolution:.2f} {row.unit}"
            alarm = "  ALARM" if abs(row.z) > CRITICAL else ""
            alarms += bool(alarm)
            print(f"  {row.what:<20}{values}{row.z:>8.2f}   {resolves}{alarm}")
    print(f"\nalarms: {alarms}; a row is one beyond z = {CRITICAL:.2f}")
    print(f"probability of any alarm between equal systems: at most {FAMILY_ALARM:g}")
    return int(alarms > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
