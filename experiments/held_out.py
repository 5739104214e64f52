"""The catalog and the trace that are kept out of all training, for policies that claim to serve what they never saw."""

from __future__ import annotations

from controller.scenario import Scenario, load_scenario
from experiments.suite import HELD_OUT
from experiments.variation import vary

HELD_OUT_TRACE = next(iter(HELD_OUT))
HELD_OUT_NAME = "held-out"
HELD_OUT_BASE, HELD_OUT_SEED, HELD_OUT_INDEX = "suite-cpu", 1995, 0
"""The catalog kept out of training: this variation of this scenario. No training may draw with this seed."""


def held_out_variation() -> Scenario:
    """The scenario kept out of training."""
    drawn = vary(load_scenario(HELD_OUT_BASE), HELD_OUT_SEED, HELD_OUT_INDEX)
    return drawn.model_copy(update={"name": HELD_OUT_NAME, "description": "A catalog that no policy was trained on."})


def held_out_text() -> str:
    """The scenario kept out of training, as its file holds it."""
    import yaml

    fields = held_out_variation().model_dump(mode="json", exclude_unset=True)
    head = (
        f"# Held out of all training: variation {HELD_OUT_INDEX} of {HELD_OUT_BASE} under seed {HELD_OUT_SEED} "
        "(experiments/held_out.py writes it).\n"
    )
    return head + yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=120)


if __name__ == "__main__":
    print(held_out_text(), end="")  # noqa: T201 - what the module is run for
