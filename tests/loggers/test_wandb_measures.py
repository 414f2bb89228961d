"""Measures of a run's checkpoints reach its W&B run, which otherwise stays as it is."""

import json
import logging
from pathlib import Path

import pytest
import yaml

from src.loggers import wandb_measures
from src.loggers.wandb_logger import WandbRunLogger
from src.loggers.wandb_measures import update_wandb_run
from src.loggers.wandb_offline import WandbRun, find_wandb_files, read_wandb_file
from src.loggers.wandb_run import finish_wandb
from tests.helpers.wandb_server import (
    KEY,
    FakeServer,
    closed_address,
    isolate_wandb,
    wandb_server,
)

VALUES = {"best": {"sharpness": 0.5, "equivariance_error/conv": 0.25}, "last": {"sharpness": 1.5}}
SUMMARY = {
    "measures/best/sharpness": 0.5,
    "measures/best/equivariance_error/conv": 0.25,
    "measures/last/sharpness": 1.5,
}


@pytest.fixture(autouse=True)
def isolated(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
    caplog: pytest.LogCaptureFixture,
) -> None:
    isolate_wandb(monkeypatch, tmp_path_factory.mktemp("home"))
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(wandb_measures, "TIMEOUTS", {"init_timeout": 4.0, "finish_timeout": 2.0})
    yield
    finish_wandb()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    with wandb_server() as server:
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        yield server


def trained(directory: Path, status: str = "success") -> str:
    """The id of a run that has trained and ended."""
    options = {"project": "symmetry", "entity": "team", "tags": ["c4"], "notes": "Try."}
    config = {"logger": {"csv": {}, "wandb": {**options, "job_type": "train", "name": None}}}
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    names = {"name": "seed=0", "group": "sweep", "job_type": "train"}
    logger = WandbRunLogger(
        str(directory), **options, **names, server_timeout=4.0, finish_timeout=2.0
    )
    for step in range(3):
        logger.log_metrics({"train/loss": 1 / (step + 1)}, step)
    logger.finalize(status)
    logger.finish()
    return logger.version


@pytest.mark.parametrize(("status", "code"), [("success", 0), ("failed", 1)])
def test_figures_are_added_and_the_rest_stays(
    tmp_path: Path, server: FakeServer, status: str, code: int
) -> None:
    run_id = trained(tmp_path, status)
    history, before = server.history(run_id), server.summaries[run_id]
    assert update_wandb_run(tmp_path, VALUES)
    after = server.summaries[run_id]
    assert {key: after[key] for key in SUMMARY} == SUMMARY
    assert after["train/loss"] == before["train/loss"]
    assert server.history(run_id) == history
    assert [read_wandb_file(f).exit_code for f in find_wandb_files(tmp_path)] == [code] * 2
    given = ("name", "project", "entity", "displayName", "groupName", "jobType", "tags", "notes")
    starts = [bucket for bucket in server.buckets if bucket["displayName"]]  # others: its config
    first, second = ({key: bucket[key] for key in given} for bucket in starts)
    assert second == first
    metrics = json.loads(server.buckets[-1]["config"])["_wandb"]["value"]["m"]
    assert any("trainer/global_step" in metric.values() for metric in metrics)
    assert (first["project"], first["displayName"]) == ("symmetry", "seed=0")


def test_later_figures_join_earlier_ones(tmp_path: Path, server: FakeServer) -> None:
    run_id = trained(tmp_path)
    update_wandb_run(tmp_path, {"best": {"sharpness": 0.1, "hessian_max": 9.0}})
    update_wandb_run(tmp_path, VALUES)
    expected = {**SUMMARY, "measures/best/hessian_max": 9.0}
    assert {key: server.summaries[run_id][key] for key in expected} == expected


def test_a_killed_run_does_not_become_a_finished_one(
    tmp_path: Path, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(tmp_path)
    killed = WandbRun(find_wandb_files(tmp_path)[0], project="symmetry", exit_code=None)
    monkeypatch.setattr(wandb_measures, "read_wandb_file", lambda path: killed)
    update_wandb_run(tmp_path, VALUES)
    assert read_wandb_file(find_wandb_files(tmp_path)[-1]).exit_code == 1


def test_training_goes_on_after_its_checkpoints_were_measured(
    tmp_path: Path, server: FakeServer
) -> None:
    run_id = trained(tmp_path)
    update_wandb_run(tmp_path, VALUES)
    logger = WandbRunLogger(str(tmp_path), "symmetry", server_timeout=4.0, finish_timeout=2.0)
    for step in range(5):
        logger.log_metrics({"train/loss": 1 / (step + 1)}, step)
    logger.finish()
    assert [row["trainer/global_step"] for row in server.history(run_id)] == [0, 1, 2, 3, 4]


def test_a_run_that_waits_for_upload_is_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained(tmp_path)
    files = find_wandb_files(tmp_path)
    caplog.clear()
    assert not update_wandb_run(tmp_path, VALUES)
    assert find_wandb_files(tmp_path) == files
    assert "its measures lie in measures.json alone" in caplog.text


def test_a_run_that_was_uploaded_later_takes_figures(
    tmp_path: Path, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as offline:
        offline.setenv("WANDB_MODE", "offline")
        run_id = trained(tmp_path)
    [file] = find_wandb_files(tmp_path)
    file.with_suffix(".wandb.synced").touch()
    server.rows[run_id] = {0: {"train/loss": 1.0, "_step": 0}}
    assert update_wandb_run(tmp_path, VALUES)
    assert {key: server.summaries[run_id][key] for key in SUMMARY} == SUMMARY


def test_figures_for_a_server_that_is_gone_are_kept(
    tmp_path: Path, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(tmp_path)
    monkeypatch.setenv("WANDB_BASE_URL", closed_address())
    assert not update_wandb_run(tmp_path, VALUES)
    [kept] = [run for run in map(read_wandb_file, find_wandb_files(tmp_path)) if run.offline]
    assert {key: kept.summary[key] for key in SUMMARY} == SUMMARY


@pytest.mark.parametrize("identity", [None, {"id": "abcd1234", "name": "a", "group": None}])
def test_a_run_without_wandb_files_is_left_alone(tmp_path: Path, identity: dict | None) -> None:
    if identity is not None:
        (tmp_path / "wandb_run.json").write_text(json.dumps(identity))
    before = list(tmp_path.iterdir())
    assert not update_wandb_run(tmp_path, VALUES)
    assert list(tmp_path.iterdir()) == before
