import logging
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, wait
from pathlib import Path

import numpy as np
import pytest

from src.data.smoke import generation, partial, storage
from src.data.smoke.generation import prepare
from src.data.smoke.plumes import scale_plumes
from src.data.smoke.resampling import stored_frame
from src.data.smoke.storage import StoredSet
from src.errors import UserError
from tests.helpers.fake_plumes import FakeSimulation, fake_frames, tiny_settings

SETTINGS = tiny_settings()
SCALED = tiny_settings(
    name="scaled",
    plumes=tuple(
        scale_plumes((1, 1.5, 2, 1.53), inflow=(8, 3), radius=2, buoyancy=0.1, resolution=16)
    ),
)


def interrupt(step, error=RuntimeError):
    FakeSimulation.raise_at, FakeSimulation.error = step, error


def files(path):
    return {file.name for file in path.parent.iterdir()}


def test_a_set_is_simulated_once(fake_simulation, tmp_path):
    path = prepare(SETTINGS, tmp_path, "cuda")
    assert path == SETTINGS.path(tmp_path)
    assert fake_simulation.steps == 60
    assert fake_simulation.devices == ["cuda"]
    prepare(SETTINGS, tmp_path)
    assert fake_simulation.steps == 60
    stored = StoredSet.open(path, SETTINGS)
    np.testing.assert_array_equal(stored.read(), fake_frames(SETTINGS))
    assert stored.max_divergence == 1.0
    assert files(path) == {path.name, f".{path.name}.lock"}


@pytest.mark.parametrize("settings", [SETTINGS, SCALED], ids=lambda s: s.name)
@pytest.mark.parametrize("steps", [(3,), (29,), (30,), (54, 59), (31, 32, 100, 175)])
def test_an_interrupted_generation_goes_on_to_the_same_file(
    fake_simulation, tmp_path, settings, steps
):
    expected = prepare(settings, tmp_path / "whole").read_bytes()
    total, fake_simulation.steps = fake_simulation.steps, 0
    path = settings.path(tmp_path)
    for step in (s for s in steps if s < total):
        interrupt(step)
        with pytest.raises(RuntimeError, match="stopped"):
            prepare(settings, tmp_path)
        assert not path.exists()
    interrupt(None)
    prepare(settings, tmp_path)
    assert path.read_bytes() == expected
    assert fake_simulation.steps < total + 30 * len(steps)
    assert files(path) == {path.name, f".{path.name}.lock"}


def test_what_was_simulated_is_not_simulated_again(fake_simulation, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    interrupt(55)
    with pytest.raises(RuntimeError):
        prepare(SETTINGS, tmp_path)
    interrupt(None)
    prepare(SETTINGS, tmp_path)
    assert fake_simulation.steps == 60 + 55 - 54
    assert "Going on from step 54" in caplog.text


def test_an_interruption_by_hand_says_how_to_go_on(fake_simulation, tmp_path, caplog):
    interrupt(40, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        prepare(SETTINGS, tmp_path)
    assert "Interrupted. The same command goes on" in caplog.text


@pytest.mark.parametrize("stage", ["write_set", "read_part"])
def test_a_file_that_could_not_be_written_has_no_name(
    fake_simulation, tmp_path, monkeypatch, stage
):
    def half(path, *rest):
        path.write_bytes(b"half") if stage == "write_set" else None
        raise OSError("the disk is full")

    path = SETTINGS.path(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(generation, stage, half)
        with pytest.raises(OSError, match="the disk is full"):
            prepare(SETTINGS, tmp_path)
    assert not path.exists()
    prepare(SETTINGS, tmp_path)
    np.testing.assert_array_equal(StoredSet.open(path).read(), fake_frames(SETTINGS))


@pytest.mark.parametrize("change", ["versions", "device"])
def test_parts_made_otherwise_are_not_used(fake_simulation, tmp_path, monkeypatch, change):
    interrupt(59)
    with pytest.raises(RuntimeError), monkeypatch.context() as patch:
        if change == "versions":
            patch.setattr(partial, "library_versions", lambda: {"phiflow": "0"})
        prepare(SETTINGS, tmp_path, "cuda" if change == "device" else "cpu")
    fake_simulation.steps = 0
    interrupt(None)
    prepare(SETTINGS, tmp_path)
    assert fake_simulation.steps == 60


def test_a_damaged_part_is_named(fake_simulation, tmp_path):
    interrupt(59)
    with pytest.raises(RuntimeError):
        prepare(SETTINGS, tmp_path)
    interrupt(None)
    part = max(SETTINGS.path(tmp_path).with_suffix(".b2nd.partial").glob("*.npz"))
    part.write_bytes(part.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"group-000-to-00050.npz must hold .*Delete the folder"):
        prepare(SETTINGS, tmp_path)


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


def test_the_progress_names_step_simulations_and_time(fake_simulation, tmp_path, capsys):
    prepare(SCALED, tmp_path)
    told = capsys.readouterr().err
    assert "scaled: step 60 of 60, simulation 3 of 4" in told
    assert "100%" in told
    assert " left" in told


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"phiflow, blosc2, which are not .*'.\[smoke\]'"):
        prepare(SETTINGS, tmp_path)
    assert not list(tmp_path.iterdir())


def _prepare_in_turn(data_dir: Path) -> tuple[str, int]:
    """Runs in a process of its own."""
    generation.Simulation = SlowSimulation
    path = prepare(SETTINGS, data_dir)
    return str(path), FakeSimulation.steps


class SlowSimulation(FakeSimulation):
    """Leaves the other process the time to come second."""

    def step(self):
        multiprocessing.Event().wait(0.01)
        super().step()


@pytest.mark.slow
def test_processes_wait_for_the_one_that_simulates(tmp_path):
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        wait([pool.submit(_warm_up) for _ in range(4)])
        made = [pool.submit(_prepare_in_turn, tmp_path) for _ in range(2)]
        results = [future.result(timeout=100) for future in made]
    assert {path for path, _ in results} == {str(SETTINGS.path(tmp_path))}
    assert sorted(steps for _, steps in results) == [0, 60]
    stored = StoredSet.open(SETTINGS.path(tmp_path), SETTINGS)
    np.testing.assert_array_equal(stored.read(), fake_frames(SETTINGS))


def _warm_up() -> None:
    multiprocessing.Event().wait(0.2)


@pytest.mark.slow
def test_a_simulated_set_is_the_same_after_an_interruption(tmp_path, monkeypatch):
    settings = tiny_settings(num_steps=40)
    expected = prepare(settings, tmp_path / "whole").read_bytes()

    class Stopped(generation.Simulation):
        def step(self):
            if self.num_steps == 33:
                raise RuntimeError("stopped")
            super().step()

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="stopped"):
        patch.setattr(generation, "Simulation", Stopped)
        prepare(settings, tmp_path)
    prepare(settings, tmp_path)
    assert settings.path(tmp_path).read_bytes() == expected
    assert StoredSet.open(settings.path(tmp_path)).max_divergence < 1e-5
