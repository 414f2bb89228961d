"""Time training with the default callbacks against training with none, in turn.

python scripts/benchmark_callbacks.py --rounds 3
"""

import logging
import tempfile
import time
import warnings

import rootutils

ROOT = rootutils.setup_root(__file__, indicator=".project-root", pythonpath=True, dotenv=False)

from hydra.utils import instantiate  # noqa: E402
from omegaconf import DictConfig  # noqa: E402
from tqdm import tqdm  # noqa: E402

from scripts.benchmarks.tables import Table, make_parser, parse, report  # noqa: E402
from scripts.benchmarks.timing import Timings  # noqa: E402
from scripts.estimate_cost import compose_experiment  # noqa: E402
from src.seeding import seed_run  # noqa: E402

NOTE = (
    "Whole trainings without tests, with the CSV logger; without: no callback, not even "
    "checkpoints. CPU time of the process. Ratio of minima (10-90 % of the rounds' ratios)."
)


def train(config: DictConfig, with_callbacks: bool) -> float:
    """Seconds of CPU time of one training."""
    seed_run(config.seed)
    datamodule, model = (instantiate(config[key], _convert_="all") for key in ("data", "model"))
    entries = config.callbacks.values() if with_callbacks else ()
    trainer = instantiate(
        config.trainer,
        callbacks=[instantiate(entry) for entry in entries if "ProgressBar" not in entry._target_],
        logger=instantiate(config.logger.csv),
        enable_checkpointing=with_callbacks,
    )
    start = time.process_time()
    trainer.fit(model, datamodule=datamodule)
    return time.process_time() - start


def main() -> None:
    """Print the table, and write it as JSON where asked to."""
    parser = make_parser(__doc__, rounds=3)
    parser.add_argument("--experiment", default="rgcnn_rotmnist", help="what is trained")
    parser.add_argument("--callbacks", help="group of callbacks; default: the experiment's")
    parser.add_argument("--epochs", type=int, help="of each training; default: the experiment's")
    given = parse(parser)
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    overrides = ["logger=csv", f"paths.root_dir={ROOT}", "trainer.enable_progress_bar=false"]
    overrides += [f"trainer.max_epochs={given.epochs}"] if given.epochs else []
    overrides += [f"callbacks={given.callbacks}"] if given.callbacks else []
    seconds: dict[str, list[float]] = {"callbacks": [], "none": []}
    for _ in tqdm(range(given.rounds), leave=False):
        for version, times in seconds.items():
            with tempfile.TemporaryDirectory() as folder:
                output = f"paths.output_dir={folder}"
                config = compose_experiment(given.experiment, [*overrides, output])
                times.append(train(config, version == "callbacks"))
    timings = Timings(seconds)
    row = {
        "experiment": given.experiment,
        "callbacks": given.callbacks or "the experiment's",
        "epochs": str(config.trainer.max_epochs),
        "rounds": str(given.rounds),
        "training / without": timings.ratio("callbacks", "none"),
        "with, s": timings.minimum("callbacks"),
        "without, s": timings.minimum("none"),
    }
    report([Table("Cost of the callbacks", [row], NOTE)], given)


if __name__ == "__main__":
    main()
