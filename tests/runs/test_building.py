import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import RichProgressBar
from omegaconf import OmegaConf
from run_fakes import TinyNet

from src.callbacks.checkpoints import BestAndLastCheckpoint, StoredConfig
from src.errors import UserError
from src.models.components.steerable import RelaxedSteerableConv
from src.runs.building import (
    build,
    build_callbacks,
    build_loggers,
    checkpoint_callback,
    count_parameters,
    degrees_of_freedom,
)

BAR = {"_target_": "lightning.pytorch.callbacks.RichProgressBar"}
PARTS = {"model": {}, "data": {}, "seed": 0, "paths": {}, "task_name": "train"}


def test_arguments_are_plain_lists():
    class_ = "torch.utils.data.TensorDataset"
    config = OmegaConf.create({"a": {"_target_": "builtins.dict", "of": [1, {"b": [2]}]}})
    built = build(config, "a", more=class_)
    assert built == {"of": [1, {"b": [2]}], "more": class_}
    assert type(built["of"]) is list


@pytest.mark.parametrize("wanted", [True, False])
def test_a_progress_bar_is_left_out_on_request(wanted):
    config = {"callbacks": {"bar": BAR, "none": None}, "trainer": {"enable_progress_bar": wanted}}
    kinds = [type(c) for c in build_callbacks(OmegaConf.create({**config, **PARTS}))]
    assert kinds == ([RichProgressBar] if wanted else []) + [StoredConfig]


def test_loggers_may_be_none():
    assert build_loggers(OmegaConf.create({"logger": None})) == []
    assert build_loggers(OmegaConf.create({})) == []
    assert build_loggers(OmegaConf.create({"logger": {"csv": None}})) == []


def test_a_missing_tensorboard_is_told(monkeypatch):
    monkeypatch.setattr("src.runs.building.find_spec", lambda name: None)
    config = OmegaConf.create({"logger": {"tensorboard": {"_target_": "some.Logger"}}})
    with pytest.raises(UserError, match=r'pip install -e "\.\[tensorboard\]"'):
        build_loggers(config)


def test_trainable_parameters_are_counted():
    net = TinyNet(in_features=2, width=5, num_classes=3)
    assert count_parameters(net) == 15 + 10 + 18
    net.out.requires_grad_(False)
    assert count_parameters(net) == 15 + 10


def test_the_checkpoint_callback_is_found(tmp_path):
    kept = BestAndLastCheckpoint(str(tmp_path))
    options = {"logger": False, "accelerator": "cpu", "enable_progress_bar": False}
    assert checkpoint_callback(Trainer(callbacks=[kept], **options)) is kept
    assert checkpoint_callback(Trainer(enable_checkpointing=False, **options)) is None


def test_degrees_of_freedom_of_the_layers_that_tell():
    layer = RelaxedSteerableConv(1, 2, 3, "c4", "scalar", "regular")
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 3), layer)
    reached, plain = degrees_of_freedom(network)["1"]
    assert list(degrees_of_freedom(network)) == ["1"]
    assert 0 < reached <= plain == 2 * 4 * 9
