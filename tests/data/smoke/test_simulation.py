import subprocess
import sys

import numpy as np
import pytest
import torch

from src.data.smoke import simulation as module
from src.data.smoke.plumes import (
    Plume,
    level_plumes,
    rotation_plumes,
    scale_plumes,
    translation_plumes,
)
from src.data.smoke.simulation import LAYOUTS, Simulation, group_by_resolution
from src.data.smoke.symmetry import data_equivariance_error
from src.errors import UserError
from src.models.components.gcnn.actions import transform_vector_field
from tests.helpers.equivariance import GATES
from tests.helpers.slow_smoke import slow_simulation

SMALL = {"inflow": (8, 3), "radius": 2, "buoyancy": 0.1, "resolution": 16}
FULL = {"inflow": (32, 5), "radius": 5, "buoyancy": 0.005, "resolution": 64}
PUBLISHED = [0.0, 0.17, 0.313, 0.435, 0.541, 0.63, 0.709, 0.78, 0.84, 0.896]


def advanced(plumes, num_steps, **options):
    simulation = Simulation(plumes, velocity_dt=0.5, **options)
    for _ in range(num_steps):
        simulation.step()
    return simulation


def turned_back_error(velocity):
    """Largest difference to side 0 after turning back, over the largest velocity."""
    sides = torch.from_numpy(velocity)
    back = [transform_vector_field(sides[s : s + 1], "c4", s)[0] for s in range(4)]
    return max(((v - sides[0]).abs().max() / sides[0].abs().max()).item() for v in back)


@pytest.fixture(scope="module")
def level_0():
    return advanced(level_plumes(0, **SMALL), 8, dtype="float64")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_four_sides_are_quarter_turns_of_one_another(level_0, dtype):
    simulation = Simulation(level_0.plumes, velocity_dt=0.5, dtype=dtype)
    simulation.restore(level_0.state())
    velocity = simulation.velocity("centered")
    assert velocity.dtype == dtype
    assert velocity.shape == (4, 2, 16, 16)
    assert np.abs(velocity).max() > 0.3
    assert turned_back_error(velocity) < GATES[getattr(torch, dtype)]


def test_four_sides_of_a_higher_level_are_not():
    velocity = advanced(level_plumes(1, **SMALL), 4, dtype="float64").velocity("centered")
    assert turned_back_error(velocity) > 0.1


@pytest.mark.parametrize(
    ("side", "component", "sign"), [(0, 1, 1), (1, 0, -1), (2, 1, -1), (3, 0, 1)]
)
def test_smoke_moves_to_its_side(level_0, side, component, sign):
    velocity = level_0.velocity("centered")[side]
    column, row = level_0.plumes[side].inflow
    at_inflow = velocity[:, min(int(row), 15), min(int(column), 15)]
    assert sign * at_inflow[component] > 0.1
    assert abs(at_inflow[component]) > 3 * abs(at_inflow[1 - component])


TWINS = {
    "up": Plume((0,), 0, (6, 3), 2.0, (0.0, 0.1), resolution=12),
    "aslant": Plume((1,), 0, (9.5, 4), 1.5, (-0.05, 0.1), resolution=12),
    "halves": Plume((2,), 0, (6, 2), 2.0, (0.0, 0.1), (0.05, 0.3), resolution=12),
}


@pytest.fixture(scope="module")
def twins():
    return advanced(list(TWINS.values()), 6, dtype="float64")


@pytest.mark.parametrize("name", TWINS)
def test_agrees_with_phiflow_alone(twins, name):
    index = list(TWINS).index(name)
    full = slow_simulation(TWINS[name], 6, 0.5)
    assert np.abs(full).max() > 0.3
    cropped = twins.velocity("staggered_cropped")[index]
    np.testing.assert_allclose(cropped, full[:, :-1, :-1], rtol=0, atol=1e-12)
    (x, y), centered = full, twins.velocity("centered")[index]
    np.testing.assert_allclose(centered[0], (x[:-1, :-1] + x[:-1, 1:]) / 2, rtol=0, atol=1e-12)
    np.testing.assert_allclose(centered[1], (y[:-1, :-1] + y[1:, :-1]) / 2, rtol=0, atol=1e-12)


def test_plumes_of_a_batch_do_not_touch_one_another(twins):
    alone = advanced([TWINS["aslant"]], 6, dtype="float64").velocity()
    np.testing.assert_allclose(alone[0], twins.velocity()[1], rtol=0, atol=1e-13)


def test_no_divergence(twins):
    assert 0 < twins.max_divergence() < 1e-12
    assert twins.num_steps == 6


def test_starts_at_rest():
    simulation = Simulation(list(TWINS.values()), velocity_dt=0.5)
    assert not simulation.velocity().any()
    assert simulation.max_divergence() == 0
    assert simulation.num_steps == 0


