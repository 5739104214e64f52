"""A cascade of the digits ladder on a real Ray: small answers what it is sure of, large the rest, and audits it."""

import time

import httpx
import numpy as np
import pytest

from controller.arrays import empty_observation
from controller.compile import compile_scenario
from controller.policies.static import StaticPolicy, StaticSettings
from controller.scenario import MeasuredSpans, load_scenario
from controller.tiers.audit_config import AuditConfig
from controller.workload import ClassTier
from serving import zoo
from serving.app import APP_NAME, build_application, layout_of, slots_needed
from serving.bring_your_own import model_specs
from serving.cluster import child_processes, start_cluster
from tests.live.conftest import free_port
from tests.live.deployed import Live

pytestmark = [pytest.mark.live, pytest.mark.timeout(240)]

SPEED = 20.0
SPANS = MeasuredSpans(start_s=2.0, swap_s=2.0)
SMALL, LARGE, C5 = 0, 2, 0
THRESHOLD = 0.8
COUNT = 60
TIER = ClassTier(
    tolerance=0.05,
    objective="cost",
    variants=("digits-small", "digits-large"),
    thresholds=(THRESHOLD,),
    bound=0.05,
    confidence=0.999,
    disagreement=0.5,  # so that nothing is demoted here
)
CASCADE = {"cascade": {"variants": ("digits-small", "digits-large"), "thresholds": (THRESHOLD,)}}


@pytest.fixture(scope="module")
def live(run):
    scenario = load_scenario("demo")
    # All requests come at once, and a slow machine takes its time to begin.
    strict, relaxed = scenario.workload.classes
    relaxed = relaxed.model_copy(update={"slo_s": 60.0, "tier": TIER})
    workload = scenario.workload.model_copy(update={"classes": (strict, relaxed)})
    setting = compile_scenario(scenario.model_copy(update={"speed": SPEED, "measured": SPANS, "workload": workload}))
    specs, _ = model_specs(setting.variant_names, {})
    cluster = start_cluster(slots_needed(setting), free_port())
    try:
        from ray import serve

        application = build_application(setting, specs, 0, layout_of(setting), audit=AuditConfig(share=1.0))
        serve.run(application, name=APP_NAME, route_prefix="/", external_scaler_enabled=True)
        live = Live(cluster, setting, run)
        begin_cascade(live)
        yield live
    finally:
        cluster.close(APP_NAME)
    assert child_processes() <= cluster.before


def begin_cascade(live):
    settings = StaticSettings.model_validate(
        {"replicas": {"digits-small@c5-large": 1, "digits-large@c5-large": 2}, "redundancy": {"relaxed": CASCADE}}
    )
    live.plan = StaticPolicy(live.setting, settings).decide(empty_observation(1, live.setting.shape))
    live.shares[:, :, [SMALL, LARGE], C5] = 0.5
    launch = {(SMALL, C5): 1, (LARGE, C5): 2}
    live.act(lambda: all(live.serving(*option) == count for option, count in launch.items()), launch=launch)


def test_small_answers_what_it_is_sure_of_and_large_the_rest_and_both_are_right_more_often_than_small(live):
    responses = live.post(COUNT, request_class="relaxed")
    assert [response.status_code for response in responses] == [200] * COUNT
    answers = [response.json() for response in responses]

    trained = zoo.load_or_train(["digits-small", "digits-large"])
    small, large = (zoo.classifier(name, trained[name].weights) for name in ("digits-small", "digits-large"))
    outputs, confidences = small.with_confidence(live.images[:COUNT])
    is_sure = np.array(confidences) >= THRESHOLD
    assert [answer["variant"] for answer in answers] == np.where(is_sure, "digits-small", "digits-large").tolist()
    assert [answer["output"] for answer in answers] == np.where(is_sure, outputs, large(live.images[:COUNT])).tolist()
    assert {tuple(answer["variants"]) for answer in answers} == {("digits-small",), ("digits-small", "digits-large")}
    sure = [answer["confidence"] for answer in answers if answer["variant"] == "digits-small"]
    assert sure == pytest.approx(np.array(confidences)[is_sure].tolist(), abs=1e-4)

    digits = np.array(live.digits[:COUNT])
    right = np.array([answer["output"] for answer in answers]) == digits
    assert right.mean() > (np.array(outputs) == digits).mean()


def test_headers_choose_the_tier_whose_answers_the_best_version_checks(live):
    headers = {"X-Tolerance": "0.05", "X-Objective": "cost"}
    answers = [response.json() for response in live.post(5, headers)]
    assert {answer["request_class"] for answer in answers} == {"relaxed"}
    assert answers[0]["tier"]["bound"] == TIER.bound
    assert live.post(1, {"X-Tolerance": "0.01"})[0].status_code == 422

    with httpx.Client(base_url=live.cluster.url, timeout=30, headers=headers) as client:
        rows = {"name": "input", "shape": [5, 64], "datatype": "FP64", "data": live.images[:5]}
        protocol = client.post("/v2/models/classify-digits/infer", json={"inputs": [rows]}).json()
        assert protocol["outputs"][0]["data"] == [answer["output"] for answer in answers]
        assert protocol["parameters"]["request_class"] == "relaxed"

        def audited():
            return client.get("/v1/tiers").json()["tiers"][0]["audited"]

        end_s = time.monotonic() + 30.0
        while audited() < 10:
            assert time.monotonic() < end_s
            time.sleep(0.1)
