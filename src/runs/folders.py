"""The folders of runs and sweeps, before Hydra makes them."""

import sys
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from src.errors import user_error
from src.files import check_writable


class WritableFolder(Callback):
    """Hydra's callback before a run or a sweep: exits with one message if it has no place.

    Hydra itself would end with a traceback, before code of this project runs.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        HydraConfig.instance().set_config(config)  # as a run does next: its folder may need it
        _check(config, config.hydra.run.dir)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        _check(config, config.hydra.sweep.dir)


def _check(config: DictConfig, folder: str) -> None:
    try:
        check_writable(folder)
    except OSError as error:
        sys.stderr.write(f"{user_error(error, config)}\n")
        sys.exit(1)
