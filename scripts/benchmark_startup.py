"""Seconds until `src/train.py` answers --help, and until its first optimizer step.

python scripts/benchmark_startup.py --rounds 5
"""

import argparse
import subprocess
import sys
import tempfile
import time

import rootutils

ROOT = rootutils.setup_root(__file__, indicator=".project-root", pythonpath=True, dotenv=False)

from tqdm import tqdm  # noqa: E402

from scripts.benchmarks.tables import Table  # noqa: E402

TRAIN = [sys.executable, str(ROOT / "src" / "train.py")]
STOP = "+callbacks.stop._target_=scripts.benchmarks.startup.ExitAtFirstStep"
EXPERIMENT = [*TRAIN, "experiment=rgcnn_rotmnist", STOP]
FLOOR = "import torch, lightning.pytorch"
NOTE = (
    "Least of the rounds, from starting Python; the digits are prepared before. For comparison: "
    f"`python -c '{FLOOR}'`."
)


def seconds(command: list[str]) -> float:
    """Wall time of a command, which must succeed."""
    start = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="rounds of every command")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(rounds, f"hydra.run.dir={folder}")
    print(Table("Start-up", rows, NOTE).markdown())


def measure(rounds: int, run_dir: str) -> list[dict[str, str | float]]:
    """Time all commands in turn."""
    commands = {
        "imports alone": [sys.executable, "-c", FLOOR],
        "--help": [*TRAIN, "--help"],
        "first optimizer step, rgcnn_rotmnist": [*EXPERIMENT, "logger=csv", run_dir],
        "the same without measures": [*EXPERIMENT, "callbacks=minimal", "logger=none", run_dir],
    }
    times = {name: [] for name in commands}
    for _ in tqdm(range(rounds + 1), leave=False):  # the first one warms up
        for name, command in commands.items():
            times[name].append(seconds(command))
    return [{"what": name, "seconds": min(found[1:])} for name, found in times.items()]


if __name__ == "__main__":
    main()
