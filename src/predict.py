"""Write what a checkpoint's network answers to the samples of a split, beside the truth.

python src/predict.py ckpt_path=<run directory>/checkpoints/best.ckpt split=test
"""

import hydra
import rootutils
from omegaconf import DictConfig, OmegaConf

ROOT = rootutils.setup_root(__file__, indicator=".project-root", pythonpath=True, dotenv=True)

from src.runs.entry_points import entry_point  # noqa: E402
from src.runs.resolvers import register_resolvers  # noqa: E402

register_resolvers()

ORIGIN = ("ckpt_path", "split", "seed", "model", "data")  # of the predictions, kept beside them


@entry_point
@hydra.main(version_base="1.3", config_path=str(ROOT / "configs"), config_name="predict")
def main(config: DictConfig) -> None:
    """Rebuild network and data from a checkpoint, evaluate, and write forecasts or logits."""
    from src.callbacks import ForecastPictures, PredictionFile
    from src.runs.building import build, build_model
    from src.runs.checkpoints import load_weights
    from src.runs.processes import ending_processes
    from src.runs.results import run_evaluation
    from src.runs.run import open_run, prepare_evaluation

    with open_run(config, prepare_evaluation) as run:
        datamodule = build(run.config, "data")
        model = build_model(run.config, datamodule)
        load_weights(model, run.checkpoint, run.config.ckpt_path)
        origin = OmegaConf.to_container(OmegaConf.masked_copy(run.config, ORIGIN))
        callbacks = [PredictionFile(run.config.out, origin)]
        if model.output_kind != "invariant":
            callbacks.append(ForecastPictures())
        options = {"logger": False, "enable_checkpointing": False, "callbacks": callbacks}
        trainer = build(run.config, "trainer", **options)
        with ending_processes(trainer):
            run_evaluation(run, trainer, model, datamodule)


if __name__ == "__main__":
    main()
