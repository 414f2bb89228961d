"""Train a network: compose a config, build the objects it names, fit, test, summarise.

python src/train.py --help
"""

import hydra
import rootutils
from omegaconf import DictConfig

ROOT = rootutils.setup_root(__file__, indicator=".project-root", pythonpath=True, dotenv=True)

from src.utils.resolvers import register_resolvers  # noqa: E402

register_resolvers()


def train(config: DictConfig) -> float | None:
    """Train, test the best network on the test data, and write the run directory.

    Returns:
        The metric named by `optimized_metric`, for a sweeper.
    """
    from src.utils.building import build, build_callbacks
    from src.utils.checkpoints import load_checkpoint, load_weights
    from src.utils.results import optimized_value, run_test, summarise
    from src.utils.run import open_run, prepare_training

    with open_run(config, prepare_training) as run:
        datamodule = build(run.config, "data")
        model = build(run.config, "model")
        if run.config.ckpt_path is not None:
            path = run.config.ckpt_path
            load_weights(model, load_checkpoint(path), path)
        callbacks = build_callbacks(run.config)
        trainer = build(run.config, "trainer", callbacks=callbacks, logger=False)
        run.start_logging(trainer, model)

        trainer.fit(model, datamodule=datamodule, ckpt_path=run.checkpoint, weights_only=True)
        summarise(run, trainer, run_test(trainer, model, datamodule))
        return optimized_value(run)


@hydra.main(version_base="1.3", config_path=str(ROOT / "configs"), config_name="train")
def main(config: DictConfig) -> float | None:
    """Entry point."""
    return train(config)


if __name__ == "__main__":
    main()
