"""Seconds until `src/train.py` answers --help, until its first step, and for a run of one epoch.

python scripts/benchmark_startup.py --rounds 5
"""

import os
import subprocess
import sys
import tempfile
import time
from typing import Any

import rootutils

ROOT = rootutils.setup_root(__file__, indicator=".project-root", pythonpath=True, dotenv=False)

from lightning import Callback  # noqa: E402
from tqdm import tqdm  # noqa: E402

from scripts.benchmarks.tables import Table, make_parser, parse, report  # noqa: E402

TRAIN = [sys.executable, str(ROOT / "src" / "train.py")]
STOP = "+callbacks.stop._target_=scripts.benchmark_startup.ExitAtFirstStep"
FLOOR = "import torch, lightning.pytorch"


class ExitAtFirstStep(Callback):
    """Ends the process at once and with success."""

    def on_train_batch_end(self, *_: Any) -> None:
        os._exit(0)


def main() -> None:
    """Time all commands in turn."""
    arguments = parse(make_parser(__doc__, rounds=5))
    environment = os.environ | {"WANDB_MODE": "offline"}
    with tempfile.TemporaryDirectory() as folder:
        run = [*TRAIN, "experiment=rgcnn_rotmnist", f"paths.log_dir={folder}"]
        experiment = [*run, STOP]
        commands = {
            "imports alone": [sys.executable, "-c", FLOOR],
            "--help": [*TRAIN, "--help"],
            "first optimizer step, rgcnn_rotmnist": [*experiment, "logger=csv"],
            "the same without measures": [*experiment, "callbacks=minimal", "logger=none"],
            "one epoch with its test": [*run, "trainer.max_epochs=1"],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in tqdm(range(arguments.rounds + 1), leave=False):  # the first one warms up
            for name, command in commands.items():
                start = time.perf_counter()
                quiet = {"stdout": subprocess.DEVNULL, "env": environment}
                subprocess.run(command, cwd=ROOT, check=True, **quiet)
                times[name].append(time.perf_counter() - start)
    rows = [{"what": name, "seconds": min(found[1:])} for name, found in times.items()]
    note = f"Least of the rounds, from starting Python. For comparison: `python -c '{FLOOR}'`."
    report([Table("Start-up", rows, note)], arguments)


if __name__ == "__main__":
    main()
