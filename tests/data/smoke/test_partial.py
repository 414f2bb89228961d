import numpy as np
import pytest

from src.data.smoke import partial
from src.data.smoke.partial import PartialFrames, open_folder, read_part
from tests.helpers.fake_plumes import tiny_settings

SETTINGS = tiny_settings()


def frames(count, value):
    return np.full((2, count, 2, 4, 4), value, np.float32)


def state(number):
    return {"total": np.full(3, number), "num_steps": np.array(number)}


def test_parts_are_kept_in_order_with_the_last_state(tmp_path):
    kept = PartialFrames(tmp_path, 3)
    assert (kept.num_frames, kept.parts()) == (0, [])
    kept.save(frames(25, 1.0), 0.5, state(25))
    kept.save(frames(10, 2.0), 0.25, state(35))
    again = PartialFrames(tmp_path, 3)
    assert again.num_frames == 35
    assert [read_part(path, "frames").shape[1] for path in again.parts()] == [25, 10]
    assert [read_part(path, "divergence").item() for path in again.parts()] == [0.5, 0.25]
    assert again.state()["num_steps"] == 35
    np.testing.assert_array_equal(again.state()["total"], np.full(3, 35))
    assert PartialFrames(tmp_path, 2).num_frames == 0


def test_a_part_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    kept = PartialFrames(tmp_path, 0)

    def fail(self, target):
        raise OSError("killed")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="killed"):
        patch.setattr("pathlib.Path.replace", fail)
        kept.save(frames(25, 1.0), 0.5, state(25))
    assert kept.num_frames == 0


def test_the_folder_is_kept_for_the_same_settings_libraries_and_device(tmp_path, monkeypatch):
    path = SETTINGS.path(tmp_path)

    def number_kept(settings=SETTINGS, device="cpu"):
        return PartialFrames(open_folder(path, settings, device), 0).num_frames

    folder = open_folder(path, SETTINGS, "cpu")
    assert folder.name == f"{path.name}.partial"
    for change in ("settings", "device", "versions"):
        PartialFrames(open_folder(path, SETTINGS, "cpu"), 0).save(frames(5, 0.0), 0.0, state(5))
        assert number_kept() == 5
        with monkeypatch.context() as patch:
            if change == "versions":
                patch.setattr(partial, "library_versions", lambda: {"phiflow": "0"})
            other = tiny_settings(num_steps=50) if change == "settings" else SETTINGS
            assert number_kept(other, "cuda" if change == "device" else "cpu") == 0
        open_folder(path, SETTINGS, "cpu")


@pytest.mark.parametrize("content", [b"", b"some text", None])
def test_a_damaged_part_is_named(tmp_path, content):
    kept = PartialFrames(tmp_path, 0)
    kept.save(frames(25, 1.0), 0.5, state(25))
    path = kept.parts()[0]
    changed = bytearray(path.read_bytes())
    changed[300] ^= 1
    path.write_bytes(changed if content is None else content)
    with pytest.raises(ValueError, match=r"00025.npz must hold .* is damaged: .*Delete the folder"):
        read_part(path, "frames")
