"""Time the simulation of plumes with the exact pressure against PhiFlow's own pressure solves.

python scripts/benchmark_smoke.py --rounds 5 --output smoke.json
"""

import warnings
from collections.abc import Callable

import rootutils

ROOT = rootutils.setup_root(__file__, indicator=".project-root", pythonpath=True, dotenv=False)

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from scripts.benchmarks.tables import Table, make_parser, parse, report  # noqa: E402
from scripts.benchmarks.timing import time_in_turn  # noqa: E402
from src.data.smoke.advection import Advection  # noqa: E402
from src.data.smoke.plumes import rotation_plumes  # noqa: E402
from src.data.smoke.pressure import divergence, project  # noqa: E402
from src.data.smoke.simulation import Simulation  # noqa: E402

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from phi.math import Solve
    from phi.physics import fluid

# PhiFlow's "auto" is scipy-direct here; its own conjugate gradients diverge on some of the plumes.
SOLVERS = {
    "scipy-CG": lambda: Solve("scipy-CG", 1e-5, 1e-5),
    "scipy-direct": lambda: Solve("scipy-direct"),
}
DT = 1.0  # of velocity and smoke
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


def main() -> None:
    """Print the table, and write it as JSON where asked to."""
    parser = make_parser(__doc__, rounds=5)
    add = parser.add_argument
    add("--plumes", type=int, default=36, help="plumes of the rotation set")
    add("--steps", type=int, default=30, help="steps before the one that is timed")
    add("--solvers", choices=SOLVERS, nargs="+", default=list(SOLVERS), help="PhiFlow's")
    add("--device", type=torch.device, default=torch.device("cpu"))
    given = parse(parser)
    settings = {"inflow": (32, 5), "radius": 5, "buoyancy": (0.01, 0.01, 0.011, 0.01)}
    plumes = rotation_plumes(given.plumes, resolution=64, **settings)
    simulation = Simulation(plumes, velocity_dt=DT, smoke_dt=DT, device=given.device)
    for _ in range(given.steps):
        simulation.step()
    state = {key: torch.from_numpy(a).to(given.device) for key, a in simulation.state().items()}
    del state["num_steps"]
    advection = Advection(plumes, DT, DT, given.device)
    _, *faces = advection.step(**state)
    projections = {name: phiflow_project(advection, name) for name in given.solvers}
    projections["ours"] = project
    solves = {name: lambda p=p: p(*faces) for name, p in projections.items()}
    steps = {name: lambda p=p: p(*advection.step(**state)[1:]) for name, p in projections.items()}
    timed = {
        "solve": time_in_turn(solves, given.rounds, given.device, "pressure solve"),
        "step": time_in_turn(steps, given.rounds, given.device, "step"),
    }
    left = {name: divergence(*p(*faces)).abs().max().item() for name, p in projections.items()}
    rows = []
    for name in given.solvers:
        row = {"PhiFlow's solver": name}
        row |= {f"{what}: PhiFlow / ours": t.ratio(name, "ours") for what, t in timed.items()}
        row |= {f"{what}, ms": t.minimum(name) * 1e3 for what, t in timed.items()}
        row |= {f"our {what}, ms": t.minimum("ours") * 1e3 for what, t in timed.items()}
        rows.append(row | {"divergence": left[name], "our divergence": left["ours"]})
    report(
        [Table(f"Pressure of {given.plumes} plumes after {given.steps} steps", rows, NOTE)], given
    )


if __name__ == "__main__":
    main()
