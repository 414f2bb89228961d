import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from src.data.smoke.settings import SmokeSettings, difference
from tests.helpers.fake_plumes import tiny_plumes, tiny_settings

CHANGES = (
    {"name": "other"},
    {"plumes": tuple(tiny_plumes()[:3])},
    {"plumes": tuple(reversed(tiny_plumes()))},
    {"plumes": tuple(tiny_plumes(8)), "resolution": 8},
    {"num_steps": 61},
    {"skip_frames": 5},
    {"velocity_dt": 0.25},
    {"smoke_dt": 0.5},
    {"layout": "staggered_cropped"},
    {"dtype": "float64"},
)


def test_the_digest_is_that_of_all_settings():
    digests = {tiny_settings(**change).digest() for change in ({}, *CHANGES)}
    assert len(digests) == 1 + len(CHANGES)
    changed = {name for change in CHANGES for name in change}
    assert changed == {field.name for field in dataclasses.fields(SmokeSettings)}


def test_the_digest_takes_every_number_of_a_plume_in():
    plume = tiny_plumes()[0]
    others = {
        "task": (9, 9),
        "side": 1,
        "inflow": (8, 4),
        "radius": 3,
        "buoyancy": (0.1, 0.1),
        "buoyancy_right": (0.1, 0.1),
        "magnification": 2,
    }
    plumes = [plume, *(dataclasses.replace(plume, **{n: v}) for n, v in others.items())]
    assert len({tiny_settings(plumes=(p,)).digest() for p in plumes}) == 1 + len(others)


def test_whole_numbers_may_be_written_either_way():
    plume = dataclasses.replace(tiny_plumes()[0], radius=2.0)
    assert plume.radius is not tiny_plumes()[0].radius
    one = tiny_settings(velocity_dt=1, plumes=(plume,))
    other = tiny_settings(velocity_dt=1.0, plumes=(tiny_plumes()[0],))
    assert one.as_json() == other.as_json()


@pytest.mark.slow
def test_the_digest_is_the_same_in_every_process():
    code = (
        "from tests.helpers.fake_plumes import tiny_settings; "
        "import sys; sys.stdout.write(tiny_settings().digest())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == tiny_settings().digest()


def test_the_file_is_named_by_the_set_and_its_settings():
    settings = tiny_settings()
    path = settings.path(Path("data"))
    assert path == Path("data") / "smoke" / f"tiny-{settings.digest()[:8]}.b2nd"


def test_shape_and_frames():
    assert tiny_settings().num_frames == 56
    assert tiny_settings().shape == (4, 56, 2, 16, 16)


def test_differences_are_named():
    one, other = tiny_settings(), tiny_settings(num_steps=70, velocity_dt=1.0)
    assert difference(one.as_json(), other.as_json()) == "num_steps, velocity_dt"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"layout": "cell"},
            "`layout` must be one of centered, staggered_cropped; got 'cell'.",
        ),
        ({"dtype": "half"}, "`dtype` must be one of float32, float64; got 'half'. Use"),
        ({"resolution": 0}, "`resolution` must be an integer of at least 1; got 0. Use"),
        ({"num_steps": 0}, "`num_steps` must be an integer of at least 1; got 0. Use"),
        ({"skip_frames": -1}, "`skip_frames` must be an integer of at least 0; got -1. Use"),
        ({"skip_frames": 60}, "`skip_frames` must be less than .*; got 60 of 60. Use data.skip_"),
        ({"plumes": ()}, "`plumes` must hold at least one plume; got none. Choose a set"),
        ({"resolution": 32}, r"at the `resolution` of the stored frames, 32; got \[16\]. Set data"),
    ],
)
def test_wrong_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        tiny_settings(**change)
