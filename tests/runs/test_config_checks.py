import pytest
from omegaconf import OmegaConf

from src.errors import UserError
from src.runs.config_checks import CHECKS, check_config

GOOD = {
    "trainer": {"max_epochs": 3, "log_every_n_steps": 1},
    "seed": 0,
    "resume": None,
    "ckpt_path": None,
    "paths": {"data_dir": "data"},
    "tags": ["pilot"],
    "optimized_metric": None,
    "logger": {"csv": {"_target_": "some.Logger"}},
}


def changed(key: str, value):
    config = OmegaConf.create(GOOD)
    OmegaConf.update(config, key, value, merge=False)
    return config


def test_good_configs_pass():
    check_config(OmegaConf.create(GOOD))
    check_config(changed("seed", None))
    check_config(changed("seed", 2**32 - 1))
    check_config(changed("logger", None))
    check_config(changed("optimized_metric", "val/acc"))


def test_keys_that_a_config_lacks_are_not_checked():
    check_config(OmegaConf.create({}))


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("trainer.max_epochs", 0, "must be a whole number of at least 1; got 0"),
        ("trainer.max_epochs", -1, "must be a whole number of at least 1; got -1"),
        ("trainer.max_epochs", 1.5, "must be a whole number of at least 1; got 1.5"),
        ("trainer.max_epochs", "ten", "must be a whole number of at least 1; got 'ten'"),
        ("trainer.max_epochs", True, "must be a whole number of at least 1; got True"),
        ("trainer.max_epochs", None, "must be a whole number of at least 1; got None"),
        ("trainer.log_every_n_steps", 0, "must be a whole number of at least 1; got 0"),
        ("seed", -1, "must be a whole number from 0 to 4294967295, or null; got -1"),
        ("seed", 2**32, "must be a whole number from 0 to 4294967295, or null"),
        ("seed", "zero", "must be a whole number from 0 .* got 'zero'"),
        ("seed", False, "must be a whole number from 0 .* got False"),
        ("resume", "/nowhere", "must be a run directory .* got '/nowhere'"),
        ("resume", 3, "must be a run directory .* got 3"),
        ("ckpt_path", "/nowhere.ckpt", "must be an existing checkpoint file; got '/nowhere.ckpt'"),
        ("ckpt_path", "/", "must be an existing checkpoint file; got '/'"),
        ("split", "all", "must be one of train, val, test; got 'all'"),
        ("paths.data_dir", __file__, "must be a folder, which is made when missing"),
        ("paths.data_dir", None, "must be a folder, which is made when missing; got None"),
        ("tags", "pilot", "must be a list of words; got 'pilot'"),
        ("tags", [1], r"must be a list of words; got \[1\]"),
        ("optimized_metric", 1, "must be the name of a logged metric, or null; got 1"),
        ("logger", "csv", "must be a group of loggers; got 'csv'"),
        ("logger", {"csv": 1}, "must be a group of loggers"),
    ],
)
def test_bad_values_are_refused(key, value, rule):
    with pytest.raises(UserError, match=f"`{key}` {rule}"):
        check_config(changed(key, value))


def test_every_check_has_a_bad_value_above():
    marks = test_bad_values_are_refused.pytestmark
    assert {check.key for check in CHECKS} == {case[0] for case in marks[0].args[1]}


def test_all_that_is_wrong_is_told_at_once():
    config = changed("seed", -1)
    config.trainer.max_epochs = 0
    with pytest.raises(UserError, match=r"(?s)`trainer.max_epochs` .*\n`seed` "):
        check_config(config)


def test_a_run_is_resumed_or_starts_from_a_checkpoint(tmp_path):
    (tmp_path / "config.yaml").touch()
    config = changed("resume", str(tmp_path))
    check_config(config)
    config.ckpt_path = __file__
    with pytest.raises(UserError, match="`resume` and `ckpt_path` exclude each other"):
        check_config(config)


@pytest.mark.parametrize("path", [None, "???"])
def test_an_evaluation_needs_a_checkpoint(path):
    with pytest.raises(UserError, match="`ckpt_path` must be the checkpoint to evaluate; got none"):
        check_config(OmegaConf.create({"split": "val", "ckpt_path": path}))


@pytest.mark.parametrize(
    ("model", "data", "monitor", "message"),
    [
        ("forecasting_module.ForecastingModule", {}, "val/rmse", "one task.*Use data=smoke_level"),
        (
            "classification_module.ClassificationModule",
            {"num_inputs": 1},
            "val/acc",
            "one task.*Use data=rotmnist",
        ),
        (
            "forecasting_module.ForecastingModule",
            {"num_inputs": 1},
            "val/acc",
            "must be a metric of the model; got 'val/acc'.*Use callbacks=smoke",
        ),
    ],
)
def test_model_data_and_monitor_of_two_tasks_are_told(model, data, monitor, message):
    config = {
        "model": {"_target_": f"src.models.{model}"},
        "data": data,
        "callbacks": {"checkpoint": {"monitor": monitor}},
    }
    with pytest.raises(UserError, match=message):
        check_config(OmegaConf.create(config))


def test_tasks_that_fit_and_models_of_others_pass():
    for data, monitor, model in (
        ({"num_inputs": 1}, "val/rmse", "src.models.forecasting_module.ForecastingModule"),
        ({}, "val/acc", "src.models.classification_module.ClassificationModule"),
        ({}, "val/acc", "somebody.elses.Module"),
    ):
        callbacks = {"checkpoint": {"monitor": monitor}}
        config = {"model": {"_target_": model}, "data": data, "callbacks": callbacks}
        check_config(OmegaConf.create(config))
