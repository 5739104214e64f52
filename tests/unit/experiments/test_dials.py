"""A policy is swept by settings that it has, around its own values and within their declared ranges."""

import pytest
from pydantic import BaseModel, Field

from controller.errors import ConfigError
from controller.policies.registry import POLICIES, PolicySpec, policy_file, settings_model
from experiments.dials import FLOOR_OFFSET, Continuation, Dial, Dials, default_dials, kind_of, points_of, with_settings


def test_dial_is_swept_around_the_own_value_within_the_range() -> None:
    assert Dial(setting="headroom", factors=(0.5, 0.8, 2.0)).swept(1.0, 0.7, 1.5) == [0.8, 1.0]
    assert Dial(setting="headroom", steps=(-0.1, 0.1), values=(1.4,)).swept(1.0, 0.7, 1.5) == [0.9, 1.0, 1.1, 1.4]
    # The own value stays, wherever it is.
    assert Dial(setting="headroom").swept(9.0, 0.7, 1.5) == [9.0]


def test_points_are_a_grid_with_the_policy_itself_in_it() -> None:
    attainment = Dial(setting="miss_multiplier", factors=(0.5, 2.0))
    dials = Dials(attainment=attainment, accuracy=Dial(setting="accuracy_margin", steps=(0.01,)))
    points = points_of("mpc:miss_multiplier=3,accuracy_margin=0.002", dials)
    assert points.shape == (3, 2)
    assert points.own == (1, 0)
    own = points.points[1 * 2 + 0]
    assert own.settings == {}
    assert [point.settings for point in points.points[:2]] == [
        {"miss_multiplier": 1.5},
        {"miss_multiplier": 1.5, "accuracy_margin": pytest.approx(0.012)},
    ]


def test_the_floors_asked_for_are_a_dial_and_no_setting_of_the_policy() -> None:
    dials = Dials(accuracy=Dial(setting=FLOOR_OFFSET, steps=(-0.002, 0.01)))
    points = points_of("paragon_plus", dials)
    assert (points.shape, points.own) == ((1, 3), (0, 1))
    assert [point.settings for point in points.points] == [{FLOOR_OFFSET: -0.002}, {}, {FLOOR_OFFSET: 0.01}]
    assert with_settings("paragon_plus", {FLOOR_OFFSET: 0.01}) == "paragon_plus"
    assert with_settings("a/b.provisor", {FLOOR_OFFSET: 0.01}) == "a/b.provisor"
    swept = with_settings("paragon_plus", {FLOOR_OFFSET: 0.01, "headroom": 1.5})
    assert isinstance(swept, PolicySpec)
    assert swept.settings == {"headroom": 1.5}


def test_another_setting_takes_over_where_a_dial_ends() -> None:
    then = Continuation(setting="headroom", factors=(1.2, 1.5, 9.0))
    dial = Dial(setting="miss_multiplier", factors=(0.5, 4.0), then=then)
    points = points_of("mpc:headroom=2", Dials(attainment=dial))
    assert points.own == (1, 0)
    # 18 is more headroom than the rule takes.
    assert [point.settings for point in points.points] == [
        {"miss_multiplier": 0.5},
        {},
        {"miss_multiplier": 4.0},
        {"miss_multiplier": 4.0, "headroom": 2.4},
        {"miss_multiplier": 4.0, "headroom": 3.0},
    ]


def test_every_kind_has_the_dial_that_moves_its_attainment() -> None:
    settings = {kind: default_dials(kind).attainment for kind in ("mpc", "reactive", "util_aware", "paragon")}
    assert {kind: dial.setting for kind, dial in settings.items() if dial} == {
        "mpc": "miss_multiplier",
        "reactive": "headroom",
        "util_aware": "target_utilisation",
        "paragon": "headroom",
    }
    assert default_dials("mpc").accuracy is not None


@pytest.mark.parametrize("kind", list(POLICIES))
def test_every_kind_can_be_swept(kind: str) -> None:
    points = points_of(kind)
    assert points.shape[0] >= 3
    assert points.points[points.own[0] * points.shape[1] + points.own[1]].settings == {}
    for point in points.points:
        spec = with_settings(kind, point.settings)
        settings_model(kind).model_validate(spec.settings if isinstance(spec, PolicySpec) else {})


def test_replaced_settings_leave_the_others_as_they_are() -> None:
    replaced = with_settings("reactive:headroom=1.1,cooldown_s=60", {"headroom": 1.5})
    assert isinstance(replaced, PolicySpec)
    assert replaced.settings == {"headroom": 1.5, "cooldown_s": 60}
    assert with_settings("my:Policy", {}) == "my:Policy"
    assert with_settings("a/b.provisor:miss_multiplier=2", {"accuracy_margin": 0.01}) == (
        "a/b.provisor:miss_multiplier=2,accuracy_margin=0.01"
    )


class Bare:
    """A policy that takes no settings."""


class Mine:
    """A policy with a setting of a usual name and a dial of its own."""

    class Settings(BaseModel):
        headroom: float = Field(default=2.0, ge=1.0, le=2.4)
        patience: float = 1.0

    def __init__(self, setting, settings=None, name="mine"):
        self.name = name


class Heir(Mine):
    """Inherits settings that it does not take."""

    def __init__(self, setting):
        super().__init__(setting)


def test_a_class_of_ones_own_is_swept_by_its_settings_where_it_takes_any() -> None:
    bare, mine = f"{__name__}:Bare", f"{__name__}:Mine"
    points = points_of(bare)
    assert (points.shape, points.own) == ((1, 1), (0, 0))
    with pytest.raises(ConfigError, match="takes no settings"):
        points_of(bare, Dials(attainment=Dial(setting="headroom", factors=(2.0,))))
    assert points_of(f"{__name__}:Heir") == points
    assert kind_of(mine) == mine
    assert [point.settings for point in points_of(mine).points] == [
        {"headroom": 1.6},
        {"headroom": 1.8},
        {},
        {"headroom": pytest.approx(2.3)},
    ]
    assert with_settings(mine, {"headroom": 1.6}) == PolicySpec(kind=mine, settings={"headroom": 1.6})


def test_a_dial_that_the_policy_lacks_is_named() -> None:
    with pytest.raises(ConfigError, match="'nonsense'"):
        points_of("mpc", Dials(attainment=Dial(setting="nonsense", factors=(2.0,))))
    with pytest.raises(ConfigError, match="'variant'"):
        points_of("reactive", Dials(attainment=Dial(setting="variant", factors=(2.0,))))


def test_texts_of_policy_files_are_told_apart() -> None:
    path, replaced = policy_file("a/b.provisor:miss_multiplier=2.5") or (None, None)
    assert str(path) == "a/b.provisor"
    assert replaced == {"miss_multiplier": 2.5}
    assert policy_file("mpc") is None
