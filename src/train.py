"""Train a network: compose a config, build the objects it names, fit, test, summarise.

python src/train.py --help
"""

from typing import TYPE_CHECKING

import hydra
import rootutils
from omegaconf import DictConfig

ROOT = rootutils.setup_root(__file__, indicator=".project-root", pythonpath=True, dotenv=True)

from src.utils.resolvers import register_resolvers  # noqa: E402
from src.utils.sweep_checks import offer_missing_launchers  # noqa: E402

register_resolvers()
offer_missing_launchers()

if TYPE_CHECKING:
    from src.utils.search_trials import ReportToStudy


def train(config: DictConfig, reporter: "ReportToStudy | None" = None) -> float | None:
    """Train, test the best network on the test data, and write the run directory.

    Args:
        config: as Hydra composed it.
        reporter: of a trial of a search, which may find that the trial is not worth its time.

    Returns:
        The metric named by `optimized_metric`, for a sweeper; None for a trial that was pruned.
    """
    from src.utils.building import build, build_callbacks
    from src.utils.checkpoints import load_checkpoint, load_weights
    from src.utils.distributed import check_trainer, ending_processes
    from src.utils.results import optimized_value, run_test, summarise
    from src.utils.run import open_run, prepare_training

    with open_run(config, prepare_training) as run:
        datamodule = build(run.config, "data")
        model = build(run.config, "model")
        if run.config.ckpt_path is not None:
            path = run.config.ckpt_path
            load_weights(model, load_checkpoint(path), path)
        callbacks = [*build_callbacks(run.config), *([] if reporter is None else [reporter])]
        trainer = build(run.config, "trainer", callbacks=callbacks, logger=False)
        check_trainer(trainer, model)
        run.start_logging(trainer, model)

        with ending_processes(trainer):
            trainer.fit(model, datamodule=datamodule, ckpt_path=run.checkpoint, weights_only=True)
            pruned = reporter is not None and reporter.pruned
            summarise(run, trainer, {} if pruned else run_test(trainer, model, datamodule))
            if pruned:
                run.summary["status"] = "pruned"
                return None
            return optimized_value(run)


@hydra.main(version_base="1.3", config_path=str(ROOT / "configs"), config_name="train")
def main(config: DictConfig) -> float | None:
    """Entry point."""
    from src.utils.sweeps import run_job

    return run_job(config, train)


if __name__ == "__main__":
    main()
