import dataclasses
from pathlib import Path

import pytest

from src.data.smoke.settings import SmokeSettings
from tests.helpers.fake_plumes import tiny_plumes, tiny_settings

NUMBERS = {"num_steps": 61, "skip_frames": 5, "velocity_dt": 0.25, "smoke_dt": 0.5}
WORDS = {"name": "other", "layout": "staggered_cropped", "dtype": "float64"}
CHANGES = [
    *({name: value} for name, value in (NUMBERS | WORDS).items()),
    {"plumes": tuple(tiny_plumes()[:3])},
    {"density": True},
    {"plumes": tuple(reversed(tiny_plumes()))},
    {"plumes": tuple(tiny_plumes(8)), "resolution": 8},
]
CHANGES_OF_A_PLUME = {"task": (9, 9), "side": 1, "inflow": (8, 4), "radius": 3}
CHANGES_OF_A_PLUME |= {"buoyancy": (0.1, 0.1), "buoyancy_right": (0.1, 0.1), "magnification": 2}


def test_the_file_is_named_by_all_settings():
    settings = tiny_settings()
    assert settings.path(Path("data")) == Path("data/smoke/tiny-22d79de2.b2nd"), "in every version"
    assert settings.num_frames == 56
    plume = tiny_plumes()[0]
    others = [dataclasses.replace(plume, **{n: v}) for n, v in CHANGES_OF_A_PLUME.items()]
    changes = [{}, *CHANGES, *({"plumes": (p,)} for p in (plume, *others))]
    assert len({tiny_settings(**change).path(Path("data")) for change in changes}) == len(changes)
    changed = {name for change in CHANGES for name in change}
    assert changed == {field.name for field in dataclasses.fields(SmokeSettings)}


def test_whole_numbers_may_be_written_either_way():
    plume = dataclasses.replace(tiny_plumes()[0], radius=2.0)
    one = tiny_settings(velocity_dt=1, plumes=(plume,))
    other = tiny_settings(velocity_dt=1.0, plumes=(tiny_plumes()[0],))
    assert repr(one) != repr(other)
    assert one.as_json() == other.as_json()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layout": "cell"}, "`layout` must be one of centered, staggered_cropped; got 'cell'."),
        ({"dtype": "half"}, "`dtype` must be one of float32, float64; got 'half'."),
        ({"density": "no"}, "`density` must be true or false; got 'no'. Use data.density=true"),
        ({"num_steps": 0}, "`num_steps` must be an integer of at least 1; got 0."),
        ({"skip_frames": -1}, "`skip_frames` must be an integer of at least 0; got -1."),
        ({"skip_frames": 60}, "`skip_frames` must be less than .* 60.*; got 60. Use data.skip_"),
        ({"velocity_dt": 0}, "`velocity_dt` must be a positive time; got 0"),
        ({"smoke_dt": -1}, "`smoke_dt` must be a positive time; got -1"),
        ({"plumes": ()}, r"`plumes` must be at least one plume; got \[\]. Use data=smoke_"),
        ({"resolution": 32}, r"at the `resolution` of the stored frames, 32; got \[16\]. Set data"),
    ],
)
def test_wrong_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        tiny_settings(**change)
