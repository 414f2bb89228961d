"""Time training with the default callbacks against training with none, in turn.

python scripts/benchmark_callbacks.py --rounds 3
"""

import argparse
import logging
import tempfile
import time
import warnings
from pathlib import Path

import rootutils

ROOT = rootutils.setup_root(__file__, indicator=".project-root", pythonpath=True, dotenv=False)

import torch  # noqa: E402
from hydra import compose, initialize_config_dir  # noqa: E402
from hydra.utils import instantiate  # noqa: E402
from omegaconf import DictConfig  # noqa: E402
from tqdm import tqdm  # noqa: E402

from scripts.benchmarks.tables import Table, report  # noqa: E402
from scripts.benchmarks.timing import Timings  # noqa: E402
from src.runs.resolvers import register_resolvers  # noqa: E402
from src.seeding import seed_run  # noqa: E402

NOTE = (
    "Whole trainings without tests, with the CSV logger; none: no callback at all, not even "
    "checkpoints. CPU time of the process, which other work on the machine disturbs less than wall "
    "time. Ratio of minima (10-90 % of the rounds' ratios)."
)


def config_of(
    experiment: str, callbacks: str | None, folder: Path, epochs: int | None
) -> DictConfig:
    """The experiment's config, with this group of callbacks or none."""
    overrides = [f"experiment={experiment}", "logger=csv", "trainer.enable_progress_bar=false"]
    overrides += [f"paths.output_dir={folder}", f"paths.root_dir={ROOT}"]
    overrides += [] if epochs is None else [f"trainer.max_epochs={epochs}"]
    overrides += [] if callbacks is None else [f"callbacks={callbacks}"]
    register_resolvers()
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose("train", overrides)


def train(config: DictConfig, with_callbacks: bool) -> float:
    """Seconds of CPU time of one training."""
    seed_run(config.seed)
    datamodule, model = (instantiate(config[key], _convert_="all") for key in ("data", "model"))
    entries = config.callbacks.items() if with_callbacks else ()
    callbacks = [instantiate(entry) for _, entry in entries if "ProgressBar" not in entry._target_]
    logger = instantiate(config.logger.csv)
    checkpoints = {"enable_checkpointing": with_callbacks}
    trainer = instantiate(config.trainer, callbacks=callbacks, logger=logger, **checkpoints)
    start = time.process_time()
    trainer.fit(model, datamodule=datamodule)
    return time.process_time() - start


def benchmark(experiment: str, callbacks: str | None, epochs: int | None, rounds: int) -> Table:
    """With the callbacks and without, round after round."""
    seconds: dict[str, list[float]] = {"callbacks": [], "none": []}
    for _ in tqdm(range(rounds), leave=False):
        for version, times in seconds.items():
            with tempfile.TemporaryDirectory() as folder:
                config = config_of(experiment, callbacks, Path(folder), epochs)
                times.append(train(config, version == "callbacks"))
    timings = Timings(seconds)
    row = {
        "experiment": experiment,
        "callbacks": callbacks or "the experiment's",
        "epochs": str(config.trainer.max_epochs),
        "rounds": str(rounds),
        "training / without": timings.ratio("callbacks", "none"),
        "with, s": timings.minimum("callbacks"),
        "without, s": timings.minimum("none"),
    }
    return Table("Cost of the callbacks", [row], NOTE)


def main() -> None:
    """Print the table, and write it as JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experiment", default="rgcnn_rotmnist", help="what is trained")
    parser.add_argument("--callbacks", help="group of callbacks; default: the experiment's")
    parser.add_argument("--epochs", type=int, help="of each training; default: the experiment's")
    parser.add_argument("--rounds", type=int, default=3, help="trainings of each kind")
    parser.add_argument("--threads", type=int, help="threads of PyTorch on the CPU")
    parser.add_argument("--output", type=Path, help="JSON file for all figures")
    arguments = parser.parse_args()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    options = (arguments.experiment, arguments.callbacks, arguments.epochs, arguments.rounds)
    report([benchmark(*options)], arguments)


if __name__ == "__main__":
    main()
