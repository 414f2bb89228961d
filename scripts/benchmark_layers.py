"""Time the layers, networks and data of this project against other ways, versions in turn.

python scripts/benchmark_layers.py --rounds 20 --output benchmark.json
"""

import os
from pathlib import Path

import rootutils

os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # the profiler reports its starts otherwise

ROOT = rootutils.setup_root(__file__, indicator=".project-root", pythonpath=True, dotenv=False)

import torch  # noqa: E402

from scripts.benchmarks import data, growth, layers, networks, relaxation, steps  # noqa: E402
from scripts.benchmarks.tables import make_parser, parse, report  # noqa: E402
from scripts.benchmarks.timing import Settings  # noqa: E402

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}
PARTS = ("lifting", "group", "networks", "memory", "data", *steps.NETWORKS, "library", "growth")
PARTS += ("relaxation",)


def main() -> None:
    """Print the tables, and write them as JSON where asked to."""
    parser = make_parser(__doc__, rounds=20)
    add = parser.add_argument
    add("--device", type=torch.device, default=torch.device("cpu"))
    add("--dtype", choices=DTYPES, default="float32")
    add("--compile", action="store_true", help="compile all but e2cnn")
    add("--only", choices=PARTS, nargs="+", default=PARTS, help="parts to run")
    add("--data-dir", type=Path, default=ROOT / "data", help="where the digits are")
    arguments = parse(parser)
    dtype = DTYPES[arguments.dtype]
    settings = Settings(arguments.rounds, arguments.device, dtype, arguments.compile)
    tables = [layers.benchmark(kind, settings) for kind in layers.SIZES if kind in arguments.only]
    if "networks" in arguments.only:
        tables += networks.benchmark(settings)
    if "memory" in arguments.only:
        tables.append(layers.benchmark_memory(settings))
    if "data" in arguments.only:
        tables.append(data.benchmark(settings, arguments.data_dir))
    for name in steps.NETWORKS:
        tables += steps.benchmark(name, settings) if name in arguments.only else []
    if "library" in arguments.only:
        tables.append(steps.benchmark_library(settings))
    if "growth" in arguments.only:
        tables.append(growth.benchmark(settings))
    if "relaxation" in arguments.only:
        tables += [relaxation.benchmark(name, settings) for name in relaxation.WIDTHS]
    report(tables, arguments)


if __name__ == "__main__":
    main()
