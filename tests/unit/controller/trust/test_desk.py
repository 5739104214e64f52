"""Pushing, rolling back and coming back, over real policy files on the tiny catalog."""

import json

import pytest

from controller.errors import ConfigError, PolicyFileError, UsageError
from controller.loop import DecisionLoop
from controller.policies.policy_file import save_policy_file
from controller.policies.registry import PolicySpec, make_policy
from controller.trust.desk import (
    STATE_FILE,
    ConflictError,
    ControlDesk,
    files_of_run,
    kept_mode,
    pushed_files,
    warm_loop,
)
from controller.trust.mode import Mode
from controller.trust.store import PolicyEntry, PolicyStore
from controller.trust.supervisor import Supervisor
from tests.networks import make_content
from tests.tiny import steady_observation, tiny_setting

STATIC = b"kind: static\nsettings:\n  replicas: {small@od: 3}\n"


@pytest.fixture
def store(tmp_path):
    return PolicyStore(tmp_path / "run")


@pytest.fixture
def file(tmp_path):
    """A learned policy's file."""
    path = tmp_path / "learned.provisor"
    save_policy_file(path, make_content(tiny_setting(), 0.1))
    return path


def desk_of(store, spec="mpc", original=""):
    setting = tiny_setting()
    entry = store.entry(spec)
    supervisor = Supervisor(
        DecisionLoop(setting, make_policy("mpc", setting)), "mpc", warm_loop(setting, store, entry), entry
    )
    return ControlDesk(setting, supervisor, store, start=lambda call: call(), original=original), supervisor


def tick(desk, supervisor, number=1):
    seen = steady_observation(tiny_setting(), 50.0, ticks=number)
    verdict = supervisor.decide(seen)
    desk.after_tick()
    return verdict


def test_pushed_file_is_kept_by_digest_and_in_charge_from_the_next_tick(store, file):
    desk, supervisor = desk_of(store)
    tick(desk, supervisor)
    answer = desk.push(file.name, file.read_bytes())
    assert answer["current"]["name"] == "learned"
    assert [entry["name"] for entry in answer["earlier"]] == ["mpc"]
    kept = store.folder / answer["current"]["file"]
    assert kept.read_bytes() == file.read_bytes()
    assert list(pushed_files(store.folder).values()) == [kept]
    journal = store.folder / "journal.jsonl"
    journal.write_text("")  # without timings as yet
    assert list(files_of_run(journal).values()) == [journal, kept]
    verdict = tick(desk, supervisor, 2)
    assert verdict.decision.raw.any()  # the network's knobs
    (event,) = [event for event in verdict.events if event.kind == "policy"]
    assert (event.fields["why"], event.fields["sha256"]) == ("push", answer["current"]["sha256"])


def test_rollback_goes_one_back_and_no_further_than_the_first(store, file):
    desk, _ = desk_of(store)
    desk.push(file.name, file.read_bytes())
    desk.push("three.yaml", STATIC)
    assert desk.rollback()["current"]["name"] == "learned"
    assert desk.rollback()["current"]["name"] == "mpc"
    with pytest.raises(ConflictError, match="expected an earlier policy to roll back to, got none"):
        desk.rollback()


@pytest.mark.parametrize(
    ("name", "content", "error", "words"),
    [
        ("a.provisor", b"PK", PolicyFileError, "truncated or damaged"),
        ("a.txt", b"mpc", PolicyFileError, "a name that ends in one of .provisor, .yaml, .yml"),
        ("a.yaml", b"kind: static\nsettings: {replicas: {small@od: -1}}\n", ConfigError, "replicas"),
        ("a.yaml", b"kind: os:system\n", ConfigError, "in a file that is pushed"),
    ],
)
def test_what_cannot_decide_is_refused_and_changes_nothing(store, name, content, error, words):
    desk, supervisor = desk_of(store)
    with pytest.raises(error, match=words):
        desk.push(name, content)
    assert desk.policies()["earlier"] == []
    assert supervisor.entry.name == "mpc"


def test_file_for_another_catalog_is_refused(store, tmp_path):
    path = tmp_path / "fixed.provisor"
    save_policy_file(path, make_content(tiny_setting(), catalog="fixed", catalog_sha256="0" * 64))
    desk, _ = desk_of(store)
    with pytest.raises(PolicyFileError, match="catalog_sha256"):
        desk.push(path.name, path.read_bytes())


