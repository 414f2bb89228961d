"""Simulate a set of smoke plumes ahead of its use, or find it; measure its symmetry; draw it.

python src/generate.py data=smoke_level data.level=4 plot=true
"""

import hydra
import rootutils
from omegaconf import DictConfig

ROOT = rootutils.setup_root(__file__, indicator=".project-root", pythonpath=True, dotenv=True)

from src.runs.entry_points import entry_point  # noqa: E402
from src.runs.resolvers import register_resolvers  # noqa: E402

register_resolvers()


@entry_point
@hydra.main(version_base="1.3", config_path=str(ROOT / "configs"), config_name="generate")
def main(config: DictConfig) -> None:
    """Build the data module, make its set, and write the run directory."""
    from src.runs.building import build
    from src.runs.generating import run_generation
    from src.runs.run import open_run, prepare_new_run

    with open_run(config, prepare_new_run) as run:
        run_generation(run, build(run.config, "data"))


if __name__ == "__main__":
    main()
