from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import RichProgressBar
from omegaconf import OmegaConf

from src.callbacks.checkpoints import StoredConfig
from src.errors import UserError
from src.models.classification_module import ClassificationModule
from src.models.components.classifiers import CNN
from src.models.components.forecasters import CNNForecaster
from src.models.forecasting_module import ForecastingModule
from src.runs.building import build, build_callbacks, build_group, network_size

BAR = {"_target_": "lightning.pytorch.callbacks.RichProgressBar"}
PARTS = {"model": {}, "data": {}, "seed": 0, "paths": {}, "task_name": "train"}


def test_objects_are_built_from_plain_lists_and_only_those_that_are_wanted():
    config = OmegaConf.create({"a": {"_target_": "builtins.dict", "of": [1, {"b": [2]}]}})
    built = build(config, "a", more=3)
    assert (built, type(built["of"])) == ({"of": [1, {"b": [2]}], "more": 3}, list)
    for wanted in (True, False):
        trainer = {"enable_progress_bar": wanted}
        config = {"callbacks": {"bar": BAR, "none": None}, "trainer": trainer, **PARTS}
        callbacks = build_callbacks(OmegaConf.create(config))
        assert [type(c) for c in callbacks] == [RichProgressBar] * wanted + [StoredConfig]
        assert callbacks[-1].config == PARTS | {"trainer": {"precision": None}}
    for config in ({}, {"logger": None}, {"logger": {"csv": None}}):
        assert build_group(OmegaConf.create(config), "logger") == []


def test_a_monitor_of_a_score_that_no_callback_makes_is_refused():
    stop = {"_target_": "lightning.pytorch.callbacks.EarlyStopping"}
    stop |= {"monitor": "val/acc_reestimated"}
    scores = {"_target_": "src.callbacks.ReestimatedStatistics"}
    config = {"callbacks": {"stop": stop, "scores": scores}, "trainer": {}, **PARTS}
    assert len(build_callbacks(OmegaConf.create(config))) == 3
    config["callbacks"]["scores"] = None
    with pytest.raises(UserError, match=r"reestimated_statistics.*'val/acc_reestimated'.*minimal"):
        build_callbacks(OmegaConf.create(config))


def test_the_size_of_a_network_counts_one_image_or_one_frame():
    net = CNN(num_layers=2, hidden_channels=[2, 3], pool_after=[])
    images = ClassificationModule(net, torch.optim.SGD), (1, 4, 5), 9 * 20 * (2 + 6) + 3 * 10
    net = CNNForecaster(num_inputs=3, num_layers=3, hidden_channels=2)
    frames = ForecastingModule(net, torch.optim.SGD, num_inputs=3), (2, 4, 5), 9 * 20 * (12 + 4 + 4)
    for model, shape, macs in (images, frames):
        size = network_size(model, SimpleNamespace(image_shape=shape))
        assert size == {
            "num_parameters": sum(p.numel() for p in model.parameters()),
            "num_macs": macs,
        }
        assert network_size(model, SimpleNamespace())["num_macs"] is None
