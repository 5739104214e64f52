"""Files that evidence is computed from, made in a moment: settings of no study, random networks."""

import json

import yaml

from controller.compile import compile_scenario
from controller.policies.levers import added_levers
from controller.policies.policy_file import PolicyContent, save_policy_file
from controller.policies.predictive import MpcSettings
from controller.policies.registry import read_spec, settings_model
from controller.scenario import load_scenario
from experiments.objective import ObjectiveConfig
from experiments.tuned_rivals import PUBLISHED, RULE, TOLD, known_before
from tests.networks import make_content


def put_settings(artefacts, name, kind, scenario="suite-cpu", given=None, **summary):
    """Settings with the summary of their study, on a training day."""
    path = artefacts.settings(name, scenario)
    path.parent.mkdir(parents=True, exist_ok=True)
    settings = {"headroom": 1.2} if given is None else given
    # Days of a suite's trace are read from files that need not be here.
    trace = {"day": 1} if scenario == "tiny" else {"suite_trace": "twitter", "day": 11}
    total, last = (700, 500) if name in (RULE, TOLD) else (300, 299)
    path.write_text(yaml.safe_dump({"kind": kind, "name": name, "settings": settings}))
    study = {
        "policy": {"kind": kind, "name": name},
        "settings": settings,
        "start": settings,
        "more_starts": [read_spec(str(known)).settings for known in _known(artefacts, name, scenario)],
        "worlds": [{**trace, "scenario": scenario, "reference_usd": 50.0, "best": {"value": 0.8}}],
        "objective": ObjectiveConfig().model_dump(mode="json"),
        "ranges": {"headroom": [0.5, 2.0]} if name in PUBLISHED else _ranges(kind),
        "trials": {"total": total},
        "value": {"gain_of_last": {"trials": last, "gain": 0.004}},
    }
    path.with_suffix(".json").write_text(json.dumps({**study, **summary}))
    return path


def _known(artefacts, name, scenario):
    """What was tuned before and is tried first."""
    before = known_before(name)
    return [path for path in [artefacts.settings(before, scenario)] if path.exists()] if before else []


def _ranges(kind):
    return {} if ":" in kind else {lever: [0.0, 1.0] for lever in added_levers(settings_model(kind))}


def put_policy(artefacts, learner, seed, value=1.0, scale=0.0, **record):
    """A policy that says it was trained on a scenario's training days."""
    setting = compile_scenario(load_scenario("tiny"))
    content = make_content(setting, scale)
    manifest = content.manifest
    tuned = artefacts.settings(RULE, learner)
    if tuned.exists():  # the rule whose knobs it turns
        settings = MpcSettings.model_validate(yaml.safe_load(tuned.read_text())["settings"]).model_dump()
        own = {"accuracy_margin": manifest.settings["accuracy_margin"]}
        manifest = manifest.model_copy(update={"settings": settings | own})
    told = {"scenario": learner, "train_days": (1, 1), "validation_days": (2, 2), "seeds": (seed,), **record}
    metrics = {} if value is None else {"validation": {"policy": {"value": value}}}
    changed = manifest.model_copy(
        update={"training": manifest.training.model_copy(update=told), "metrics": metrics, "catalog": "any"}
    )
    path = artefacts.policies(learner).with_name(f"policy-seed-{seed}.provisor")
    save_policy_file(path, PolicyContent(changed, content.tensors))
    return path
