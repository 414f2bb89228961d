"""Evaluate a checkpoint on the training, validation or test data.

python src/eval.py ckpt_path=<run directory>/checkpoints/best.ckpt split=test
"""

import hydra
import rootutils
from omegaconf import DictConfig

ROOT = rootutils.setup_root(__file__, indicator=".project-root", pythonpath=True, dotenv=True)

from src.runs.entry_points import entry_point  # noqa: E402
from src.runs.resolvers import register_resolvers  # noqa: E402

register_resolvers()


@entry_point
@hydra.main(version_base="1.3", config_path=str(ROOT / "configs"), config_name="eval")
def main(config: DictConfig) -> None:
    """Rebuild network and data from a checkpoint, evaluate, and write the run directory."""
    from src.runs.building import build, build_model
    from src.runs.checkpoints import load_weights
    from src.runs.processes import ending_processes
    from src.runs.results import run_evaluation
    from src.runs.run import open_run, prepare_evaluation

    with open_run(config, prepare_evaluation) as run:
        datamodule = build(run.config, "data")
        model = build_model(run.config, datamodule)
        load_weights(model, run.checkpoint, run.config.ckpt_path)
        trainer = build(run.config, "trainer", logger=False, enable_checkpointing=False)
        with ending_processes(trainer):
            run_evaluation(run, trainer, model, datamodule)


if __name__ == "__main__":
    main()