def test_policy_that_failed_is_loaded_anew_once_it_has_waited(store):
    desk, supervisor = desk_of(store)
    supervisor.candidate.loop.propose = lambda seen: 1 / 0
    assert tick(desk, supervisor, 1).driver == "rule"
    # The default is half an hour: 180 ticks.
    assert tick(desk, supervisor, 180).driver == "rule"
    assert supervisor.candidate.loop is None
    tick(desk, supervisor, 181)
    assert supervisor.candidate.loop is not None
    assert tick(desk, supervisor, 182).driver == "policy"


def test_policy_whose_kept_file_was_altered_does_not_come_back(store, file):
    desk, supervisor = desk_of(store, str(file))
    supervisor.candidate.loop.propose = lambda seen: 1 / 0
    tick(desk, supervisor, 1)
    (kept,) = pushed_files(store.folder).values()
    kept.write_bytes(b"other")
    assert tick(desk, supervisor, 500).driver == "rule"
    tick(desk, supervisor, 1000)
    assert supervisor.candidate.loop is None
    assert "SHA-256" in supervisor.status()["alarms"]["hash_mismatch"]


def test_file_that_the_operator_named_is_watched_until_another_policy_is_in_charge(store, file):
    desk, supervisor = desk_of(store, str(file), original=str(file))
    supervisor.candidate.loop.propose = lambda seen: 1 / 0
    tick(desk, supervisor, 1)
    tick(desk, supervisor, 181)
    assert tick(desk, supervisor, 182).driver == "policy"  # the same, loaded anew
    file.write_bytes(b"other")
    assert tick(desk, supervisor, 183).driver == "rule"
    desk.push("three.yaml", STATIC)
    assert tick(desk, supervisor, 184).driver == "policy"


def test_policy_that_cannot_be_loaded_anew_says_why_and_waits_longer(store, monkeypatch):
    desk, supervisor = desk_of(store)
    supervisor.candidate.loop.propose = lambda seen: 1 / 0
    tick(desk, supervisor, 1)
    monkeypatch.setattr(store, "make", lambda entry, setting: 1 / 0)
    tick(desk, supervisor, 181)
    assert "expected a policy that decides, got ZeroDivisionError" in supervisor.fault
    monkeypatch.undo()
    tick(desk, supervisor, 181 + 359)
    assert supervisor.candidate.loop is None
    tick(desk, supervisor, 181 + 360)
    assert supervisor.candidate.loop is not None


def test_restart_goes_on_with_the_policy_that_was_pushed(store, file):
    desk, _ = desk_of(store)
    desk.push(file.name, file.read_bytes())
    desk.set_mode("canary")
    again, supervisor = desk_of(store)
    again.restore(json.loads(json.dumps(desk.state())))
    assert again.policies() == desk.policies()
    (begun,) = [event for event in tick(again, supervisor).events if event.kind == "trust"]
    assert (begun.fields["mode"], begun.fields["policy"]["name"]) == ("canary", "learned")


def test_mode_is_kept_for_the_next_run_with_the_same_policy_alone(store, file):
    desk, supervisor = desk_of(store, str(file))
    assert kept_mode(store.folder, supervisor.entry) is None
    desk.set_mode("shadow")
    assert kept_mode(store.folder, store.entry(str(file))) is Mode.SHADOW
    assert kept_mode(store.folder, PolicyEntry("mpc", "mpc")) is None
    (store.folder / STATE_FILE).write_text("{}")
    assert kept_mode(store.folder, supervisor.entry) is None
    with pytest.raises(UsageError, match="mode: expected one of"):
        desk.set_mode("on")


def test_entry_tells_what_it_was_made_from(store, file):
    assert store.entry("reactive:headroom=1.2").as_json()["spec"] == "reactive:headroom=1.2"
    assert store.entry(PolicySpec(kind="mpc")).spec == {"kind": "mpc", "settings": {}, "name": None}
    turned = store.entry(f"{file}:miss_multiplier=2")
    assert (turned.name, turned.settings) == ("learned", "miss_multiplier=2")
    assert store.make(turned, tiny_setting()).settings.miss_multiplier == 2
    assert turned.identity != store.entry(str(file)).identity
