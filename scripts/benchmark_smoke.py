"""Time the simulation of plumes with the exact pressure against PhiFlow's own pressure solves.

python scripts/benchmark_smoke.py --rounds 5 --output smoke.json
"""

import argparse
from pathlib import Path

import rootutils

ROOT = rootutils.setup_root(__file__, indicator=".project-root", pythonpath=True, dotenv=False)

import torch  # noqa: E402

from scripts.benchmarks import smoke  # noqa: E402
from scripts.benchmarks.tables import report  # noqa: E402


def parse_arguments() -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="rounds of every comparison")
    parser.add_argument("--plumes", type=int, default=36, help="plumes of the rotation set")
    parser.add_argument("--steps", type=int, default=30, help="steps before the one that is timed")
    parser.add_argument(
        "--solvers", choices=smoke.SOLVERS, nargs="+", default=list(smoke.SOLVERS), help="PhiFlow's"
    )
    parser.add_argument("--output", type=Path, help="JSON file for all figures")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--threads", type=int, help="threads of PyTorch on the CPU")
    return parser.parse_args()


def main() -> None:
    """Print the table, and write it as JSON where asked to."""
    arguments = parse_arguments()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    table = smoke.benchmark(
        arguments.plumes, arguments.steps, arguments.solvers, arguments.rounds, arguments.device
    )
    report([table], arguments)


if __name__ == "__main__":
    main()
