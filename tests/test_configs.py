"""Every YAML file below `configs` composes, builds, trains a step and survives a round trip."""

import inspect
from itertools import cycle
from pathlib import Path

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import OmegaConf

from src.measures.macs import count_macs
from src.models.components.widths import count_parameters
from src.runs.building import build
from src.runs.resolvers import register_resolvers
from src.searches.space import read_space
from src.sweeps.checks import offer_missing_launchers
from tests.helpers.fake_plumes import tiny_overrides, use_fake_simulation

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
SHORT = (
    "data.batch_size=8",
    "trainer.max_epochs=1",
    "trainer.limit_train_batches=2",
    "trainer.limit_val_batches=1",
    "trainer.limit_test_batches=2",
    "trainer.enable_progress_bar=false",
)
FEW_SAMPLES = (
    "callbacks.equivariance_error.num_samples=8",
    "callbacks.projection.num_samples=8",
    "callbacks.lie_derivative.num_samples=4",
    "callbacks.sharpness.num_samples=8",
)
CPU = ("trainer.accelerator=cpu", "trainer.precision=32-true")
SMALL, PAPER = 20_000, 5_600_000  # parameters of `<network>_smoke` and `<network>_smoke_paper`


def options(group: str, *, without: tuple[str, ...] = ()) -> list[str]:
    return sorted(p.stem for p in (CONFIGS / group).glob("*.yaml") if p.stem not in without)


def smoke(names: list[str], wanted: bool = True) -> list[str]:
    """Models or experiments that are, or are not, about networks that forecast velocities."""
    return [name for name in names if ("_smoke" in name) == wanted]


def composed(name: str, *overrides: str, with_hydra: bool = False):
    register_resolvers()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose(name, list(overrides), return_hydra_config=with_hydra)


@pytest.fixture
def short_run(run_entry_point, tmp_path_factory, monkeypatch):
    """Train for two steps; evaluating the best checkpoint gives what the training ended with.

    Callbacks without one that writes checkpoints, such as `pictures`, leave none to evaluate.
    """
    monkeypatch.setenv("WANDB_MODE", "offline")
    data_dir = f"paths.data_dir={tmp_path_factory.getbasetemp() / 'data'}"

    def run(*overrides: str):
        made = run_entry_point("train", data_dir, *overrides)
        if made.summary["best_checkpoint"] is None:
            return made
        evaluated = run_entry_point(
            "eval",
            f"ckpt_path={made / made.summary['best_checkpoint']}",
            data_dir,
            "trainer.limit_test_batches=2",
            "trainer.enable_progress_bar=false",
        )
        assert evaluated.summary["metrics"] == made.summary["test"]
        return made

    return run


# Every model of the group, with every option of three other groups on the way.
WITH_MODELS = list(
    zip(
        smoke(options("model"), wanted=False),
        cycle(options("callbacks", without=("smoke", "curvature"))),
        cycle(options("logger")),
        cycle(options("trainer", without=("ddp", "ddp_sim"))),  # these: test_distributed.py
    )
)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "callbacks", "logger", "trainer"), WITH_MODELS)
def test_models_callbacks_loggers_and_trainers(short_run, model, callbacks, logger, trainer):
    beside = {"early_stopping": "[minimal,early_stopping]"}.get(callbacks, callbacks)
    choices = (f"model={model}", f"callbacks={beside}", f"logger={logger}", f"trainer={trainer}")
    few = FEW_SAMPLES if callbacks in ("default", "dynamics") else ()
    run = short_run(*choices, *few, *CPU, *SHORT)
    assert run.summary["status"] == "finished"
    assert (run / "metrics.csv").exists() == (logger != "none")
    written = {path.name for path in run.path.iterdir()}
    assert written & {"wandb", "tensorboard"} == {logger} & {"wandb", "tensorboard"}


def test_the_runs_above_have_every_option():
    for place, group in enumerate(("model", "callbacks", "logger", "trainer")):
        tested = {row[place] for row in WITH_MODELS} | {"smoke", "curvature", "ddp", "ddp_sim"}
        assert {name for name in options(group) if "_smoke" not in name} <= tested


