"""The data sheet of the environments: what each number is, printed from the tables that the code itself uses.

Observation fields stand in `controller.observation`, knobs in `controller.rule_arrays` (their settings in
`controller.policies.predictive`), info keys in `envs.info`, ids in `envs`; reward and ends are stated here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from controller.arrays import MARKETS
from controller.compile import compile_scenario
from controller.observation import CLIP, NAME, OBSERVATION_SIZE, describe_observation, observation_sha256
from controller.policies.learned import knob_references
from controller.policies.predictive import MpcSettings
from controller.rule_arrays import KNOB_EFFECTS, KNOB_RANGE, KNOB_SPECS, NUM_KNOBS, Knob
from controller.scenario import Scenario, load_scenario
from envs import IDS
from envs.info import INFO
from envs.serving_env import DEFAULT_OPTIONS
from envs.stepper import DIAL_RANGE

VERSION = "v0"
"""Of every registered id."""


_OPENING = """\
# Provisor's environments

Version {version}. Dynamics, observation and reward of a version never change; a change gets the next one. Every id
takes `scenario=` (a name, a path or a scenario), `options=` (`envs.stepper.EnvOptions`) and `render_mode=`.

## Registered ids"""

_OBSERVATION = """\
## Observation

Box({low:g}, {high:g}, ({size},), float32), catalog-free: the same length for any catalog and workload. Numbers are
clipped to the box. Layout `{name}`, sha256 {sha256:.12}."""

_ACTION = """\
## Action

Box({low:g}, {high:g}, ({size},), float32): knobs around the `mpc` rule, which decides every tick. Zero is the rule, bit
for bit. An action holds for one decision."""

_REWARD = """\
## Reward

-(bill / reference + miss_weight x dial x missed / expected + accuracy_weight x owed / reference) x reward_scale,
without a unit. Bill and missed requests are those of the decision. `reference` is the rent, over a decision, of the
machines that the rule plans for the scenario's mean rate; `expected` is the mean rate times the length of a decision;
`dial` is the value of a miss in this episode, which the observation tells. `owed` is the accuracy that the decision's
answers lack below their class's floor, summed over answers and classes, at what accuracy usually costs there at the
margin; accuracy above the floor counts the other way, since the day's mean has to be made up for or may be used later.

Made by its id: miss_weight {miss_weight:g}, accuracy_weight {accuracy_weight:g}, reward_scale {reward_scale:g},
dial {dial}, {twin}.
With `twin`, the same of a twin with zero knobs under the same seed is taken off: zero knobs earn 0, and the reward has
either sign."""

_ENDS = """\
## Ends

`terminated` is never true: a service has no end of its own. `truncated` is true after `episode_decisions` decisions
({decisions} by default)."""

_INFO = """\
## Info

Of the episode so far, from `reset` and `step` alike."""


def datasheet(scenario: str | Scenario | None = None) -> str:
    """The sheet as Markdown.

    Args:
        scenario: Name, path or scenario whose own numbers are added; None for what holds of all.

    Raises:
        ProvisorError: There is no such scenario, or it is wrong.
    """
    if isinstance(scenario, str):
        scenario = load_scenario(scenario)
    options = DEFAULT_OPTIONS
    low, high = DIAL_RANGE
    knob_head = ("at", "knob", "range", "unit of the setting", "setting", "what the knob does", "reach at -1 to 1")
    parts = [
        _OPENING.format(version=VERSION),
        _table(
            ("id", "scenario", "what it is"), ((i, name, load_scenario(name).description) for i, name in IDS.items())
        ),
        _OBSERVATION.format(low=-CLIP, high=CLIP, size=OBSERVATION_SIZE, name=NAME, sha256=observation_sha256()),
        describe_observation(),
        _ACTION.format(low=KNOB_RANGE[0], high=KNOB_RANGE[1], size=NUM_KNOBS),
        _table(knob_head, (_knob_row(at, knob) for at, knob in enumerate(KNOB_SPECS))),
        _REWARD.format(
            miss_weight=options.miss_weight,
            accuracy_weight=options.accuracy_weight,
            reward_scale=options.reward_scale,
            dial=f"drawn per episode, log-uniform {low:g} to {high:g}" if options.randomise_dial else "1",
            twin="with `twin`" if options.twin else "without `twin`",
        ),
        _ENDS.format(decisions=options.episode_decisions),
        _INFO,
        _table(
            ("key", "value", "unit", "meaning"),
            (
                (key.name, f"dict: {', '.join(key.parts)}" if key.parts else "number", key.unit, key.meaning)
                for key in INFO
            ),
        ),
    ]
    if scenario is not None:
        parts += [f"## Scenario `{scenario.name}`", *_scenario(scenario)]
    return "\n\n".join(parts)


def _knob_row(at: int, knob: Knob) -> tuple[object, ...]:
    setting = MpcSettings.model_fields[knob.name]
    scale = next(reference.scale for reference in knob_references() if reference.name == knob.name)
    reach = {
        "factor": f"x {math.exp(-scale):.2g} to x {math.exp(scale):.2g}",
        "log_odds": f"-{scale:g} to +{scale:g} in log-odds",
        "shift": f"-{scale * setting.default:g} to +{scale * setting.default:g} by default",
    }[knob.effect]
    unit = "s" if knob.name.endswith("_s") else "ratio" if knob.effect == "factor" else "share"
    shown = f"{KNOB_RANGE[0]:g} to {KNOB_RANGE[1]:g}"
    what = f"{setting.description} ({setting.default:g} by default)"
    return at, knob.name, shown, unit, what, KNOB_EFFECTS[knob.effect], reach


def _scenario(scenario: Scenario) -> list[str]:
    setting = compile_scenario(scenario)
    control = scenario.control
    decision_s = control.tick_s * control.ticks_per_decision
    markets = ", ".join(f"{int((setting.catalog.market == m).sum())} {name}" for m, name in enumerate(MARKETS))
    trace = scenario.trace.preset if scenario.trace.kind == "generated" else scenario.trace.path
    facts = [
        ("description", scenario.description),
        ("mean load", f"{scenario.mean_rps:g} requests/s"),
        (
            "trace",
            f"{scenario.trace.kind}: {trace}, training days {scenario.splits.train[0]} to {scenario.splits.train[1]}",
        ),
        ("spot market", scenario.spot.kind),
        ("catalog", f"{scenario.catalog}: {len(setting.variant_names)} variants, pools: {markets}"),
        ("decision", f"{decision_s:g} s ({control.ticks_per_decision} ticks of {control.tick_s:g} s) of trace time"),
        ("routers", f"{control.routers}"),
        ("episode", f"{decision_s * DEFAULT_OPTIONS.episode_decisions / 3600:g} h of trace time by default"),
    ]
    classes = (
        (
            c.name,
            f"{c.share:g}",
            f"{c.slo_s:g}",
            f"{c.attainment_target:g}",
            f"{c.accuracy_floor:g} ({c.floor})",
            c.value_usd,
        )
        for c in scenario.workload.classes
    )
    head = ("class", "share", "SLO, s", "attainment target", "accuracy floor", "value, USD per request")
    return [_table(("fact", "value"), facts), _table(head, classes)]


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    lines = [[*head]]
    lines.append(["---"] * len(lines[0]))
    lines += [[str(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
