import dataclasses
import errno
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from src.data.smoke import generation
from src.data.smoke.generation import prepare, stored_frame
from src.data.smoke.plumes import scale_plumes
from src.data.smoke.storage import StoredSet
from src.errors import UserError
from src.models.components.gcnn.actions import transform_vector_field
from tests.helpers.fake_plumes import FakeSimulation, fake_frames, tiny_plumes, tiny_settings

SETTINGS = tiny_settings()
SIZES = {"inflow": (8, 3), "radius": 2, "buoyancy": 0.1, "resolution": 16}
SCALED = tiny_settings(name="scaled", plumes=tuple(scale_plumes((1, 1.5, 2, 1.53), **SIZES)))


def interrupted(step, data_dir, settings=SETTINGS, device="cpu", error=RuntimeError):
    """Let a generation stop at a step; the next ones do not."""
    FakeSimulation.raise_at, FakeSimulation.error = step, error
    with pytest.raises(error, match="stopped"):
        prepare(settings, data_dir, device)
    FakeSimulation.raise_at = None


def test_a_set_is_simulated_once_on_the_device_asked_for(fake_simulation, tmp_path, monkeypatch):
    message = r"needs? the package no-such-package, which .*pip install -e '.\[smoke\]'"
    with monkeypatch.context() as patch, pytest.raises(UserError, match=message):
        patch.setattr(generation, "LIBRARIES", ("no-such-package",))
        prepare(SETTINGS, tmp_path)
    assert not list(tmp_path.iterdir())
    path = prepare(SETTINGS, tmp_path, "cuda")
    assert path == SETTINGS.path(tmp_path)
    assert prepare(SETTINGS, tmp_path) == path
    assert (fake_simulation.steps, fake_simulation.devices) == (60, ["cuda"])
    stored = StoredSet.open(path, SETTINGS)
    np.testing.assert_array_equal(stored.read(), fake_frames(SETTINGS))
    assert stored.max_divergence == 1.0


def test_a_set_is_used_where_one_may_only_read(fake_simulation, tmp_path, monkeypatch):
    path = prepare(SETTINGS, tmp_path)
    for call in ("os.mkdir", "os.open"):  # of folders and of locks
        monkeypatch.setattr(call, Mock(side_effect=OSError(errno.EROFS, "Read-only file system")))
    assert prepare(SETTINGS, tmp_path) == path
    np.testing.assert_array_equal(StoredSet.open(path, SETTINGS).read(), fake_frames(SETTINGS))


@pytest.mark.parametrize("steps", [(3,), (29,), (30,), (54, 59), (31, 32, 100, 175)])
def test_an_interrupted_generation_goes_on_to_the_same_file(
    fake_simulation, tmp_path, steps, capsys
):
    settings = SCALED if len(steps) == 4 else SETTINGS
    expected = prepare(settings, tmp_path / "whole").read_bytes()
    total, fake_simulation.steps = fake_simulation.steps, 0
    path = settings.path(tmp_path)
    for step in steps:
        interrupted(step, tmp_path, settings)
        assert not path.exists()
    prepare(settings, tmp_path)
    assert path.read_bytes() == expected
    assert fake_simulation.steps < total + 30 * len(steps)
    assert {file.name for file in path.parent.iterdir()} == {path.name, f".{path.name}.lock"}
    which = "simulation 3 of 4" if settings is SCALED else "simulations 1 to 4 of 4"
    assert re.search(f"step 60 of 60, {which}.* 100%.* left", capsys.readouterr().err)


@pytest.mark.parametrize("change", [None, "versions", "device"])
def test_parts_of_the_same_origin_are_used(fake_simulation, tmp_path, monkeypatch, caplog, change):
    caplog.set_level(logging.INFO)
    with monkeypatch.context() as patch:
        if change == "versions":
            patch.setattr(generation, "library_versions", lambda *names: {"torch": "0"})
        device = "cuda" if change == "device" else "cpu"
        interrupted(59, tmp_path, device=device, error=KeyboardInterrupt)
    assert "Interrupted. The same command goes on" in caplog.text
    fake_simulation.steps = 0
    prepare(SETTINGS, tmp_path)
    assert fake_simulation.steps == (60 if change else 60 - 54)
    assert ("Going on from step 54" in caplog.text) == (change is None)


@pytest.mark.parametrize("content", [b"", b"some text", None])
def test_a_damaged_part_is_named(fake_simulation, tmp_path, content):
    interrupted(59, tmp_path)
    part = max(SETTINGS.path(tmp_path).with_suffix(".b2nd.partial").glob("*.npz"))
    part.write_bytes(part.read_bytes()[:1000] if content is None else content)
    with pytest.raises(ValueError, match=r"00050.npz must hold .* is damaged: .*Delete the folder"):
        prepare(SETTINGS, tmp_path)


