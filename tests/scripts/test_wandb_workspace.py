"""The dashboard as code: what it shows, what would be sent to save it, and how it fails."""

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts import wandb_workspace
from scripts.wandb_workspace import build_workspace, describe, main
from src.callbacks import dynamics
from src.loggers import wandb_logger
from src.loggers.wandb_run import finish_wandb
from tests.helpers.wandb_server import (
    KEY,
    FakeServer,
    closed_address,
    isolate_wandb,
    silent_server,
    wandb_server,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate_wandb(monkeypatch, tmp_path / "home")
    yield
    finish_wandb()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    with wandb_server() as server:
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        yield server


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["wandb_workspace.py", *arguments])
    main()


def sections(view: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Configs of the panels by section."""
    found = view["spec"]["section"]["panelBankConfig"]["sections"]
    return {section["name"]: [panel["config"] for panel in section["panels"]] for section in found}


def view(group_by: str = wandb_workspace.NETWORK) -> dict[str, Any]:
    return describe(build_workspace("team", "symmetry", "Dynamics", group_by))


def metrics(panels: list[dict[str, Any]]) -> list[str]:
    return [name for panel in panels for name in panel.get("metrics", [])]


def test_the_axes_are_those_that_are_logged() -> None:
    assert wandb_workspace.STEP == wandb_logger.STEP
    assert wandb_workspace.EPOCHS_TRAINED == dynamics.EPOCHS_TRAINED


def test_its_sections() -> None:
    shown = sections(view())
    assert list(shown) == ["Loss", "Score", "Dynamics", "Relaxed weights", "Optimisation"]
    assert {"train/loss", "val/loss"} <= set(metrics(shown["Loss"]))
    assert metrics(shown["Score"]) == ["val/acc", "val/rmse", "test/acc", "test/rmse"]
    lines = [panel for name in ("Dynamics", "Optimisation") for panel in shown[name]]
    assert all(panel["xAxis"] == "epochs_trained" for panel in lines)
    assert all((panel["groupAgg"], panel["groupArea"]) == ("mean", "minmax") for panel in lines)


@pytest.mark.parametrize("file", ["README.md", "configs/callbacks/dynamics.yaml"])
def test_every_measure_has_a_plot(file: str) -> None:
    text = (ROOT / file).read_text()
    named = set(re.findall(r"dynamics/(\w+)", text))
    listed = re.findall(r"dynamics/\{([\w,]+)\}", text)
    named |= {name for names in listed for name in names.split(",")}
    assert {"relaxed_weight_error", "equivariance_error", "grad_norm"} <= named
    shown = {name for panels in sections(view()).values() for name in metrics(panels)}
    assert {f"dynamics/{name}" for name in named} <= shown


def test_relaxed_weights_by_group_by_run_and_by_layer() -> None:
    by_group, by_run, by_layer, *pictures = sections(view())["Relaxed weights"]
    assert by_group["metrics"] == by_run["metrics"] == ["dynamics/relaxed_weight_error"]
    assert by_group["aggregate"]
    assert (by_run["groupBy"], by_run["aggregate"]) == ("None", False)
    pattern = re.compile(by_layer["metricRegex"])
    assert pattern.fullmatch("dynamics/relaxed_weight_error/blocks.0")
    assert not pattern.fullmatch("dynamics/relaxed_weight_error")
    keys = [panel["mediaKeys"] for panel in pictures]
    assert keys == [["images/relaxed_weights"], ["images/kernels"]]


@pytest.mark.parametrize(
    ("group_by", "panel", "runs"),
    [
        ("model.net._target_", "model.value.net._target_", ("config", "model.value.net._target_")),
        ("model.alpha", "model.value.alpha", ("config", "model.value.alpha")),
        ("seed", "seed.value", ("config", "seed.value")),
        ("group", "group", ("run", "group")),
        ("sweep", "sweep", ("run", "sweep")),
    ],
)
def test_how_runs_are_grouped(group_by: str, panel: str, runs: tuple[str, str]) -> None:
    found = view(group_by)
    [loss, *_] = sections(found)["Loss"]
    assert (loss["groupBy"], loss["aggregate"]) == (panel, True)
    [grouping] = found["spec"]["section"]["runSets"][0]["grouping"]
    assert (grouping["section"], grouping["name"]) == runs


def test_runs_by_themselves() -> None:
    found = view("none")
    assert found["spec"]["section"]["runSets"][0]["grouping"] == []
    assert not any("groupBy" in panel for panel in sections(found)["Loss"])


def test_the_default_group_is_the_network() -> None:
    config = yaml.safe_load((ROOT / "configs" / "model" / "rgcnn.yaml").read_text())
    for key in wandb_workspace.NETWORK.removeprefix("model.").split("."):
        config = config[key]
    assert config.endswith("RelaxedGCNN")


def test_a_dry_run_prints_it_without_a_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    run(monkeypatch, "--entity", "team", "--project", "symmetry", "--name", "a", "--dry-run")
    printed = json.loads(capsys.readouterr().out)
    assert (printed["entity"], printed["project"]) == ("team", "symmetry")
    assert printed["displayName"] == "a"
    assert [metrics(p) for p in sections(printed).values()] == [
        metrics(p) for p in sections(view()).values()
    ]


@pytest.mark.parametrize(("arguments", "entity"), [(["--entity", "team"], "team"), ([], "me")])
def test_what_is_sent_to_save_it(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture,
    server: FakeServer,
    arguments: list[str],
    entity: str,
) -> None:
    run(monkeypatch, *arguments, "--project", "symmetry", "--name", "a")
    [sent] = server.views
    assert (sent["entityName"], sent["projectName"]) == (entity, "symmetry")
    assert (sent["displayName"], sent["type"]) == ("a", "project-view")
    spec = json.loads(sent["spec"])
    shown = sections({"spec": spec})
    assert [metrics(p) for p in shown.values()] == [metrics(p) for p in sections(view()).values()]
    told = capfd.readouterr()
    assert told.out.startswith(f"{server.url}/{entity}/symmetry?nw=")
    assert told.err == ""


def test_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", closed_address())
    with pytest.raises(SystemExit, match=r"needs a W&B API key; got none .* `wandb login`"):
        run(monkeypatch)


def test_with_a_malformed_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "abc")
    with pytest.raises(SystemExit, match=r"needs a W&B API key; got none that can be used"):
        run(monkeypatch)


def test_without_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", closed_address())
    with pytest.raises(SystemExit, match=r"must be reachable .*; got: .* refused.*--dry-run"):
        run(monkeypatch)


@pytest.mark.slow
def test_a_silent_server_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    started = time.monotonic()
    with silent_server() as url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        with pytest.raises(SystemExit, match=r"must be reachable .*; got: no answer within 4 s"):
            run(monkeypatch)
    assert time.monotonic() - started < 8


def test_a_key_that_is_refused(monkeypatch: pytest.MonkeyPatch, server: FakeServer) -> None:
    server.refuses = True
    with pytest.raises(
        SystemExit, match=r"must accept the workspace; got: .*Check --entity, --project and the key"
    ):
        run(monkeypatch, "--entity", "team")


@pytest.mark.slow
def test_a_server_that_stops_answering_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, server: FakeServer
) -> None:
    monkeypatch.setattr(wandb_workspace, "why_unreachable", lambda url, seconds: None)
    started = time.monotonic()
    with silent_server() as url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        with pytest.raises(SystemExit, match=r"must accept .*; got: no answer within 4 s"):
            run(monkeypatch, "--entity", "team")
    assert time.monotonic() - started < 10


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    monkeypatch.setitem(sys.modules, "wandb_workspaces.reports.v2", None)
    monkeypatch.setitem(sys.modules, "wandb_workspaces.workspaces", None)
    with pytest.raises(SystemExit, match=re.escape('pip install -e ".[wandb]"')):
        run(monkeypatch, "--dry-run")
