from lightning.pytorch.callbacks import RichProgressBar
from omegaconf import OmegaConf

from src.callbacks.checkpoints import StoredConfig
from src.runs.building import build, build_callbacks, build_group

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
