"""Every YAML file below `configs` composes, builds, trains a step and survives a round trip."""

import inspect
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import OmegaConf

from src.runs.building import build, count_parameters
from src.runs.resolvers import register_resolvers
from src.searches.space import read_space
from src.sweeps.checks import offer_missing_launchers

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
TINY_WINDOWS = (
    "data=tiny_windows",
    "callbacks=minimal",
    "callbacks.checkpoint.monitor=val/rmse",
    "callbacks.checkpoint.mode=min",
)
GROUP_NETWORKS = ("rgcnn", "gcnn", "e2cnn")
SEVERAL = ("ddp", "ddp_sim", "fsdp")  # trainers of several processes: tests/test_distributed.py
BASES = ("classification", "forecasting")  # what models share; part of each
SMALL, PAPER = 20_000, 5_600_000  # parameters of `<network>_smoke` and `<network>_smoke_paper`


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def is_smoke(name: str) -> bool:
    """Whether a model or an experiment is about networks that forecast velocities."""
    return "_smoke" in name


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
@pytest.mark.parametrize("experiment", [e for e in options("experiment") if not is_smoke(e)])
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


@pytest.mark.parametrize("experiment", [e for e in options("experiment") if is_smoke(e)])
def test_experiments_on_smoke_fit_together(experiment):
    """Network and data have one size; the sets take too long to simulate here."""
    config = composed("train", f"experiment={experiment}")
    assert experiment.startswith(config.tags[-1])
    assert build(config, "model").net.num_inputs == config.data.num_inputs
    if grid_size := config.model.net.get("grid_size"):
        assert list(grid_size) == [config.data.resolution // config.data.coarsen] * 2
    assert build(config, "model").input_kind == "vector"
    assert config.callbacks.checkpoint.monitor == "val/rmse"


@pytest.mark.slow
@pytest.mark.parametrize(
    "model", [m for m in options("model") if m not in BASES and not is_smoke(m)]
)
def test_models(short_run, run_entry_point, data_dir, model):
    run = short_run(f"model={model}", "logger=csv", "callbacks=minimal", *SHORT)
    assert_round_trip(run, run_entry_point, data_dir)


@pytest.mark.parametrize("model", [m for m in options("model") if is_smoke(m)])
def test_models_that_forecast(short_run, run_entry_point, data_dir, model):
    """On frames of 8 x 8; those of paper size with fewer parameters."""
    shrunk = ["model.net.num_parameters=60000"] if model.endswith("_paper") else []
    if model.startswith("rtrans"):
        shrunk.append("model.net.grid_size=[8,8]")
    run = short_run(f"model={model}", *TINY_WINDOWS, "logger=csv", *SHORT, *shrunk)
    assert_round_trip(run, run_entry_point, data_dir)


@pytest.mark.parametrize("num_inputs", [1, 10])
@pytest.mark.parametrize("model", [m for m in options("model") if is_smoke(m)])
def test_models_that_forecast_have_equal_sizes(model, num_inputs):
    config = composed("train", f"model={model}", f"+data.num_inputs={num_inputs}")
    module = build(config, "model")
    expected = PAPER if model.endswith("_paper") else SMALL
    assert count_parameters(module) == pytest.approx(expected, rel=0.03)
    assert (module.num_inputs, module.net.num_inputs) == (num_inputs, num_inputs)


@pytest.mark.slow
@pytest.mark.parametrize("callbacks", options("callbacks"))
def test_callbacks(short_run, callbacks):
    forecasting = ("data=tiny_windows", "model=gcnn_smoke")
    task = forecasting if callbacks == "smoke" else ("model=gcnn",)
    small = ("model.net.num_parameters=2000",) if callbacks == "curvature" else ()
    small += ("callbacks.hessian.num_samples=4",) if callbacks == "curvature" else ()
    run = short_run(f"callbacks={callbacks}", "logger=csv", *task, *small, *SHORT)
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
@pytest.mark.parametrize("trainer", [t for t in options("trainer") if t not in SEVERAL])
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


@pytest.mark.parametrize("search", options("hparams_search"))
def test_searches_have_a_space_for_optuna(search):
    config = composed("search", f"hparams_search={search}", with_hydra=True)
    assert config.hydra.mode.name == "RUN"
    plain = OmegaConf.to_container(config)
    assert read_space(plain["search"]["space"], plain, groups={"model"})


@pytest.mark.parametrize("launcher", options("launcher"))
def test_launchers_compose(launcher):
    offer_missing_launchers()
    config = composed("train", f"launcher={launcher}", with_hydra=True)
    plugin = {"sequential": "basic", "slurm": "submitit_slurm"}.get(launcher, launcher)
    assert config.hydra.runtime.choices["hydra/launcher"] == plugin
    assert config.trainer.enable_progress_bar == (launcher == "sequential")
    assert config.hydra.mode == (None if launcher == "sequential" else RunMode.MULTIRUN)


@pytest.mark.parametrize("measure", options("measure"))
def test_measures_compose(measure):
    config = composed("measure", f"measure={measure}", "ckpt_path=a.ckpt")
    names = set(options("measure")) - {"all"}
    assert set(config.measure) == (names if measure == "all" else {measure})
    for name, entry in config.measure.items():
        probe = instantiate(entry.probe, _convert_="all")
        assert probe.func.__name__ == name
        inspect.signature(probe.func).bind(None, **probe.keywords)
        assert set(entry) == {"split", "num_samples", "only", "probe"}


@pytest.mark.parametrize("group", ["data", "extras", "hydra", "paths"])
def test_other_groups_compose(group):
    for option in options(group):
        assert composed("train", f"{group}={option}")


@pytest.mark.parametrize("name", ["train", "eval", "export", "generate", "measure", "search"])
def test_the_entry_points_configs_compose(name):
    config = composed(name)
    names = set(yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())) - {"defaults", "hydra"}
    assert names <= set(config)


def test_no_group_of_configs_is_left_out():
    tested = {"experiment", "model", "callbacks", "logger", "trainer", "debug", "hparams_search"}
    tested |= {"data", "extras", "hydra", "launcher", "measure", "paths", "search"}
    tested |= {"wandb_sweep"}  # in test_wandb_sweeps.py
    assert {path.name for path in CONFIGS.iterdir() if path.is_dir()} == tested
