"""Collages on a real Ray: groups of requests whose own answers straggle are answered by the real collage network."""

import asyncio

import numpy as np
import pytest
import torch

from experiments.collage.live import LiveExtent, LiveSession, live_modes
from experiments.collage.model import CollageNet, designs
from experiments.collage.study import COLLAGE, COLLAGE_TWO, NONE
from experiments.collage.training import export
from experiments.collage.workers import Workers, workers_setting
from serving.app import APP_NAME, slots_needed
from serving.bring_your_own import model_specs
from serving.cluster import child_processes, start_cluster
from serving.collage_model import CollageModel
from tests.live.conftest import free_port

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

W, CELLS, GROUPS = 2, 4, 3
OWN_S, PASS_RATIO, AFTER_S = 2.0, 0.05, 0.5
EXTENT = LiveExtent(groups=GROUPS, gap_s=0.5, after_s=AFTER_S)


@pytest.fixture(scope="module")
def specs(tmp_path_factory):
    """Networks of random weights: whose answers these are is told by comparing, not by their being right."""
    folder = tmp_path_factory.mktemp("networks")
    torch.manual_seed(1)
    for name, design in (("single", designs("digits", 1)["single"]), ("collage", designs("digits", W)["full"])):
        export(CollageNet(design).eval(), folder / f"{name}.json", {"task": "digits"})
    own = {name: str(folder / f"{name}.json") for name in ("single", "collage")}
    return model_specs(("single", "collage"), own)[0]


def test_stragglers_are_answered_by_the_collage_of_their_group_and_nobody_twice(specs):
    setting = workers_setting(np.full(100, OWN_S), Workers(8.0, CELLS, PASS_RATIO, concurrency=16, machines=8))
    images = np.random.default_rng(2).integers(0, 17, (GROUPS * CELLS, 64)).astype(float).tolist()
    # What the network says of each group in the order in which it was sent.
    model = CollageModel(specs["collage"].network)
    said = [digit for at in range(0, len(images), CELLS) for digit in model([images[at : at + CELLS]])[0]]
    modes = live_modes(AFTER_S, OWN_S)
    cluster = start_cluster(slots_needed(setting), free_port())
    try:
        session = LiveSession(cluster.url, setting, specs, EXTENT, 0)

        async def measured():
            await session.deploy()
            schedule = session.schedule(np.repeat(np.arange(GROUPS) * EXTENT.gap_s, CELLS), 0)
            return [await session.send(modes[mode], schedule, images, said) for mode in (NONE, COLLAGE, COLLAGE_TWO)]

        found = asyncio.run(measured())
    finally:
        cluster.close(APP_NAME)
    assert child_processes() <= cluster.before
    (plain, counted), *with_collages = found
    assert (plain.status == 200).all()
    assert counted.busy_s.sum() == pytest.approx(OWN_S * GROUPS * CELLS, rel=0.1)
    for passes, (record, tally) in enumerate(with_collages, 1):
        assert (record.status == 200).all()
        assert set(record.variant) == {"collage"}
        assert tally.answered.sum() == tally.from_collage == GROUPS * CELLS
        assert tally.passes == passes * GROUPS
        # Requests of a group may reach the router in another order than they were sent in.
        assert record.is_right.sum() >= 0.7 * GROUPS * CELLS
        assert np.median(record.latency_s) < 0.5 * np.median(plain.latency_s)
        # What was cancelled ran until the collage answered.
        assert tally.busy_s.sum() < 0.6 * counted.busy_s.sum()
