"""Time the simulation of plumes against PhiFlow's advection and pressure solves.

python scripts/benchmark_smoke.py --rounds 5 --output smoke.json
"""

import rootutils

ROOT = rootutils.setup_root(__file__, indicator=".project-root", pythonpath=True, dotenv=False)

import numpy as np  # noqa: E402
import torch  # noqa: E402

from scripts.benchmarks.tables import Table, make_parser, parse, report  # noqa: E402
from scripts.benchmarks.timing import time_in_turn  # noqa: E402
from src.data.smoke.plumes import rotation_plumes  # noqa: E402
from src.data.smoke.pressure import project  # noqa: E402
from src.data.smoke.simulation import Simulation, group_by_resolution  # noqa: E402
from tests.helpers.slow_smoke import PhiFlowPlumes  # noqa: E402

# PhiFlow's "auto" is scipy-direct here; its own conjugate gradients diverge on some of the plumes.
SOLVERS = ("scipy-CG", "scipy-direct")
DT = 1.0  # of velocity and smoke
CPU = torch.device("cpu")
NOTE = (
    "Float64, a step of velocity and smoke by 1. PhiFlow has all plumes in one batch, ours groups "
    "of 8. Ratios: of minima (10-90 % of the rounds' ratios). Exact: with the pressure of ours."
)


def main() -> None:
    """Print the table, and write it as JSON where asked to."""
    parser = make_parser(__doc__, rounds=5)
    add = parser.add_argument
    add("--plumes", type=int, default=36, help="plumes of the rotation set")
    add("--steps", type=int, default=30, help="steps before the one that is timed")
    add("--solvers", choices=SOLVERS, nargs="*", default=list(SOLVERS), help="PhiFlow's")
    given = parse(parser)
    settings = {"inflow": (32, 5), "radius": 5, "buoyancy": (0.01, 0.01, 0.011, 0.01)}
    plumes = rotation_plumes(given.plumes, resolution=64, **settings)
    parts = [
        Simulation([plumes[index] for index in group], velocity_dt=DT, smoke_dt=DT)
        for group in group_by_resolution(plumes)
    ]
    for _ in range(given.steps):
        step_all(parts)
    states = [part.state() for part in parts]
    smoke = np.concatenate([state["smoke"] for state in states])
    faces = np.concatenate([state["faces"] for state in states], 1)
    twin = PhiFlowPlumes(plumes, DT, DT)
    twin.set_fields(smoke, faces)
    flow = torch.from_numpy(faces)
    versions = {"ours": lambda: step_all(parts), "exact": lambda: (twin.advected(), project(flow))}
    for solver in given.solvers:
        versions[solver] = lambda solver=solver: twin.projected(twin.advected()[1], solver)
    timed = time_in_turn(versions, given.rounds, CPU, "step")
    rows = [
        {
            "PhiFlow's advection and pressure": name,
            "PhiFlow / ours": timed.ratio(name, "ours"),
            "PhiFlow, ms": timed.minimum(name) * 1e3,
            "ours, ms": timed.minimum("ours") * 1e3,
        }
        for name in ("exact", *given.solvers)
    ]
    report([Table(f"A step of {given.plumes} plumes after {given.steps} steps", rows, NOTE)], given)


def step_all(simulations: list[Simulation]) -> None:
    """Advance all groups by one step."""
    for simulation in simulations:
        simulation.step()


if __name__ == "__main__":
    main()
