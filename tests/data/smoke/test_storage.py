import dataclasses
import hashlib
import re
import shutil
from importlib.metadata import version

import blosc2
import numpy as np
import pytest

from src.data.smoke import storage
from src.data.smoke.storage import StoredSet, check_installed, write_set
from src.errors import UserError
from tests.helpers.fake_plumes import fake_frames, tiny_settings

SETTINGS = tiny_settings()


def segments(frames):
    return [(s, t, own[t : t + 25]) for s, own in enumerate(frames) for t in (0, 25, 50)]


@pytest.fixture(scope="module")
def frames():
    return fake_frames(SETTINGS)


@pytest.fixture(scope="module")
def path(frames, tmp_path_factory):
    """A written set; not to be changed."""
    path = tmp_path_factory.mktemp("set") / "set.b2nd"
    write_set(path, SETTINGS, segments(frames), 1e-7)
    return path


def test_what_is_written_is_read(path, frames):
    stored = StoredSet.open(path, SETTINGS)
    assert len(stored) == 4
    np.testing.assert_array_equal(stored.read(), frames)
    np.testing.assert_array_equal(stored.simulation(2), frames[2])
    assert stored.read().dtype == np.float32


def test_float64(tmp_path):
    settings = tiny_settings(dtype="float64", num_steps=6)
    frames = fake_frames(settings)
    write_set(tmp_path / "a", settings, [(s, 0, own) for s, own in enumerate(frames)], 0.0)
    read = StoredSet.open(tmp_path / "a", settings).read()
    assert read.dtype == np.float64
    np.testing.assert_array_equal(read, frames)


def test_the_file_carries_settings_versions_and_checksums(path, frames):
    stored = StoredSet.open(path)
    assert stored.settings == SETTINGS.as_json()
    assert stored.versions["phiflow"] == version("phiflow")
    assert stored.versions["blosc2"] == version("blosc2")
    assert stored.max_divergence == 1e-7
    array = blosc2.open(str(path), mode="r")
    assert array.schunk.vlmeta["sha256"] == [
        hashlib.sha256(own.tobytes()).hexdigest() for own in frames
    ]


def test_velocities_are_mapped_and_read_where_indexed(path, frames):
    velocities = StoredSet.open(path).velocities
    assert velocities.shape == frames.shape
    assert velocities.chunks == (1, 25, 2, 16, 16)
    np.testing.assert_array_equal(velocities[1, 3:7, 0], frames[1, 3:7, 0])


def test_the_same_frames_give_the_same_bytes(path, frames, tmp_path):
    write_set(tmp_path / "again", SETTINGS, segments(frames), 1e-7)
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_smooth_frames_are_compressed(tmp_path):
    settings = tiny_settings(num_steps=29)
    ramp = np.linspace(0, 1, 25 * 512, dtype=np.float32).reshape(25, 2, 16, 16)
    write_set(tmp_path / "a", settings, [(s, 0, ramp) for s in range(4)], 0.0)
    assert (tmp_path / "a").stat().st_size < 0.5 * 4 * ramp.nbytes


def test_a_set_of_other_settings_is_refused(path):
    other = dataclasses.replace(SETTINGS, velocity_dt=0.25, num_steps=61)
    message = f"{re.escape(str(path))} must hold the set that .*num_steps, velocity_dt. Delete it"
    with pytest.raises(ValueError, match=message):
        StoredSet.open(path, other)


def test_a_missing_set(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"generated before it is read; .*prepare_data\(\)"):
        StoredSet.open(tmp_path / "a.b2nd", SETTINGS)


def damaged(content: bytes, damage: str) -> bytes:
    half = len(content) // 2
    flipped = bytearray(content)
    flipped[half] ^= 1
    return {
        "byte": bytes(flipped),
        "truncated": content[:-100],
        "half": content[:half],
        "empty": b"",
        "text": b"some text",
        "zeros": content[:half] + bytes(1000) + content[half + 1000 :],
    }[damage]


@pytest.mark.parametrize("damage", ["byte", "truncated", "half", "empty", "text", "zeros"])
def test_a_damaged_set_is_named(path, tmp_path, damage):
    broken = tmp_path / "set.b2nd"
    broken.write_bytes(damaged(path.read_bytes(), damage))
    message = f"{re.escape(str(broken))} must hold a set .* but is damaged: .*Delete it"
    with pytest.raises(ValueError, match=message):
        StoredSet.open(broken, SETTINGS).read()


def test_any_changed_byte_is_noticed_or_changes_nothing(path, frames, tmp_path):
    content, broken = path.read_bytes(), tmp_path / "set.b2nd"
    noticed = 0
    for position in range(0, len(content), len(content) // 150):
        changed = bytearray(content)
        changed[position] ^= 0x55
        broken.write_bytes(changed)
        try:
            read = StoredSet.open(broken, SETTINGS).read()
        except ValueError:
            noticed += 1
        else:
            np.testing.assert_array_equal(read, frames)
    assert noticed > 140


def test_a_set_with_changed_notes_is_refused(path, tmp_path):
    copied = tmp_path / "set.b2nd"
    shutil.copy(path, copied)
    array = blosc2.open(str(copied), mode="a")
    array.schunk.vlmeta["sha256"] = array.schunk.vlmeta["sha256"][:3]
    with pytest.raises(ValueError, match=r"damaged: its shape or its checksums are not those"):
        StoredSet.open(copied, SETTINGS)


def test_a_missing_package_is_named(path, monkeypatch):
    monkeypatch.setattr(storage, "find_spec", lambda name: None if name in ("phi",) else name)
    check_installed("blosc2")
    with pytest.raises(UserError, match=r"phiflow, which are not.*pip install -e '.\[smoke\]'"):
        check_installed("phi", "blosc2")
    monkeypatch.setattr(storage, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"need the packages blosc2, which"):
        StoredSet.open(path)