@pytest.mark.slow
@pytest.mark.parametrize("experiment", smoke(options("experiment"), wanted=False))
def test_experiments(short_run, experiment):
    run = short_run(f"experiment={experiment}", "logger=csv", *FEW_SAMPLES, *SHORT)
    start = run.summary["start"]
    errors = [v for n, v in start.items() if n.startswith("dynamics/equivariance_error")]
    if experiment.startswith("cnn"):
        assert start["dynamics/equivariance_error"] > 1e-4
    else:
        assert len(errors) == 7 and max(errors) < 1e-5
    assert ("dynamics/relaxed_weight_error" in start) == experiment.startswith("rgcnn")
    assert all(v == 0 for n, v in start.items() if "relaxed_weight_error" in n)
    assert run.summary["num_parameters"] == pytest.approx(58_000, rel=0.03)


@pytest.mark.parametrize("experiment", smoke(options("experiment")))
def test_experiments_on_smoke_fit_together(experiment):
    """Network and data have one size; the sets take too long to simulate here."""
    config = composed("train", f"experiment={experiment}")
    module = build(config, "model")
    assert module.net.num_inputs == config.data.num_inputs
    if grid_size := config.model.net.get("grid_size"):
        assert list(grid_size) == [config.data.resolution // config.data.coarsen] * 2
    assert module.input_kind == "vector"
    assert config.callbacks.checkpoint.monitor == module.monitor == "val/rmse_reestimated"
    assert config.callbacks.checkpoint.mode == module.monitor_mode == "min"


SIZED = [name for name in smoke(options("model")) if not name.endswith("_paper")]


@pytest.mark.parametrize("model", SIZED)
def test_models_follow_the_density_of_the_data(model):
    chosen = ("data=smoke_strengths", f"model={model}")
    config = composed("train", *chosen, "data.density=true")
    data, module = build(config, "data"), build(config, "model")
    module.check_data(data)
    assert (module.input_kind, data.image_shape[0]) == ("vector+scalar", 3)
    other = build(composed("train", *chosen), "model")
    assert (other.input_kind, "density_scale" in other.state_dict()) == ("vector", False)
    with pytest.raises(ValueError, match=r"inputs .*6, 32, 32.*Leave out .*model\.net\.density"):
        other.check_data(data)


@pytest.mark.slow
@pytest.mark.parametrize("model", smoke(options("model")))
def test_models_that_forecast(short_run, model):
    """On frames of 8 x 8; those of paper size with fewer parameters."""
    shrunk = ["model.net.num_parameters=60000"] if model.endswith("_paper") else []
    callbacks = "smoke" if model == "gcnn_smoke" else "minimal"
    tiny = ("data=shared_windows", f"callbacks={callbacks}", "logger=csv")
    assert short_run(f"model={model}", *tiny, *SHORT, *shrunk).summary["status"] == "finished"


@pytest.mark.slow
@pytest.mark.parametrize("num_inputs", [1, 10])
@pytest.mark.parametrize("model", smoke(options("model")))
def test_models_that_forecast_have_equal_sizes(model, num_inputs):
    data = ("data=smoke_rotation", f"data.num_inputs={num_inputs}", "data.coarsen=2")
    module = build(composed("train", f"model={model}", *data), "model")
    expected = PAPER if model.endswith("_paper") else SMALL
    assert count_parameters(module) == pytest.approx(expected, rel=0.03)
    assert (module.num_inputs, module.net.num_inputs) == (num_inputs, num_inputs)


@pytest.mark.slow
@pytest.mark.parametrize("group", ["c4", "d4"])
@pytest.mark.parametrize("model", [name for name in options("model") if "same_macs" in name])
def test_models_of_equal_macs(model, group):
    """Those of `rgcnn` for c4, whatever the group."""
    chosen = [] if model.startswith("cnn") else [f"model.net.group={group}"]
    net = build(composed("train", "data=rotmnist", f"model={model}", *chosen), "model").net
    rgcnn = build(composed("train", "data=rotmnist", "model=rgcnn"), "model").net
    images = torch.zeros(1, 1, 28, 28)
    assert count_macs(net, images) == pytest.approx(count_macs(rgcnn, images), rel=0.015)


@pytest.mark.slow
@pytest.mark.parametrize("data", options("data"))
def test_data_sets(short_run, monkeypatch, data):
    """Those of smoke with few plumes, which are not simulated."""
    use_fake_simulation(monkeypatch)
    forecasts = data.startswith("smoke_")
    size = tiny_overrides(data.removeprefix("smoke_")) if forecasts else [f"data={data}"]
    small = ("model=cnn_smoke" if forecasts else "model=cnn", "model.net.num_parameters=3000")
    run = short_run(*size, *small, "callbacks=minimal", "logger=csv", *SHORT)
    assert run.summary["status"] == "finished"


@pytest.mark.slow
def test_curvature_along_training(short_run):
    small = ("model=gcnn", "model.net.num_parameters=2000", "callbacks.hessian.num_samples=4")
    run = short_run("callbacks=curvature", "logger=csv", *small, *FEW_SAMPLES, *SHORT)
    assert "dynamics/hessian_max" in run.summary["start"]


@pytest.mark.slow
@pytest.mark.parametrize("debug", options("debug"))
def test_debugging(run_entry_point, tmp_path_factory, debug):
    few = ("data.batch_size=8", "trainer.max_epochs=1", "trainer.enable_progress_bar=false")
    few += ("callbacks=minimal", f"paths.data_dir={tmp_path_factory.getbasetemp() / 'data'}")
    run = run_entry_point("train", "experiment=rgcnn_rotmnist", f"debug={debug}", *few)
    assert run.summary["status"] == "finished"


@pytest.mark.parametrize("search", options("hparams_search"))
def test_searches_vary_values_that_exist(search):
    task = {"forecasting": "smoke"}.get(search, "rotmnist")
    chosen = (f"experiment=rgcnn_{task}", f"hparams_search={search}")
    config = composed("train", *chosen, with_hydra=True)
    assert config.hydra.mode.name == "MULTIRUN"
    for key in config.hydra.sweeper.params:
        assert OmegaConf.select(config, key, default="missing") != "missing"
    config = composed("search", *chosen, with_hydra=True)
    assert config.hydra.mode.name == "RUN"
    plain = OmegaConf.to_container(config)
    assert read_space(plain["search"]["space"], plain, groups={"model"})


@pytest.mark.parametrize("launcher", options("launcher"))
def test_launchers_compose(launcher):
    offer_missing_launchers()
    config = composed("train", f"launcher={launcher}", with_hydra=True)
    slurm = dict.fromkeys(("slurm", "slurm_cpu"), "submitit_slurm")
    plugin = {"sequential": "basic", **slurm}.get(launcher, launcher)
    assert config.hydra.runtime.choices["hydra/launcher"] == plugin
    assert config.trainer.enable_progress_bar == (launcher == "sequential")
    assert config.hydra.mode == (None if launcher == "sequential" else RunMode.MULTIRUN)


@pytest.mark.parametrize("measure", options("measure"))
def test_measures_compose(measure):
    config = composed("measure", f"measure={measure}", "ckpt_path=a.ckpt")
    names = set(options("measure", without=("all",)))
    assert set(config.measure) == (names if measure == "all" else {measure})
    for name, entry in config.measure.items():
        probe = instantiate(entry.probe, _convert_="all")
        assert probe.func.__name__ == name
        inspect.signature(probe.func).bind(None, **probe.keywords)
        assert set(entry) == {"split", "num_samples", "checkpoint", "probe"}


ENTRY_POINTS = ("train", "eval", "export", "generate", "measure", "predict", "search")


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_the_entry_points_configs_compose(name):
    config = composed(name)
    names = set(yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())) - {"defaults", "hydra"}
    assert names <= set(config)


def test_every_option_that_is_offered_can_be_chosen():
    """`--help` and completion list every file of every group."""
    offer_missing_launchers()
    groups = sorted(path.name for path in CONFIGS.iterdir() if path.is_dir())
    entries = {"measure": "measure", "search": "search"}
    for group in groups:
        for option in options(group):
            composed(entries.get(group, "train"), f"{group}={option}")
