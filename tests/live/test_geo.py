"""A geo plan on a live Serve: the client encodes each sheet as the plan says, and the plan's variants answer it."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from controller.compile import at_speed
from controller.planners.geo.compiled import compile_geo
from controller.planners.geo.plan import plan_of
from controller.planners.geo.problem import GeoProblem, GeoSite, GeoVariant, Region, Route
from controller.planners.geo.rounding import plan_rounded
from experiments.placement.geo_live import live_setting, mix_of
from serving import zoo
from serving.app import APP_NAME, build_application, layout_of, slots_needed
from serving.bring_your_own import ModelSpec
from serving.client import ProvisorClient
from serving.cluster import child_processes, start_cluster
from serving.data_version import PER_SHEET, DataVersion, as_text, sheets_of
from serving.sheet_model import SheetModel
from tests.live.conftest import free_port
from tests.live.deployed import Live

pytestmark = [pytest.mark.live, pytest.mark.timeout(240)]

VERSIONS = {
    v.name: v for v in (DataVersion("png-100"), DataVersion("jpeg40-100", quality=40), DataVersion("png-50", 0.5))
}
MODELS = {"small": "digits-small", "large": "digits-large"}
MODEL_S = {"small": 0.01, "large": 0.04}
SITES = ("near", "far")
RATE_RPS = 12.0
COUNT = 60


def held_out():
    """Sheets of digits that no model was trained on, as bytes of gray, and what is on them."""
    images, digits = zoo.images()[2:]
    count = len(digits) // PER_SHEET * PER_SHEET
    pixels = np.round(images[:count] * (255.0 / 16.0)).astype(np.uint8).reshape(-1, 8, 8)
    return sheets_of(pixels), digits[:count].reshape(-1, PER_SHEET)


@pytest.fixture(scope="module")
def sheets():
    return held_out()


@pytest.fixture(scope="module")
def instance(sheets):
    """Variants measured on the first half of the sheets; traffic to the far site is dear and its machines are cheap."""
    half = len(sheets[0]) // 2
    variants = []
    for model, name in MODELS.items():
        answers = SheetModel(name)
        for data, version in VERSIONS.items():
            encoded = [version.encode(sheet) for sheet in sheets[0][:half]]
            right = np.array(answers([as_text(one) for one in encoded])) == sheets[1][:half]
            size = float(np.mean([len(one) for one in encoded]))
            variants.append(
                GeoVariant(model=model, data=data, accuracy=float(right.mean()), bytes=size, service_s=MODEL_S[model])
            )
    best = max(v.accuracy for v in variants)
    sites = tuple(GeoSite(name=name, usd_per_hour=usd) for name, usd in zip(SITES, (0.1, 0.05), strict=True))
    regions = (
        Region(name="here", rate_rps=RATE_RPS, accuracy=best - 0.02, latency_s=5.0),
        Region(name="there", rate_rps=RATE_RPS, accuracy=best - 0.2, latency_s=5.0),
    )
    routes = tuple(
        Route(region=r.name, site=s, rtt_s=0.02, bytes_per_s=1e6, usd_per_gb=0.0 if s == "near" else 20.0)
        for r in regions
        for s in SITES
    )
    problem = GeoProblem(
        name="live", instance_serves="variant", regions=regions, sites=sites, routes=routes, variants=tuple(variants)
    )
    return compile_geo(problem)


@pytest.fixture(scope="module")
def plan(instance):
    return plan_rounded(instance).plan


@pytest.fixture(scope="module")
def live(run, instance, plan):
    setting = live_setting(instance, plan, most_instances=6)
    setting = replace(setting, catalog=at_speed(setting.catalog, 1.0, 2.0, 2.0))
    specs = {
        name: ModelSpec(name, reference=f"serving.sheet_model:{name.partition('.')[0]}")
        for name in setting.variant_names
    }
    cluster = start_cluster(slots_needed(setting), free_port())
    try:
        from ray import serve

        application = build_application(setting, specs, 0, layout_of(setting))
        serve.run(application, name=APP_NAME, route_prefix="/", external_scaler_enabled=True)
        live = Live(cluster, setting, run)
        live.plan = plan_of(instance, plan, setting)
        live.shares[:] = live.plan.shares
        launch = {(v, p): int(live.plan.replicas[0, v, p]) for v, p in np.argwhere(live.plan.replicas[0] > 0)}
        live.act(lambda: all(live.serving(*at) == count for at, count in launch.items()), launch=launch)
        yield live
    finally:
        cluster.close(APP_NAME)
    assert child_processes() <= cluster.before


def test_clients_send_what_the_plan_has_chosen_and_its_variants_answer_as_accurately_as_promised(
    live, run, instance, plan, sheets
):
    half = len(sheets[0]) // 2
    unseen, digits = sheets[0][half:], sheets[1][half:]

    async def send(region):
        mix = mix_of(instance, plan, region, VERSIONS)
        async with ProvisorClient(live.cluster.url, timeout_s=60.0) as client:
            asked = [
                client.infer_image(unseen[n % len(unseen)], mix, draw=(n + 0.5) / COUNT, id=n) for n in range(COUNT)
            ]
            return mix, await asyncio.gather(*asked)

    for r, region in enumerate(instance.problem.regions):
        mix, answers = run(send(region.name))
        for one in mix:
            sent = [answer for answer in answers if answer.data == one.version.name]
            assert len(sent) == pytest.approx(one.share * COUNT, abs=1)
            assert {answer.request_class for answer in sent} == {one.request_class}
        for n, answer in enumerate(answers):
            assert answer.data_bytes == len(VERSIONS[answer.data].encode(unseen[n % len(unseen)]))
            model, _, data = answer.variant.partition(".")
            v = [(one.model, one.data) for one in instance.problem.variants].index((model, answer.data))
            assert data == answer.data
            assert plan.served_rps[r, SITES.index(answer.pool), v] > 0
        right = np.array([answer.output for answer in answers]) == digits[np.arange(COUNT) % len(digits)]
        # Digits of a sheet are as good as independent; three standard errors.
        error = 3 * np.sqrt(region.accuracy * (1 - region.accuracy) / min(COUNT, len(unseen)) / PER_SHEET)
        assert right.mean() >= region.accuracy - error


def test_the_regions_adapt_differently(instance, plan):
    used = [{int(v) for v in np.flatnonzero(plan.served_rps[r].sum(axis=0) > 1e-6)} for r in range(2)]
    assert used[0] != used[1]


def test_an_input_that_is_no_image_fails_alone(live):
    name = live.setting.class_names[0]
    bad, good = live.post(1, request_class=name)[0], None
    assert bad.status_code == 500
    sheet, _ = held_out()
    live.images = [as_text(VERSIONS["png-100"].encode(sheet[0]))]
    good = live.post(1, request_class=name)[0]
    assert good.status_code == 200
