"""Search for hyperparameters: train many networks, with values that Optuna chooses.

python src/search.py experiment=rgcnn_rotmnist hparams_search=learning_rate search.num_trials=20
"""

from importlib.util import find_spec

import hydra
import rootutils
from omegaconf import DictConfig

ROOT = rootutils.setup_root(__file__, indicator=".project-root", pythonpath=True, dotenv=True)

from src.runs.entry_points import entry_point  # noqa: E402
from src.runs.resolvers import register_resolvers  # noqa: E402
from src.sweeps.names import register_sweep_resolvers  # noqa: E402

register_resolvers()
register_sweep_resolvers()


@entry_point
@hydra.main(version_base="1.3", config_path=str(ROOT / "configs"), config_name="search")
def main(config: DictConfig) -> None:
    """Entry point."""
    from src.errors import UserError
    from src.runs.run import leaving_nothing
    from src.train import train

    with leaving_nothing(config):
        if find_spec("optuna") is None:
            raise UserError(
                "src/search.py needs the package optuna, which is not installed. Run "
                '`pip install -e ".[search]"`.'
            )
        from src.searches.search import Search

        search = Search(config)
    search.run(train)


if __name__ == "__main__":
    main()
