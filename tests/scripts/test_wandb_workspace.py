"""The dashboard as code: what it shows, what would be sent to save it, and how it fails."""

import json
import re
import sys
import time
from pathlib import Path

import pytest

from scripts import wandb_workspace
from scripts.wandb_workspace import main
from src.callbacks import dynamics
from src.loggers import wandb_logger
from src.loggers.wandb_run import finish_wandb
from tests.helpers.wandb_server import KEY, isolate_wandb, silent_server, wandb_server

ROOT = Path(__file__).parents[2]


@pytest.fixture
def server(run, monkeypatch):
    with wandb_server() as server:
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        yield server


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run the script, away from this machine's settings."""
    isolate_wandb(monkeypatch, tmp_path / "home")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["wandb_workspace.py", *arguments])
        main()

    yield run
    finish_wandb()


@pytest.fixture
def dry_run(run, capfd):
    def dry_run(*arguments):
        run("--entity", "team", "--project", "symmetry", "--dry-run", *arguments)
        return json.loads(capfd.readouterr().out)

    return dry_run


def sections(spec):
    """Configs of the panels by section."""
    found = spec["section"]["panelBankConfig"]["sections"]
    return {section["name"]: [panel["config"] for panel in section["panels"]] for section in found}


def metrics(panels):
    """The names of panels; of those that show a metric of every layer, without the layer."""
    of_layers = [
        panel["metricRegex"].removesuffix("/.*") for panel in panels if "metricRegex" in panel
    ]
    return [*of_layers, *(name for panel in panels for name in panel.get("metrics", []))]


def test_its_sections(dry_run):
    written = (wandb_workspace.STEP, wandb_workspace.EPOCHS_TRAINED)
    assert written == (wandb_logger.STEP, dynamics.EPOCHS_TRAINED)
    view = dry_run("--name", "a")
    named = [view[key] for key in ("entity", "project", "displayName")]
    assert named == ["team", "symmetry", "a"]
    shown = sections(view["spec"])
    assert list(shown) == ["Loss", "Score", "Dynamics", "Relaxed weights", "Optimisation"]
    assert {"train/loss", "val/loss"} <= set(metrics(shown["Loss"]))
    assert metrics(shown["Score"]) == [
        "val/acc_reestimated",
        "val/rmse_reestimated",
        "test/acc",
        "test/rmse",
    ]
    lines = [panel for name in ("Dynamics", "Optimisation") for panel in shown[name]]
    assert all(panel["xAxis"] == "epochs_trained" for panel in lines)
    assert all((panel["groupAgg"], panel["groupArea"]) == ("mean", "minmax") for panel in lines)
    by_group, by_run, by_layer, *more = shown["Relaxed weights"]
    assert by_group["metrics"] == by_run["metrics"] == ["dynamics/relaxed_weight_error"]
    assert by_group["aggregate"]
    assert (by_run["groupBy"], by_run["aggregate"]) == ("None", False)
    pattern = re.compile(by_layer["metricRegex"])
    assert pattern.fullmatch("dynamics/relaxed_weight_error/blocks.0")
    assert not pattern.fullmatch("dynamics/relaxed_weight_error")
    assert metrics(more[:2]) == ["dynamics/theta", "dynamics/multiplier"]
    keys = [panel["mediaKeys"] for panel in more[2:]]
    assert keys == [["images/relaxed_weights"], ["images/kernels"]]


def test_every_measure_has_a_plot(dry_run):
    shown = {name for panels in sections(dry_run()["spec"]).values() for name in metrics(panels)}
    for file in ("docs/measures.md", "configs/callbacks/dynamics.yaml"):
        text = (ROOT / file).read_text()
        named = set(re.findall(r"dynamics/(\w+)", text))
        for names in re.findall(r"dynamics/\{([\w,]+)\}", text):
            named |= set(names.split(","))
        assert {"relaxed_weight_error", "equivariance_error", "grad_norm"} <= named
        assert {f"dynamics/{name}" for name in named} <= shown, file


def test_how_runs_are_grouped(dry_run):
    for group_by, section, name in (
        ("model.net._target_", "config", "model.value.net._target_"),
        ("sweep", "run", "sweep"),
        ("none", None, None),
    ):
        spec = dry_run("--group-by", group_by)["spec"]
        assert sections(spec)["Loss"][0].get("groupBy") == name
        grouping = spec["section"]["runSets"][0]["grouping"]
        expected = [(section, name)] if name else []
        assert [(entry["section"], entry["name"]) for entry in grouping] == expected


@pytest.mark.parametrize(("arguments", "entity"), [(["--entity", "team"], "team"), ([], "me")])
def test_what_is_sent_to_save_it(run, dry_run, capfd, server, arguments, entity):
    expected = dry_run()["spec"]
    run(*arguments, "--project", "symmetry", "--name", "a")
    [sent] = server.views
    named = [sent[key] for key in ("entityName", "projectName", "displayName", "type")]
    assert named == [entity, "symmetry", "a", "project-view"]
    shown = sections(json.loads(sent["spec"]))
    assert list(map(metrics, shown.values())) == list(map(metrics, sections(expected).values()))
    printed = capfd.readouterr()
    assert printed.out.startswith(f"{server.url}/{entity}/symmetry?nw=")
    assert printed.err == ""


def test_keys_that_are_not_usable_or_refused(run, monkeypatch, server):
    for key in ("", "abc"):
        monkeypatch.setenv("WANDB_API_KEY", key)
        with pytest.raises(SystemExit, match=r"needs a W&B API key.*`wandb login`"):
            run()
    assert not server.requests
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    server.refuses = True
    with pytest.raises(SystemExit, match=r"must accept the workspace; got: .*Check --entity"):
        run("--entity", "team")


@pytest.mark.slow
def test_a_silent_server_is_not_waited_for(run, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    started = time.monotonic()
    with silent_server() as url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        with pytest.raises(SystemExit, match=r"must accept the workspace; got: no answer within"):
            run("--entity", "team")
    assert time.monotonic() - started < 10
