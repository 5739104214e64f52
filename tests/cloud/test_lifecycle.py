import pytest

from experiments.cloud.lifecycle import run_lifecycle


@pytest.mark.slow
def test_fleet_is_bought_loses_half_its_spot_is_replaced_scaled_in_and_given_back(running):
    life = run_lifecycle(running)
    assert life.bought == {"od": 2, "spot": 6}
    assert life.lost == life.reported == life.replaced == 3
    assert life.scaled_in == {"od": 1, "spot": 2}
    assert life.left == 0
    assert life.is_right
