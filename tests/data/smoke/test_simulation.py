import subprocess
import sys

import numpy as np
import pytest
import torch

from src.data.smoke.plumes import Plume, level_plumes, rotation_plumes, scale_plumes
from src.data.smoke.simulation import LAYOUTS, Simulation, group_by_resolution
from src.data.smoke.symmetry import data_equivariance_error
from src.models.components.gcnn.actions import transform_vector_field
from tests.helpers.equivariance import GATES

SMALL = {"inflow": (8, 3), "radius": 2, "buoyancy": 0.1, "resolution": 16}
FULL = {"inflow": (32, 5), "radius": 5, "buoyancy": 0.005, "resolution": 64}
PUBLISHED = [0.0, 0.17, 0.313, 0.435, 0.541, 0.63, 0.709, 0.78, 0.84, 0.896]


def advanced(plumes, num_steps, **options):
    simulation = Simulation(plumes, **{"velocity_dt": 0.5, **options})
    for _ in range(num_steps):
        simulation.step()
    return simulation


def turned_back_error(velocity):
    """Largest difference to side 0 after turning back, over the largest velocity."""
    sides = torch.from_numpy(velocity)
    back = torch.cat([transform_vector_field(sides[s : s + 1], "c4", s) for s in range(4)])
    return ((back - sides[0]).abs().max() / sides[0].abs().max()).item()


@pytest.fixture(scope="module")
def level_0():
    return advanced(level_plumes(0, **SMALL), 5, dtype="float64")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_four_sides_are_quarter_turns_of_one_another(level_0, dtype):
    simulation = Simulation(level_0.plumes, velocity_dt=0.5, dtype=dtype)
    simulation.restore(level_0.state())
    velocity = simulation.velocity("centered")
    assert (velocity.dtype, velocity.shape) == (dtype, (4, 2, 16, 16))
    assert np.abs(velocity).max() > 0.2
    assert turned_back_error(velocity) < GATES[getattr(torch, dtype)]
    assert velocity[0, 1, 3, 8] > 0.1, "side 0 moves to growing y"
    assert abs(velocity[0, 0, 3, 8]) < velocity[0, 1, 3, 8] / 3


TWINS = (
    Plume((1,), 0, (9.5, 4), 1.5, (-0.05, 0.1), resolution=12),
    Plume((2,), 0, (6, 2), 2.0, (0.0, 0.1), (0.05, 0.3), resolution=12),
    Plume((3,), 0, (4, 3), 2.0, (0.5, 1.5), resolution=12),  # several cells in a step
)


@pytest.mark.slow
@pytest.mark.parametrize("steps, rounds", [(0, 4), (3, 1), (10, 2)])
def test_agrees_with_phiflow_alone_from_rest_and_in_full_flow(steps, rounds):
    from tests.helpers.slow_smoke import PhiFlowPlumes  # importing PhiFlow takes seconds

    ours = advanced(TWINS, steps, smoke_dt=0.75, dtype="float64")
    twin = PhiFlowPlumes(TWINS, velocity_dt=0.5, smoke_dt=0.75)
    state = ours.state()
    twin.set_fields(state["smoke"], state["faces"])
    for _ in range(rounds):
        ours.step()
        twin.step()
    smoke, faces = twin.fields()
    np.testing.assert_allclose(ours.state()["smoke"], smoke, rtol=0, atol=1e-12 * smoke.max())
    largest = np.abs(faces).max((0, 2, 3))
    assert (largest > 0.2).all() and largest[2] > 2
    np.testing.assert_allclose(ours.state()["faces"], faces, rtol=0, atol=1e-12 * largest.max())


def test_velocities_are_means_of_the_faces_of_a_cell_or_those_at_its_lower_faces():
    simulation = advanced(TWINS, 2, dtype="float64")
    walls = np.pad(simulation.state()["faces"], ((0, 0), (0, 0), (1, 1), (0, 0)))
    x, y = walls[0].swapaxes(1, 2), walls[1]  # [plume, row, column]
    expected = {
        "centered": ((x[..., :-1] + x[..., 1:]) / 2, (y[:, :-1] + y[:, 1:]) / 2),
        "staggered_cropped": (x[..., :-1], y[:, :-1]),
    }
    for layout in LAYOUTS:
        np.testing.assert_array_equal(simulation.velocity(layout), np.stack(expected[layout], 1))
    smoke = simulation.state()["smoke"].swapaxes(1, 2)[:, None]
    np.testing.assert_array_equal(simulation.density(), smoke)
    assert simulation.density()[2, 0, 3, 4] > 1, "inflow at x = 4, y = 3"


