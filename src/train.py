"""Train a network: compose a config, build the objects it names, fit, test, summarise.

python src/train.py --help
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import hydra
import rootutils
from omegaconf import DictConfig

ROOT = rootutils.setup_root(__file__, indicator=".project-root", pythonpath=True, dotenv=True)

from src.runs.entry_points import entry_point  # noqa: E402
from src.runs.resolvers import register_resolvers  # noqa: E402
from src.sweeps.checks import offer_missing_launchers  # noqa: E402
from src.sweeps.names import register_sweep_resolvers  # noqa: E402

register_resolvers()
register_sweep_resolvers()
offer_missing_launchers()

if TYPE_CHECKING:
    from lightning import Callback


def train(config: DictConfig, callbacks: "Sequence[Callback]" = ()) -> float | None:
    """Train, test the best network on the test data, and write the run directory.

    Args:
        config: config that Hydra composed.
        callbacks: callbacks besides the config's. One that has `pruned` set at the end has ended
            the training as not worth its time: the network is not tested.

    Returns:
        The metric named by `optimized_metric`, for a sweeper; None where training was pruned or
        ran out of time.
    """
    from src.runs.building import build, build_callbacks, build_model
    from src.runs.checkpoints import load_checkpoint, load_weights
    from src.runs.processes import ending_processes
    from src.runs.results import optimized_value, run_test, summarise, training_status
    from src.runs.run import open_run, prepare_training

    with open_run(config, prepare_training) as run:
        if run.is_complete:
            return optimized_value(run)
        datamodule = build(run.config, "data")
        model = build_model(run.config, datamodule)
        if run.config.ckpt_path is not None:
            path = run.config.ckpt_path
            load_weights(model, load_checkpoint(path), path)
        everything = [*build_callbacks(run.config), *callbacks]
        trainer = build(run.config, "trainer", callbacks=everything, logger=False)
        with ending_processes(trainer):
            run.start_logging(trainer, model, datamodule)
            trainer.fit(model, datamodule=datamodule, ckpt_path=run.checkpoint, weights_only=True)
            status = run.summary["status"] = training_status(trainer, callbacks)
            finished = status == "finished"
            summarise(run, trainer, run_test(trainer, model, datamodule) if finished else {})
            return optimized_value(run) if finished else None


@entry_point
@hydra.main(version_base="1.3", config_path=str(ROOT / "configs"), config_name="train")
def main(config: DictConfig) -> float | None:
    """Entry point."""
    from src.sweeps.jobs import run_job

    return run_job(config, train)


if __name__ == "__main__":
    main()
