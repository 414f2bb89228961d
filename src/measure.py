"""Measure checkpoints: equivariance, Lie derivative, sharpness, Hessian, landscape, symmetry.

python src/measure.py ckpt_path=<run directory> measure=sharpness
"""

import hydra
import rootutils
from omegaconf import DictConfig

ROOT = rootutils.setup_root(__file__, indicator=".project-root", pythonpath=True, dotenv=True)

from src.runs.entry_points import entry_point  # noqa: E402
from src.runs.resolvers import register_resolvers  # noqa: E402

register_resolvers()


@entry_point
@hydra.main(version_base="1.3", config_path=str(ROOT / "configs"), config_name="measure")
def main(config: DictConfig) -> None:
    """Take measures of one checkpoint, of all of a run, or of all of a sweep."""
    from src.runs.measuring import prepare_measuring, run_measuring
    from src.runs.run import open_run

    with open_run(config, prepare_measuring) as run:
        run_measuring(run)


if __name__ == "__main__":
    main()
