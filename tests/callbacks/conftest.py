import pytest
from lightning import Trainer
from lightning.pytorch.loggers import CSVLogger


@pytest.fixture
def make_trainer(tmp_path):
    def make(callbacks, *, folder=tmp_path, **options):
        defaults = {
            "accelerator": "cpu",
            "devices": 1,
            "max_epochs": 2,
            "logger": CSVLogger(folder, name="csv", version=""),
            "default_root_dir": folder,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "log_every_n_steps": 1,
            "num_sanity_val_steps": 0,
        }
        return Trainer(callbacks=callbacks, **{**defaults, **options})

    return make
