"""Use of this project from Python, as in a notebook: compose a config, load what was trained."""

from pathlib import Path
from typing import NamedTuple

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.initialize import get_gh_backup, restore_gh_from_backup
from lightning import LightningDataModule, LightningModule
from omegaconf import DictConfig, OmegaConf

from src.files import BEST, CHECKPOINTS, LAST
from src.runs.building import build, build_model
from src.runs.checkpoints import load_checkpoint, load_weights
from src.runs.overrides import relocate
from src.runs.resolvers import ROOT, register_resolvers
from src.runs.trust import checked


class Trained(NamedTuple):
    """A trained network, its data, and the config that both were built from."""

    model: LightningModule  # in evaluation mode, on the CPU; the network alone is `model.net`
    datamodule: LightningDataModule  # before `prepare_data` and `setup`
    config: DictConfig


def compose_config(name: str = "train", *overrides: str) -> DictConfig:
    """The resolved config of `python src/<name>.py` with these overrides; not of `search`.

    Hydra need not be initialised; if it is, it stays as it is. The run directory,
    `paths.output_dir`, is a new one in each config.
    """
    register_resolvers()
    before = get_gh_backup()
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
            config = compose(name, list(overrides))
    finally:
        restore_gh_from_backup(before)
    OmegaConf.resolve(config)
    return config


def load(path: str | Path, data_dir: str | Path | None = None, *, trust: bool = False) -> Trained:
    """Load what a run has trained.

    Args:
        path: a checkpoint; or a run directory, for its best checkpoint, or its last one where there
            is no best. Either may have been moved or copied.
        data_dir: folder of all data; None: where the run had it if it is there, else `data` in
            this checkout.
        trust: whether also to build what the stored config names outside of this project, torch
            and Lightning, as a network of your own. It runs code of whoever made the file.

    Raises:
        UserError: when there is no checkpoint, it is damaged, or it is not trusted.
    """
    path = Path(path)
    if path.is_dir():
        best, last = (path / CHECKPOINTS / name for name in (BEST, LAST))
        path = last if last.is_file() and not best.is_file() else best
    checkpoint = load_checkpoint(path)
    stored = checkpoint["config"]["paths"]["data_dir"]
    if data_dir is None:
        data_dir = stored if Path(stored).is_dir() else ROOT / "data"
    config = relocate(checkpoint["config"], stored, str(data_dir))
    config = OmegaConf.create(checked(config, trust))
    datamodule = build(config, "data")
    model = build_model(config, datamodule)
    load_weights(model, checkpoint, path)
    return Trained(model.eval(), datamodule, config)