def test_a_file_that_could_not_be_written_has_no_name(fake_simulation, tmp_path, monkeypatch):
    def half(path, *rest):
        path.write_bytes(b"half")
        raise OSError("the disk is full")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="the disk is full"):
        patch.setattr(generation, "write_set", half)
        prepare(SETTINGS, tmp_path)
    assert not SETTINGS.path(tmp_path).exists()
    stored = StoredSet.open(prepare(SETTINGS, tmp_path))
    np.testing.assert_array_equal(stored.read(), fake_frames(SETTINGS))


def test_several_at_once_wait_for_one(fake_simulation, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    first_step = fake_simulation.step

    def step(self):
        end = monotonic() + 60
        while "Waiting for another process" not in caplog.text:
            assert monotonic() < end, "nobody waits"
        first_step(self)

    monkeypatch.setattr(fake_simulation, "step", step)
    with ThreadPoolExecutor(2) as pool:
        made = [pool.submit(prepare, SETTINGS, tmp_path) for _ in range(2)]
        assert {future.result() for future in made} == {SETTINGS.path(tmp_path)}
    assert fake_simulation.steps == 60


def magnified(*factors):
    return [dataclasses.replace(tiny_plumes()[0], magnification=f) for f in factors]


def test_velocities_are_divided_by_the_magnification_and_keep_their_slope():
    first, second = stored_frame(np.full((2, 2, 24, 24), 3.0), magnified(1.5, 2), 16)
    np.testing.assert_allclose([first, 4 / 3 * second], np.full((2, 2, 16, 16), 2.0))
    (both,) = stored_frame(np.full((1, 3, 24, 24), 3.0), magnified(1.5), 16)
    np.testing.assert_allclose(both[:, 0, 0], [2, 2, 3])  # the density has no unit of length
    slope = np.broadcast_to((np.arange(32) + 0.5) / 2, (1, 2, 32, 32)).copy()
    result = stored_frame(slope, magnified(1), 16)
    np.testing.assert_allclose(result[..., 2:-2], np.arange(2, 14) + np.full((1, 2, 16, 12), 0.5))
    velocity = np.random.default_rng(0).normal(size=(1, 2, 16, 16)).astype(np.float32)
    same = stored_frame(velocity, magnified(1), 16)
    assert same.dtype == np.float32
    np.testing.assert_array_equal(same, velocity)


@pytest.mark.parametrize("size", [24, 25, 70])
def test_resampling_commutes_with_quarter_turns(size):
    def stored(velocity):
        return torch.from_numpy(stored_frame(velocity.numpy(), magnified(1.5), 16))

    velocity = torch.randn(1, 2, size, size, generator=torch.Generator().manual_seed(0))
    turned = transform_vector_field(velocity, "c4", 1)
    torch.testing.assert_close(stored(turned), transform_vector_field(stored(velocity), "c4", 1))


def test_plumes_of_other_resolutions_are_brought_to_the_stored_one(fake_simulation, tmp_path):
    frames = StoredSet.open(prepare(SCALED, tmp_path), SCALED).read()
    assert [plume.resolution for plume in SCALED.plumes] == [16, 24, 32, 24]
    assert len(fake_simulation.devices) == 3  # those of one resolution are simulated together
    for index, plume in enumerate(SCALED.plumes):
        alone = FakeSimulation([plume], velocity_dt=0.5)
        for _ in range(5):
            alone.step()
        expected = stored_frame(alone.velocity("centered"), [plume], 16)[0]
        np.testing.assert_allclose(frames[index, 0], expected, rtol=1e-6)


@pytest.mark.slow
def test_a_simulated_set_is_the_same_after_an_interruption(tmp_path, monkeypatch):
    monkeypatch.setattr(generation, "CHUNK_FRAMES", 1)
    settings = tiny_settings(num_steps=4, skip_frames=1)
    expected = prepare(settings, tmp_path / "whole").read_bytes()

    class Stopped(generation.Simulation):
        def step(self):
            if self.num_steps == 3:
                raise RuntimeError("stopped")
            super().step()

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="stopped"):
        patch.setattr(generation, "Simulation", Stopped)
        prepare(settings, tmp_path)
    prepare(settings, tmp_path)
    assert settings.path(tmp_path).read_bytes() == expected
    assert StoredSet.open(settings.path(tmp_path)).max_divergence < 1e-5
