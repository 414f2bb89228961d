import dataclasses
import hashlib
import re
import shutil
from importlib.metadata import version

import blosc2
import numpy as np
import pytest

from src.data.smoke.storage import LIBRARIES, StoredSet, write_set
from tests.helpers.fake_plumes import fake_frames, tiny_settings

SETTINGS = tiny_settings()


def write(path, settings, frames):
    segments = [(s, t, own[t : t + 25]) for s, own in enumerate(frames) for t in (0, 25, 50)]
    write_set(path, settings, segments, 1e-7)
    return path


FRAMES = fake_frames(SETTINGS)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A written set; not to be changed."""
    return write(tmp_path_factory.mktemp("set") / "set.b2nd", SETTINGS, FRAMES)


@pytest.mark.parametrize(("dtype", "channels"), [("float32", 2), ("float64", 2), ("float32", 3)])
def test_what_is_written_is_read(tmp_path, dtype, channels):
    settings = tiny_settings(dtype=dtype, density=channels == 3)
    frames = fake_frames(settings)
    stored = StoredSet.open(write(tmp_path / "a", settings, frames), settings)
    assert stored.read().dtype == stored.frames.dtype == dtype
    np.testing.assert_array_equal(stored.read(), frames)
    assert (stored.frames.shape, stored.frames.chunks) == (frames.shape, (1, 25, channels, 16, 16))
    np.testing.assert_array_equal(stored.frames[1, 3:7, 0], frames[1, 3:7, 0])


def test_the_file_carries_settings_versions_and_checksums(path, tmp_path):
    stored = StoredSet.open(path)
    assert stored.settings == SETTINGS.as_json()
    assert stored.versions == {name: version(name) for name in LIBRARIES}
    assert stored.max_divergence == 1e-7
    assert stored.sha256 == [hashlib.sha256(own.tobytes()).hexdigest() for own in FRAMES]
    copied = shutil.copy(path, tmp_path / "set.b2nd")
    array = blosc2.open(str(copied), mode="a")
    array.schunk.vlmeta["sha256"] = array.schunk.vlmeta["sha256"][:3]
    with pytest.raises(ValueError, match=r"damaged: its shape or its checksums are not those"):
        StoredSet.open(copied, SETTINGS)


def test_the_same_frames_give_the_same_bytes_and_smooth_ones_few(path, tmp_path):
    assert write(tmp_path / "again", SETTINGS, FRAMES).read_bytes() == path.read_bytes()
    ramp = np.linspace(0, 1, 4 * 56 * 512, dtype=np.float32).reshape(4, 56, 2, 16, 16)
    assert write(tmp_path / "ramp", SETTINGS, ramp).stat().st_size < 0.5 * ramp.nbytes


def test_a_set_of_other_settings_or_none_is_refused(path):
    other = dataclasses.replace(SETTINGS, velocity_dt=0.25)
    message = f"{re.escape(str(path))} must hold the set that .* other settings. Delete it"
    with pytest.raises(ValueError, match=message):
        StoredSet.open(path, other)
    with pytest.raises(FileNotFoundError, match=r"generated before it is read; .*prepare_data\(\)"):
        StoredSet.open(path / "missing", SETTINGS)


def test_a_damaged_set_is_named(path, tmp_path):
    content, broken = path.read_bytes(), tmp_path / "set.b2nd"
    half = len(content) // 2
    zeros = content[:half] + bytes(1000) + content[half + 1000 :]
    message = f"{re.escape(str(broken))} must hold a set .* but is damaged: .*Delete it"
    for damaged in (content[:-100], content[:half], b"", b"some text", zeros):
        broken.write_bytes(damaged)
        with pytest.raises(ValueError, match=message):
            StoredSet.open(broken, SETTINGS).read()


def test_any_changed_byte_is_noticed_or_changes_nothing(path, tmp_path):
    content, broken, noticed = path.read_bytes(), tmp_path / "set.b2nd", 0
    for position in range(0, len(content), len(content) // 25):
        changed = bytearray(content)
        changed[position] ^= 0x55
        broken.write_bytes(changed)
        try:
            read = StoredSet.open(broken, SETTINGS).read()
        except ValueError:
            noticed += 1
        else:
            np.testing.assert_array_equal(read, FRAMES)
    assert noticed > 22
