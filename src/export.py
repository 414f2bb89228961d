"""Write a checkpoint's network as a file that runs where this project is not installed.

python src/export.py ckpt_path=<run directory>/checkpoints/best.ckpt format=onnx
"""

import hydra
import rootutils
from omegaconf import DictConfig

ROOT = rootutils.setup_root(__file__, indicator=".project-root", pythonpath=True, dotenv=True)

from src.runs.entry_points import entry_point  # noqa: E402
from src.runs.resolvers import register_resolvers  # noqa: E402

register_resolvers()


@entry_point
@hydra.main(version_base="1.3", config_path=str(ROOT / "configs"), config_name="export")
def main(config: DictConfig) -> None:
    """Rebuild network and data from a checkpoint, and write the network."""
    from src.runs.building import build, build_model
    from src.runs.checkpoints import load_weights
    from src.runs.exporting import prepare_export, run_export
    from src.runs.run import open_run

    with open_run(config, prepare_export) as run:
        datamodule = build(run.config, "data")
        model = build_model(run.config, datamodule)
        load_weights(model, run.checkpoint, run.config.ckpt_path)
        run_export(run, model, datamodule)


if __name__ == "__main__":
    main()
