import subprocess
import sys
from types import SimpleNamespace

import pytest

from serving.shim import ProvisorPolicy, fetched


class Identity:
    """A deployment's identity, hashable as Serve's is."""

    def __init__(self, name):
        self.name = name

    def __hash__(self):
        return hash(self.name)

    def __eq__(self, other):
        return self.name == other.name


def contexts(**targets):
    return {Identity(name): SimpleNamespace(target_num_replicas=count) for name, count in targets.items()}


class Controller:
    """Answers as the actor does; its answer may be an error."""

    def __init__(self, answer):
        self.answer, self.asked = answer, 0

    def __call__(self):
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def policy(answer, now_s=1000.0, **settings):
    made = ProvisorPolicy(**settings)
    made.controller = made._read = Controller(answer)
    made.now_s = now_s
    made._now_s = made._clock_s = lambda: made.now_s
    return made


def ask(made, **targets):
    """Calls until the reading under way is done, and once more: the answer of a call is that of the reading before."""
    made(contexts(**targets))
    made._thread.join(5)
    return {identity.name: count for identity, count in made(contexts(**targets))[0].items()}


def decided(at_s=1000.0, app="theirs", **targets):
    return {"at_s": at_s, "app": app, "targets": targets}


def test_last_decision_is_handed_on_for_mapped_deployments_alone():
    assert ask(policy(decided(small=3, large=1)), small=1, large=1, other=4) == {"small": 3, "large": 1}


def test_nothing_is_returned_before_the_first_reading():
    made = policy(decided(small=3))
    made._ask = lambda: None
    assert made(contexts(small=1)) == ({}, {})


@pytest.mark.parametrize(("age_s", "is_handed_on"), [(0, True), (29, True), (31, False), (-31, False)])
def test_decision_older_than_stated_changes_nothing(age_s, is_handed_on):
    found = ask(policy(decided(at_s=1000.0 - age_s, small=3), stale_after_s=30), small=1)
    assert found == ({"small": 3} if is_handed_on else {})


def test_decision_goes_stale_when_the_controller_goes_away():
    made = policy(decided(small=3), stale_after_s=30)
    assert ask(made, small=1) == {"small": 3}
    made.controller.answer = RuntimeError("the actor died")
    made.now_s += 29
    assert ask(made, small=1) == {"small": 3}
    made.now_s += 2
    assert ask(made, small=1) == {}


@pytest.mark.parametrize(
    "answer",
    [
        RuntimeError("away"),
        ValueError("no such actor"),
        None,
        {},
        {"at_s": "noon", "app": "theirs", "targets": {}},
        decided(small=-1),
        decided(small="many"),
        {"at_s": 1000.0, "app": "theirs", "targets": None},
    ],
)
def test_whatever_the_controller_answers_nothing_is_raised(answer):
    assert ask(policy(answer), small=1) == {}


def test_contexts_of_another_form_raise_nothing():
    made = policy(decided(small=3))
    made(contexts(small=1))
    made._thread.join(5)
    assert made({"small": object()}) == ({}, {})
    assert made(None) == ({}, {})


def test_zero_that_stands_is_held_by_leaving_it_out():
    made = policy(decided(small=0, large=0))
    assert ask(made, small=0, large=2) == {"large": 0}


def test_decision_for_another_application_is_not_taken():
    assert ask(policy(decided(app="other", small=3), app="theirs"), small=1) == {}
    assert ask(policy(decided(app="theirs", small=3), app="theirs"), small=1) == {"small": 3}


def test_controller_is_asked_no_more_often_than_stated():
    made = policy(decided(small=3), fetch_every_s=1.0)
    ask(made, small=1)
    for _ in range(50):
        made(contexts(small=1))
    assert made.controller.asked == 1
    made.now_s += 1.0
    ask(made, small=1)
    assert made.controller.asked == 2


def test_a_reading_that_hangs_is_not_waited_for_and_not_repeated():
    import threading

    release = threading.Event()
    made = policy(decided(small=3))
    reads = []
    made._read = lambda: reads.append(1) or (release.wait(5), decided(small=3))[1]
    for _ in range(5):
        assert made(contexts(small=1)) == ({}, {})
        made.now_s += 10
    assert len(reads) == 1
    release.set()
    made._thread.join(5)


def test_answer_is_checked():
    assert fetched(decided(small=2)).targets == {"small": 2}
    with pytest.raises(ValueError, match="targets"):
        fetched(decided(small=-2))


def test_importing_the_shim_loads_nothing_heavy():
    script = (
        "import sys, serving.shim\n"
        "heavy = {'numba', 'torch', 'numpy', 'pydantic', 'ray', 'controller'} & set(sys.modules)\n"
        "print(sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
