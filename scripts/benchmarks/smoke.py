"""Pressure of simulated plumes: the cosine transform against PhiFlow's own solves."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from scripts.benchmarks.tables import Table
from scripts.benchmarks.timing import time_in_turn
from src.data.smoke.advection import Advection
from src.data.smoke.plumes import rotation_plumes
from src.data.smoke.pressure import divergence, project
from src.data.smoke.simulation import Simulation

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from phi.math import Solve
    from phi.physics import fluid

# PhiFlow's "auto" is scipy-direct here; its own conjugate gradients diverge on some of the plumes.
SOLVERS = {
    "scipy-CG": lambda: Solve("scipy-CG", 1e-5, 1e-5),
    "scipy-direct": lambda: Solve("scipy-direct"),
}
VELOCITY_DT, SMOKE_DT = 1.0, 1.0
NOTE = (
    "Float64. Ratios: time with PhiFlow's `fluid.make_incompressible` / time with ours, of minima "
    "(10-90 % of the rounds' ratios); step: advection, buoyancy and pressure. Divergence: the "
    "largest left by one solve, in 1 / time unit."
)

Faces = tuple[Tensor, Tensor]


def phiflow_project(advection: Advection, solver: str) -> Callable[[Tensor, Tensor], Faces]:
    """PhiFlow's own way from velocities at the faces to those without divergence."""

    def run(x_faces: Tensor, y_faces: Tensor) -> Faces:
        with advection.settings():
            warnings.simplefilter("ignore")  # PhiFlow's use of torch.jit, and a singular matrix
            velocity = advection.velocity(x_faces, y_faces)
            velocity, _ = fluid.make_incompressible(velocity, (), SOLVERS[solver]())
            x_faces, y_faces = (faces.values.native("plumes,x,y") for faces in velocity.vector)
        return x_faces, y_faces

    return run


def benchmark(
    num_plumes: int, num_steps: int, solvers: list[str], rounds: int, device: torch.device
) -> Table:
    """Solve and step of the rotation set's first plumes, ``num_steps`` steps after the start."""
    plumes = rotation_plumes(
        num_plumes, inflow=(32, 5), radius=5, buoyancy=(0.01, 0.01, 0.011, 0.01), resolution=64
    )
    simulation = Simulation(plumes, velocity_dt=VELOCITY_DT, smoke_dt=SMOKE_DT, device=device)
    for _ in range(num_steps):
        simulation.step()
    state = {name: torch.from_numpy(array).to(device) for name, array in simulation.state().items()}
    del state["num_steps"]
    advection = Advection(plumes, VELOCITY_DT, SMOKE_DT, device)
    _, *faces = advection.step(**state)
    projections = {name: phiflow_project(advection, name) for name in solvers}
    projections["ours"] = project
    solves = {name: lambda p=p: p(*faces) for name, p in projections.items()}
    steps = {name: lambda p=p: p(*advection.step(**state)[1:]) for name, p in projections.items()}
    timed = {
        "solve": time_in_turn(solves, rounds, device, "pressure solve"),
        "step": time_in_turn(steps, rounds, device, "step"),
    }
    left = {name: divergence(*p(*faces)).abs().max().item() for name, p in projections.items()}
    rows = [
        {
            "PhiFlow's solver": name,
            **{f"{what}: PhiFlow / ours": t.ratio(name, "ours") for what, t in timed.items()},
            **{f"{what}, ms": t.minimum(name) * 1e3 for what, t in timed.items()},
            **{f"our {what}, ms": t.minimum("ours") * 1e3 for what, t in timed.items()},
            "divergence": left[name],
            "our divergence": left["ours"],
        }
        for name in solvers
    ]
    return Table(f"Pressure of {num_plumes} plumes after {num_steps} steps", rows, NOTE)
