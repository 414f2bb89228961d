"""Estimate how long experiments train on this machine, from a few measured steps of each.

python scripts/estimate_cost.py rgcnn_rotmnist rgcnn_smoke_rotation --batch-size 1
"""

import argparse
from pathlib import Path

import rootutils

ROOT = rootutils.setup_root(__file__, indicator=".project-root", pythonpath=True, dotenv=False)

import torch  # noqa: E402

from scripts.benchmarks import cost  # noqa: E402
from scripts.benchmarks.tables import Table, report  # noqa: E402
from src.runs.environment import describe_environment  # noqa: E402

EXPERIMENTS = sorted(path.stem for path in (ROOT / "configs" / "experiment").glob("*.yaml"))


def parse_arguments() -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiments", nargs="+", choices=EXPERIMENTS, metavar="experiment")
    parser.add_argument(
        "--override", action="append", default=[], help="e.g. data.source=rotmnist; may be repeated"
    )
    parser.add_argument("--steps", type=int, default=3, help="steps to time, after one to warm up")
    parser.add_argument(
        "--batch-size",
        type=int,
        help="time steps of at most so many samples, and take the whole batch for proportional",
    )
    parser.add_argument("--device", type=torch.device, default=default_device())
    parser.add_argument("--threads", type=int, help="threads of PyTorch on the CPU")
    parser.add_argument("--output", type=Path, help="JSON file for all figures")
    return parser.parse_args()


def default_device() -> torch.device:
    """The machine's accelerator, or else its CPU."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def main() -> None:
    """Print the table, and write it as JSON where asked to."""
    arguments = parse_arguments()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    rows = []
    for name in arguments.experiments:
        config = cost.compose_experiment(name, arguments.override)
        measured = cost.estimate(config, arguments.device, arguments.steps, arguments.batch_size)
        rows.append(measured.row(name))
    report(
        [Table(f"Training on {device_name(arguments.device)}", rows, note(arguments))], arguments
    )


def device_name(device: torch.device) -> str:
    """What a reader knows the device by."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    devices = describe_environment(ROOT, seed=0)["devices"]
    threads = devices["torch_threads"]
    return f"{devices['cpu']}, {threads} thread{'s' if threads > 1 else ''}"


def note(arguments: argparse.Namespace) -> str:
    """What the figures are, and are not."""
    return (
        f"s/step: fastest of {arguments.steps} steps (forward, backward, update) on random samples "
        "of the experiment's shape; where the timed batch is smaller, proportionally more. Hours: "
        "of all steps of the training, without validation, tests and measures."
    )


if __name__ == "__main__":
    main()