def test_starts_at_rest_and_goes_on_from_a_state_bit_for_bit(tmp_path):
    plumes = rotation_plumes(3, **SMALL | {"buoyancy": [0.1] * 4})
    resumed, whole = Simulation(plumes, velocity_dt=0.5), advanced(plumes, 2)
    assert not resumed.velocity().any()
    assert (resumed.max_divergence(), resumed.num_steps) == (0, 0)
    state = whole.state()
    np.savez(tmp_path / "state.npz", **state)
    whole.step()
    assert 0 < whole.max_divergence() < 1e-12
    with np.load(tmp_path / "state.npz") as read:
        assert all(np.array_equal(state[name], read[name]) for name in state), "a copy"
        resumed.restore(read)
    resumed.step()
    assert resumed.num_steps == 3
    assert all(np.array_equal(a, resumed.state()[name]) for name, a in whole.state().items())


def test_plumes_of_one_resolution_are_simulated_together_while_the_cache_holds_them():
    plumes = scale_plumes([1, 1.5, 1, 1.51], **SMALL)
    assert group_by_resolution(plumes) == [[0, 2], [1, 3]]
    many = [*level_plumes(0, **FULL), *level_plumes(1, **FULL), *scale_plumes([1, 4, 4], **FULL)]
    assert group_by_resolution(many) == [list(range(8)), [8], [9], [10]]
    for wrong, got in ((plumes[:2], r"\[16, 24\]"), ([], r"\[\]")):
        with pytest.raises(ValueError, match=r"`plumes` must be at least one, .* got " + got):
            Simulation(wrong, velocity_dt=0.5)
    with pytest.raises(ValueError, match=r"`layout` must be one of centered, .*; got 'staggered'"):
        Simulation(level_plumes(0, **SMALL), velocity_dt=1).velocity("staggered")


@pytest.mark.slow
def test_importing_the_data_modules_imports_no_slow_package():
    modules = "src.data.smoke.datamodule, src.data.rotmnist.datamodule"
    slow = {"phi", "blosc2", "pooch", "mlxtend"}  # PhiFlow is for tests alone
    code = f"import sys, {modules}; sys.exit(str({slow} & set(sys.modules) or ''))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == ""


@pytest.fixture(scope="module")
def levels():
    """Frames [10, 4, 60, 2, 64, 64] of all levels by layout, divergences, and the simulation."""
    plumes = [plume for level in range(10) for plume in level_plumes(level, **FULL)]
    simulation = Simulation(plumes, velocity_dt=0.5)
    frames, divergences = {layout: [] for layout in LAYOUTS}, []
    for _ in range(60):
        simulation.step()
        divergences.append(simulation.max_divergence())
        for layout, own in frames.items():
            own.append(simulation.velocity(layout))
    stacked = {layout: torch.from_numpy(np.stack(own, 1)) for layout, own in frames.items()}
    by_level = {layout: own.unflatten(0, (10, 4)) for layout, own in stacked.items()}
    return by_level, divergences, simulation


@pytest.mark.slow
def test_equivariance_errors_of_the_levels_are_those_published(levels):
    # of the 50 frames that are kept, 10 to 59, those from the tenth to the last but one
    frames = levels[0]["staggered_cropped"][:, :, 20:59]
    errors = [data_equivariance_error(level, "staggered_cropped") for level in frames]
    assert errors == pytest.approx(PUBLISHED, abs=0.001)


@pytest.mark.slow
def test_level_0_stays_symmetric_and_no_level_has_divergence(levels):
    frames, divergences, simulation = levels
    assert max(divergences) < 1e-12
    level_0, level_4 = (frames["centered"][level] for level in (0, 4))
    assert max(turned_back_error(level_0[:, t].numpy()) for t in range(60)) < GATES[torch.float32]
    assert data_equivariance_error(level_0, "centered") < 1e-7
    assert data_equivariance_error(level_4, "centered") > 0.1
    exact = Simulation(simulation.plumes, velocity_dt=0.5, dtype="float64")
    exact.restore(simulation.state())
    assert turned_back_error(exact.velocity()[:4]) < GATES[torch.float64]
