"""Time the layers, networks and data of this project against other ways, versions in turn.

python scripts/benchmark_layers.py --rounds 20 --output benchmark.json
"""

import argparse
from pathlib import Path

import rootutils

ROOT = rootutils.setup_root(__file__, indicator=".project-root", pythonpath=True, dotenv=False)

import torch  # noqa: E402

from scripts.benchmarks import data, layers, memory, networks  # noqa: E402
from scripts.benchmarks.settings import Settings  # noqa: E402
from scripts.benchmarks.tables import Table, report  # noqa: E402

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}
PARTS = ("lifting", "group", "networks", "memory", "data")


def parse_arguments() -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20, help="rounds of every comparison")
    parser.add_argument("--output", type=Path, help="JSON file for all figures")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--threads", type=int, help="threads of PyTorch on the CPU")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--compile", action="store_true", help="compile all but e2cnn")
    parser.add_argument("--channels-last", action="store_true", help="networks in channels_last")
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS, help="parts to run")
    parser.add_argument("--data-dir", type=Path, default=ROOT / "data", help="where the digits are")
    return parser.parse_args()


def run(arguments: argparse.Namespace, settings: Settings) -> list[Table]:
    """The tables of the parts asked for."""
    tables = [layers.benchmark(k, settings) for k in layers.SIZES if k in arguments.only]
    if "networks" in arguments.only:
        tables += networks.benchmark(settings, arguments.channels_last)
    if "memory" in arguments.only:
        tables.append(memory.benchmark(settings))
    if "data" in arguments.only:
        tables.append(data.benchmark(settings, arguments.data_dir))
    return tables


def main() -> None:
    """Print the tables, and write them as JSON where asked to."""
    arguments = parse_arguments()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    settings = Settings(
        arguments.rounds, arguments.device, DTYPES[arguments.dtype], arguments.compile
    )
    report(run(arguments, settings), arguments)


if __name__ == "__main__":
    main()
