"""W&B in tests: away from this machine's settings, ended after every test."""

import logging

import pytest

from src.loggers.wandb_run import finish_wandb
from tests.helpers.wandb_server import KEY, isolate_wandb, wandb_server


@pytest.fixture(autouse=True)
def isolated(monkeypatch, tmp_path_factory, caplog):
    isolate_wandb(monkeypatch, tmp_path_factory.mktemp("home"))
    caplog.set_level(logging.INFO, "src.loggers")
    yield
    finish_wandb()


@pytest.fixture
def use(monkeypatch):
    def use(url, key=KEY):
        monkeypatch.setenv("WANDB_API_KEY", key)
        monkeypatch.setenv("WANDB_BASE_URL", url)

    return use


@pytest.fixture
def server(use):
    """A server that works, and a key for it."""
    with wandb_server() as server:
        use(server.url)
        yield server
        finish_wandb()


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """What the agent of a W&B sweep sets for a run that it starts."""
    chosen = tmp_path / "config-agentrun.yaml"
    chosen.write_text("wandb_version: 1\nmodel.alpha: {value: 0.1}\nseed: {value: 3}\n")
    names = {"SWEEP_ID": "sweep123", "RUN_ID": "agentrun", "PROJECT": "tuning", "ENTITY": "team"}
    with monkeypatch.context() as agent:
        for name, value in {**names, "SWEEP_PARAM_PATH": str(chosen)}.items():
            agent.setenv(f"WANDB_{name}", value)
        yield agent
