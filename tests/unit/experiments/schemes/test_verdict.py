"""Every value stands beside its bar, a shortfall is one, and a finding that does not hold says why."""

from dataclasses import replace

import pytest

from experiments.schemes.break_even import Crossing, Level
from experiments.schemes.constrained_choice import Asked, Priced
from experiments.schemes.courses import COURSES, FLAT, NASA, SCHEMES, WITHOUT_CALM_HEADROOM
from experiments.schemes.measurement import Measurement
from experiments.schemes.memory_sweep import Verdict
from experiments.schemes.scheme_days import SchemeDay
from experiments.schemes.verdict import checks_of, findings_of

MODELS = ("resnet18", "resnet34", "resnet50", "resnet101")
# Violations, cost and rented over needed of each scheme, as the paper would have them.
AS_EXPECTED = {
    "reactive": (0.05, 10.0, 1.3, 0.0),
    "util_aware": (0.04, 12.0, 1.5, 0.0),
    "exascale": (0.03, 11.5, 1.4, 0.0),
    "mixed": (0.003, 11.0, 1.3, 0.02),
    "paragon": (0.002, 10.5, 1.35, 0.01),
    str(WITHOUT_CALM_HEADROOM.name): (0.002, 10.2, 1.3, 0.01),
}


def day(course, scheme):
    violations, usd, over, share = AS_EXPECTED[scheme]
    if course.startswith("flat"):
        violations, usd, share = 0.0, 10.0, 0.0
    return SchemeDay(course, scheme, 1000, violations, violations, violations, usd, usd - 1, 1.0, over, share, 0.1, 0)


@pytest.fixture
def found():
    crossings = [
        Crossing(model, f"lambda-{mb}", 1.0, 10.0, 1e-5, 0.01, 1.1e-5, law=0.02, law_warm=0.022, measured=0.0205)
        for model in MODELS
        for mb in (1769, 3008, 10240)
    ]
    crossings.append(replace(crossings[6], pool="lambda-modern-3008", law=0.3, measured=0.29))
    levels = [Level(m, "lambda-3008", 50.0, 2, 0.2, 9.0 + i, 1.0) for i, m in enumerate(MODELS)]
    option = Priced("small", "cpu", 0.7, 0.1, 1.0, 1, 3.0)
    asked = [
        Asked(p, 0.7, 1.0, option, replace(option, usd_per_million=4.0), 3.5) for p in ("iso-latency", "iso-accuracy")
    ]
    memory = [
        Verdict("measured", "mobilenet", 1024, 512, True, "slower", 0.03),
        Verdict("measured", "alexnet", 1024, 512, True, "does not fit", 0.05),
        Verdict("measured", "resnet50", 512, None, False, "end of the sweep", 0.3),
    ]
    names = [course.name for course in COURSES]
    days = [day(course, scheme) for course in names for scheme in AS_EXPECTED]
    return Measurement(crossings, levels, [], memory, [option], asked, days)


def short(found):
    return [check.what for check in checks_of(found) if not check.holds]


def change(found, course, scheme, **values):
    found.days = [replace(one, **values) if (one.course, one.scheme) == (course, scheme) else one for one in found.days]


def test_all_hold_where_all_is_as_expected(found):
    assert short(found) == []
    assert [finding.statement for finding in findings_of(found) if not finding.reproduces] == []
    assert len(list(checks_of(found))) == 1 + len(found.crossings) + 2 + 2 + 5 + 5 + 1


def test_a_crossing_off_the_law_falls_short(found):
    found.crossings[3] = replace(found.crossings[3], measured=0.0211)
    assert [what.split(" crosses")[0] for what in short(found)] == ["break-even: resnet34 on lambda-1769"]
    found.crossings[3] = replace(found.crossings[3], measured=None)
    assert len(short(found)) == 1


def test_too_little_saved_falls_short(found):
    one = found.choices[0]
    found.choices[0] = replace(one, naive=replace(one.naive, usd_per_million=3.7))
    assert len(short(found)) == 1


@pytest.mark.parametrize(
    ("scheme", "values", "told"),
    [
        ("reactive", {"violations": 0.035}, "violations of reactive"),
        ("exascale", {"violations": 0.001}, "least of the machine-only"),
        ("exascale", {"over_provisioning": 1.2}, "rented over needed"),
        ("paragon", {"serverless_share": 0.03}, "serverless share"),
        ("paragon", {"cost_usd_per_day": 11.2}, "cost of paragon"),
    ],
)
def test_each_order_of_the_schemes_is_held(found, scheme, values, told):
    change(found, NASA.name, scheme, **values)
    (what,) = short(found)
    assert what.startswith("nasa: ")
    assert told in what


def test_a_dear_paragon_is_explained_by_its_calm_headroom(found):
    change(found, NASA.name, "paragon", cost_usd_per_day=11.2)
    (finding,) = [finding for finding in findings_of(found) if not finding.reproduces]
    assert "without it it would cost 10.20 $/day" in finding.why


def test_a_flat_trace_on_which_costs_differ_falls_short(found):
    change(found, FLAT.name, SCHEMES[0], cost_usd_per_day=9.0)
    (what,) = short(found)
    assert what.startswith("flat: ")


def test_an_interrupted_measurement_holds_nothing(found):
    found.is_partial = True
    assert short(found) == ["the measurement"]
    assert findings_of(found) == []
