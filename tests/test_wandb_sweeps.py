"""The sweeps of W&B below `configs/wandb_sweep`: valid, and their overrides ones of the config."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

from tests.helpers.wandb_server import KEY, FakeServer, isolate_wandb, wandb_server
from tests.test_configs import CONFIGS, composed

ROOT = CONFIGS.parent
FILES = sorted((CONFIGS / "wandb_sweep").glob("*.yaml"))
COMMAND = ["${env}", "${interpreter}", "${program}", "${args_no_hyphens}"]
# What W&B's sweeps may hold, as in the schema of its package `sweeps` (which needs numpy < 2).
KEYS = {"name", "project", "program", "command", "method", "run_cap", "metric", "parameters"}
KEYS |= {"early_terminate"}
KINDS = [{"value"}, {"values"}, {"distribution", "min", "max"}]
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())


def extremes(parameter: dict[str, Any]) -> tuple[Any, Any]:
    """The first and last, or smallest and largest, of a parameter's values."""
    if "min" in parameter:
        return parameter["min"], parameter["max"]
    values = parameter.get("values", [parameter.get("value")])
    return values[0], values[-1]


def overrides(sweep: dict[str, Any], last: bool) -> list[str]:
    """What an agent passes to `src/train.py` for extreme values of all parameters."""
    values = {key: {"value": extremes(p)[last]} for key, p in sweep["parameters"].items()}
    return create_sweep_command_args({"args": values})["args_no_hyphens"]


def test_there_are_sweeps() -> None:
    assert [path.stem for path in FILES] == ["alpha", "learning_rate", "networks"]


@each_file
def test_a_sweep_is_one_that_wandb_accepts(path: Path) -> None:
    sweep = read(path)
    assert set(sweep) <= KEYS
    assert sweep["name"] == path.stem
    assert (ROOT / sweep["program"]).is_file()
    assert sweep["command"] == COMMAND
    assert all(set(parameter) in KINDS for parameter in sweep["parameters"].values())
    drawn = any("min" in parameter for parameter in sweep["parameters"].values())
    assert sweep["method"] in (("random", "bayes") if drawn else ("grid",))
    assert drawn == ("run_cap" in sweep)  # without it such a sweep never ends
    for parameter in sweep["parameters"].values():
        assert parameter.get("distribution", "log_uniform_values") == "log_uniform_values"
        assert "min" not in parameter or 0 < parameter["min"] < parameter["max"]


@each_file
@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
def test_the_overrides_of_its_agents_compose(path: Path, last: bool) -> None:
    sweep = read(path)
    config = composed("train", *overrides(sweep, last))
    checkpoint = config.callbacks.checkpoint
    goal = {"max": "maximize", "min": "minimize"}[checkpoint.mode]
    assert sweep["metric"] == {"name": checkpoint.monitor, "goal": goal}


@each_file
def test_a_run_is_not_stopped_before_its_learning_rate_has_peaked(path: Path) -> None:
    sweep = read(path)
    rule = sweep.get("early_terminate")
    if rule is not None:
        assert (set(rule), rule["type"]) == ({"type", "min_iter", "eta"}, "hyperband")
        epochs = composed("train", *overrides(sweep, False)).trainer.max_epochs
        assert 0.3 * epochs < rule["min_iter"] < epochs  # torch's OneCycleLR peaks at 0.3


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeServer:
    isolate_wandb(monkeypatch, tmp_path / "home")
    with wandb_server() as server:
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_ENTITY", "me")
        monkeypatch.setenv("WANDB_DIR", str(tmp_path))
        python = Path(sys.executable).parent  # the agent runs `python`
        monkeypatch.setenv("PATH", str(python), prepend=os.pathsep)
        yield server


def wandb(*arguments: str) -> str:
    command = [str(Path(sys.executable).with_name("wandb")), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
@each_file
def test_wandb_sends_a_sweep_as_it_is_written(path: Path, server: FakeServer) -> None:
    told = wandb("sweep", str(path))
    [sent] = server.sweeps
    assert yaml.safe_load(sent["config"]) == read(path)
    assert (sent["entityName"], sent["projectName"]) == ("me", "relaxed-symmetry")
    assert "wandb agent me/relaxed-symmetry/sweep123" in told


@pytest.mark.slow
def test_an_agent_of_wandb_starts_a_run_that_the_sweep_knows(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command of the sweeps, with tiny data."""
    fakes = ROOT / "tests" / "helpers"
    monkeypatch.setenv("PYTHONPATH", str(fakes))
    tiny = [f"--config-dir={fakes / 'configs'}", "data=tiny", "model=tiny", "trainer=cpu"]
    tiny += ["callbacks=minimal", "trainer.max_epochs=1", f"paths.data_dir={tmp_path}"]
    tiny += [f"paths.log_dir={tmp_path / 'logs'}"]
    sweep = {**read(FILES[0]), "command": [*COMMAND[:-1], *tiny, COMMAND[-1]]}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    wandb("sweep", str(tmp_path / "sweep.yaml"))
    server.trials = [{"model.alpha": 1e-6, "seed": 2}]
    wandb("agent", "--count", "1", "me/relaxed-symmetry/sweep123")

    [directory] = (tmp_path / "logs" / "train" / "runs").iterdir()
    config = read(directory / "config.yaml")
    assert (config["model"]["alpha"], config["seed"]) == (1e-6, 2)
    keys = ("name", "sweep", "project", "entity")
    expected = ["agentrun", "sweep123", "relaxed-symmetry", "me"]
    assert [server.buckets[0][key] for key in keys] == expected
    assert any("val/acc" in row for row in server.history("agentrun"))