def test_goes_on_from_a_state_bit_for_bit(tmp_path):
    plumes = rotation_plumes(3, **{**SMALL, "buoyancy": [0.1] * 4})
    whole = advanced(plumes, 3)
    state = whole.state()
    kept = {name: array.copy() for name, array in state.items()}
    np.savez(tmp_path / "state.npz", **state)
    for _ in range(3):
        whole.step()
    assert all(np.array_equal(state[name], kept[name]) for name in kept)
    resumed = Simulation(plumes, velocity_dt=0.5)
    with np.load(tmp_path / "state.npz") as read:
        resumed.restore(read)
    assert resumed.num_steps == 3
    for _ in range(3):
        resumed.step()
    assert resumed.num_steps == 6
    for name, array in whole.state().items():
        assert np.array_equal(array, resumed.state()[name])


def test_times_of_both_advections_matter():
    plumes = level_plumes(0, **SMALL)[:1]
    velocities = []
    for velocity_dt, smoke_dt in ((0.5, 1.0), (1.0, 1.0), (0.5, 0.5)):
        simulation = Simulation(plumes, velocity_dt=velocity_dt, smoke_dt=smoke_dt)
        for _ in range(4):
            simulation.step()
        velocities.append(simulation.velocity())
    assert not np.allclose(velocities[0], velocities[1], atol=1e-3)
    assert not np.allclose(velocities[0], velocities[2], atol=1e-3)


def test_translation_plumes_rise_faster_on_the_right():
    options = {"radius": 2, "buoyancy": 0.1, "buoyancy_right": 0.2, "resolution": 16}
    left, right = advanced(translation_plumes([4, 12], [3], **options), 2).velocity()[:, 1]
    np.testing.assert_allclose(right[3, 12], 2 * left[3, 4], rtol=0.2)


def test_group_by_resolution():
    plumes = scale_plumes([1, 1.5, 1, 1.51], **SMALL)
    assert group_by_resolution(plumes) == [[0, 2], [1, 3]]
    assert group_by_resolution([]) == []


def test_says_what_is_wrong():
    plumes = level_plumes(0, **SMALL)
    with pytest.raises(
        ValueError, match=r"all of one resolution, .* got the resolutions \[16, 24\]"
    ):
        Simulation(scale_plumes([1, 1.5], **SMALL), velocity_dt=0.5)
    with pytest.raises(ValueError, match=r"`plumes` must be at least one.* resolutions \[\]"):
        Simulation([], velocity_dt=0.5)
    with pytest.raises(ValueError, match=r"`velocity_dt` must be a positive time; got 0. Use 1"):
        Simulation(plumes, velocity_dt=0)
    with pytest.raises(ValueError, match=r"`velocity_dt` must be a positive time; got '1'. Use 1"):
        Simulation(plumes, velocity_dt="1")
    with pytest.raises(ValueError, match=r"`smoke_dt` must be a positive time; got -1. Use 1"):
        Simulation(plumes, velocity_dt=1, smoke_dt=-1)
    with pytest.raises(ValueError, match=r"`dtype` must be one of float32, float64; got 'float16'"):
        Simulation(plumes, velocity_dt=1, dtype="float16")
    with pytest.raises(ValueError, match=r"`layout` must be one of centered, .*; got 'staggered'"):
        Simulation(plumes, velocity_dt=1).velocity("staggered")


def test_refuses_the_state_of_other_plumes():
    state = Simulation(level_plumes(0, **SMALL), velocity_dt=1).state()
    other = Simulation(level_plumes(0, **SMALL)[:2], velocity_dt=1)
    message = r"`smoke` of a state must have the shape \[2, 16, 16\] .*; got \[4, 16, 16\]. Restore"
    with pytest.raises(ValueError, match=message):
        other.restore(state)


def test_names_the_command_that_installs_phiflow(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"PhiFlow, .* Run `pip install -e '.\[smoke\]'`"):
        Simulation(level_plumes(0, **SMALL), velocity_dt=1)


@pytest.mark.slow
def test_importing_it_does_not_import_phiflow():
    code = f"import sys, {Simulation.__module__}; sys.exit('phi' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


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
def test_level_0_stays_symmetric(levels):
    frames, _, simulation = levels
    level_0 = frames["centered"][0].numpy()
    assert max(turned_back_error(level_0[:, t]) for t in range(60)) < GATES[torch.float32]
    exact = Simulation(simulation.plumes, velocity_dt=0.5, dtype="float64")
    exact.restore(simulation.state())
    assert turned_back_error(exact.velocity()[:4]) < GATES[torch.float64]


@pytest.mark.slow
def test_no_level_has_divergence(levels):
    assert max(levels[1]) < 1e-12
