"""Every YAML file below `configs` composes, builds, trains a step and survives a round trip."""

from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from src.utils.resolvers import register_resolvers

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
SHORT = (
    "data.batch_size=8",
    "trainer.max_epochs=1",
    "trainer.limit_train_batches=2",
    "trainer.limit_val_batches=1",
    "trainer.limit_test_batches=2",
    "trainer.enable_progress_bar=false",
)
DYNAMICS = (
    "callbacks.equivariance_error.num_samples=8",
    "callbacks.equivariance_error.every_n_epochs=1",
)
GROUP_NETWORKS = ("rgcnn", "gcnn", "e2cnn")


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def short_run(run_entry_point, data_dir):
    def run(*overrides: str):
        return run_entry_point("train", f"paths.data_dir={data_dir}", *overrides)

    return run


def assert_round_trip(run, run_entry_point, data_dir):
    """Evaluating the best checkpoint gives what the training ended with."""
    checkpoint = run / run.summary["best_checkpoint"]
    evaluated = run_entry_point(
        "eval",
        f"ckpt_path={checkpoint}",
        f"paths.data_dir={data_dir}",
        "trainer.limit_test_batches=2",
        "trainer.enable_progress_bar=false",
    )
    assert evaluated.summary["metrics"] == run.summary["test"]


@pytest.mark.slow
@pytest.mark.parametrize("experiment", options("experiment"))
def test_experiments(short_run, run_entry_point, data_dir, experiment):
    run = short_run(f"experiment={experiment}", "logger=csv", *SHORT, *DYNAMICS)
    assert_round_trip(run, run_entry_point, data_dir)
    start = run.summary["start"]
    if experiment.startswith(GROUP_NETWORKS):
        assert start["dynamics/equivariance_error"] < 1e-5
        assert all(v < 1e-5 for n, v in start.items() if "equivariance_error/" in n)
    else:
        assert start["dynamics/equivariance_error"] > 1e-3
    assert ("dynamics/relaxed_weight_error" in start) == experiment.startswith("rgcnn")
    assert all(v == 0 for n, v in start.items() if "relaxed_weight_error" in n)
    assert run.summary["num_parameters"] == pytest.approx(58_000, rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("model", [m for m in options("model") if m != "classification"])
def test_models(short_run, run_entry_point, data_dir, model):
    """`classification` holds what the others share and is part of each."""
    run = short_run(f"model={model}", "logger=csv", "callbacks=minimal", *SHORT)
    assert_round_trip(run, run_entry_point, data_dir)


@pytest.mark.slow
@pytest.mark.parametrize("callbacks", options("callbacks"))
def test_callbacks(short_run, callbacks):
    run = short_run(f"callbacks={callbacks}", "logger=csv", "model=gcnn", *SHORT)
    assert run.summary["status"] == "finished"


@pytest.mark.slow
@pytest.mark.parametrize("logger", options("logger"))
def test_loggers(short_run, logger, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = short_run(f"logger={logger}", "model=gcnn", *SHORT, *DYNAMICS)
    assert (run / "metrics.csv").exists() == (logger != "none")
    assert {path.name for path in run.path.iterdir()} & {"wandb", "tensorboard"} == (
        {logger} & {"wandb", "tensorboard"}
    )


@pytest.mark.slow
@pytest.mark.parametrize("trainer", options("trainer"))
def test_trainers(short_run, trainer):
    """On the CPU, whatever they ask for."""
    cpu = ("trainer.accelerator=cpu", "trainer.precision=32-true")
    run = short_run(f"trainer={trainer}", "logger=csv", "callbacks=minimal", *cpu, *SHORT)
    assert run.summary["status"] == "finished"


@pytest.mark.slow
@pytest.mark.parametrize("debug", options("debug"))
def test_debugging(short_run, debug):
    few = ("data.batch_size=8", "trainer.max_epochs=1", "trainer.enable_progress_bar=false")
    run = short_run("experiment=rgcnn_rotmnist", f"debug={debug}", "callbacks=minimal", *few)
    assert run.summary["status"] == "finished"


def composed(name: str, *overrides: str, with_hydra: bool = False):
    register_resolvers()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose(name, list(overrides), return_hydra_config=with_hydra)


@pytest.mark.parametrize("search", options("hparams_search"))
def test_searches_vary_values_that_exist(search):
    config = composed("train", f"hparams_search={search}", with_hydra=True)
    assert config.hydra.mode.name == "MULTIRUN"
    for key in config.hydra.sweeper.params:
        assert OmegaConf.select(config, key, default="missing") != "missing"


@pytest.mark.parametrize("group", ["data", "extras", "hydra", "paths"])
def test_other_groups_compose(group):
    for option in options(group):
        assert composed("train", f"{group}={option}")


@pytest.mark.parametrize("name", ["train", "eval", "export"])
def test_the_entry_points_configs_compose(name):
    config = composed(name)
    names = set(yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())) - {"defaults"}
    assert names <= set(config)


def test_no_group_of_configs_is_left_out():
    tested = {"experiment", "model", "callbacks", "logger", "trainer", "debug", "hparams_search"}
    tested |= {"data", "extras", "hydra", "paths"}
    assert {path.name for path in CONFIGS.iterdir() if path.is_dir()} == tested
