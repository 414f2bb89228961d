import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

from tests.conftest import FAKES, ROOT, TINY
from tests.helpers.wandb_server import KEY, isolate_wandb, wandb_server
from tests.test_configs import composed

FILES = sorted((ROOT / "scripts" / "wandb_sweeps").glob("*.yaml"))
COMMAND = ["${env}", "${interpreter}", "${program}", "${args_no_hyphens}"]
# What W&B's sweeps may hold, as in the schema of its package `sweeps` (which needs numpy < 2).
KEYS = {"name", "project", "program", "command", "method", "run_cap", "metric", "parameters"}
KEYS |= {"early_terminate"}
KINDS = [{"value"}, {"values"}, {"distribution", "min", "max"}]


def read(path):
    return yaml.safe_load(path.read_text())


def overrides(sweep, last):
    """What an agent passes to `src/train.py` for the first or last values of all parameters."""
    values = {}
    for key, parameter in sweep["parameters"].items():
        given = parameter.get("values", [parameter.get("value")])
        ends = (parameter.get("min", given[0]), parameter.get("max", given[-1]))
        values[key] = {"value": ends[last]}
    return create_sweep_command_args({"args": values})["args_no_hyphens"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_sweep_is_one_that_wandb_accepts_and_its_overrides_compose(path):
    """No run is stopped before torch's OneCycleLR has peaked, at 0.3 of its epochs."""
    sweep = read(path)
    assert set(sweep) <= KEYS
    assert (sweep["name"], sweep["command"]) == (path.stem, COMMAND)
    assert (ROOT / sweep["program"]).is_file()
    parameters = sweep["parameters"].values()
    assert all(set(parameter) in KINDS for parameter in parameters)
    drawn = [parameter for parameter in parameters if "min" in parameter]
    for parameter in drawn:
        assert parameter["distribution"] == "log_uniform_values"
        assert 0 < parameter["min"] < parameter["max"]
    assert sweep["method"] in (("random", "bayes") if drawn else ("grid",))
    assert bool(drawn) == ("run_cap" in sweep)  # without it such a sweep never ends
    rule = sweep.get("early_terminate")
    assert rule is None or (set(rule), rule["type"]) == ({"type", "min_iter", "eta"}, "hyperband")
    for last in (False, True):
        config = composed("train", *overrides(sweep, last))
        checkpoint = config.callbacks.checkpoint
        goal = {"max": "maximize", "min": "minimize"}[checkpoint.mode]
        assert sweep["metric"] == {"name": checkpoint.monitor, "goal": goal}
        epochs = config.trainer.max_epochs
        assert rule is None or 0.3 * epochs < rule["min_iter"] < epochs


def wandb(*arguments):
    command = [str(Path(sys.executable).with_name("wandb")), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_an_agent_of_wandb_starts_a_run_that_the_sweep_knows(tmp_path, monkeypatch):
    """The command of the sweeps, with tiny data."""
    isolate_wandb(monkeypatch, tmp_path / "home")
    monkeypatch.setenv("PYTHONPATH", str(FAKES))
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)  # `python`
    tiny = [f"--config-dir={FAKES / 'configs'}", *TINY, "callbacks=minimal", "trainer.max_epochs=1"]
    tiny += [f"paths.data_dir={tmp_path}", f"paths.log_dir={tmp_path / 'logs'}"]
    sweep = {**read(FILES[0]), "command": [*COMMAND[:-1], *tiny, COMMAND[-1]]}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    with wandb_server() as server:
        settings = {"API_KEY": KEY, "BASE_URL": server.url, "ENTITY": "me", "DIR": str(tmp_path)}
        for name, value in settings.items():
            monkeypatch.setenv(f"WANDB_{name}", value)
        shown = wandb("sweep", str(tmp_path / "sweep.yaml"))
        server.trials = [{"model.optimizer.lr": 1e-6, "seed": 2}]
        wandb("agent", "--count", "1", "me/relaxed-symmetry/sweep123")
    assert "wandb agent me/relaxed-symmetry/sweep123" in shown
    [sent] = server.sweeps
    assert yaml.safe_load(sent["config"]) == sweep
    assert (sent["entityName"], sent["projectName"]) == ("me", "relaxed-symmetry")
    [directory] = (tmp_path / "logs" / "train" / "runs").iterdir()
    config = read(directory / "config.yaml")
    assert (config["model"]["optimizer"]["lr"], config["seed"]) == (1e-6, 2)
    expected = {"name": "agentrun", "sweep": "sweep123", "project": "relaxed-symmetry"}
    assert server.buckets[0].items() >= (expected | {"entity": "me"}).items()
    assert any("val/acc" in row for row in server.history("agentrun"))
