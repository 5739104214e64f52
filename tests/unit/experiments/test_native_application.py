"""The application that Serve scales by itself: it serves as our replicas do and gives a request up at its deadline."""

import json
from dataclasses import replace

import numpy as np
import pytest

from controller.compile import compile_scenario
from controller.scenario import load_scenario
from experiments.live_models import Echo
from experiments.native_plan import RayServeSettings, autoscaling_config, native_plan
from serving.bring_your_own import ModelSpec
from serving.constraints import InferRequest
from serving.rules import router_tables

serve = pytest.importorskip("ray.serve")


@pytest.fixture(scope="module")
def handle():
    """The application in this process, without a cluster; its strict class has no time to be served in."""
    from experiments.native_application import native_application

    setting = compile_scenario(load_scenario("demo"))
    plan = replace(native_plan(setting), launch_s=0.0)
    tables = replace(router_tables(setting), slo_s=np.array([0.05, 10.0]))
    spec = ModelSpec("digits-large", reference=f"{Echo.__module__}:{Echo.__name__}")
    config = autoscaling_config(RayServeSettings(), plan, 20.0, 1)
    return serve.run(native_application(spec, tables, plan, config, 0), name="test", _local_testing_mode=True)


def asked(handle, name):
    answer = handle.infer.remote(InferRequest(input=[0] * 64, request_class=name, id=7)).result()
    return answer.status_code, json.loads(answer.body)


def test_request_is_answered_by_the_variant_of_the_plan(handle):
    assert asked(handle, "relaxed") == (200, {"output": 0, "variant": "digits-large"})


def test_request_that_cannot_be_served_in_time_is_given_up(handle):
    assert asked(handle, "strict")[0] == 504  # 0.22 s of service in 0.05 s


def test_unknown_class_is_refused(handle):
    assert asked(handle, "none")[0] == 422
