"""Measures of a run's checkpoints reach its W&B run, which otherwise stays as it is."""

import json
from pathlib import Path

import pytest

from src.loggers import wandb_measures
from src.loggers.wandb_logger import WandbRunLogger
from src.loggers.wandb_measures import update_wandb_run
from src.loggers.wandb_run import find_parts
from tests.helpers.wandb_files import STEP, read_parts
from tests.helpers.wandb_server import closed_address

VALUES = {"best": {"sharpness": 0.5, "equivariance_error/conv": 0.25}, "last": {"sharpness": 1.5}}
SUMMARY = {f"measures/{at}/{name}": v for at in VALUES for name, v in VALUES[at].items()}
OPTIONS = {"project": "symmetry", "name": "seed=0", "group": "sweep", "job_type": "train"}
OPTIONS |= {"entity": "team", "tags": ["c4"], "notes": "Try."}

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(wandb_measures, "TIMEOUTS", {"init_timeout": 4.0, "finish_timeout": 2.0})


def train(directory: Path, steps: range = range(3), status: str | None = "finished") -> str:
    """The id of a run that has trained and ended, or was killed (no status)."""
    logger = WandbRunLogger(str(directory), **OPTIONS, server_timeout=4.0, finish_timeout=2.0)
    for step in steps:
        logger.log_metrics({"train/loss": 1 / (step + 1)}, step)
    logger.finalize("success" if status in ("finished", "pruned") else "failed")
    logger.finish()
    if status is not None:
        (directory / "summary.json").write_text(json.dumps({"status": status}))
    return logger.version


CODES = {"finished": 0, "pruned": 0, "failed": 1, None: 1}


@pytest.mark.parametrize(("status", "code"), CODES.items())
def test_figures_are_added_and_the_rest_stays(tmp_path, server, status, code):
    run_id = train(tmp_path, status=status)
    history, before = server.history(run_id), server.summaries[run_id]
    assert update_wandb_run(tmp_path, {"best": {"sharpness": 0.1, "hessian_max": 9.0}})
    assert update_wandb_run(tmp_path, VALUES)
    after = server.summaries[run_id]
    expected = {**SUMMARY, "measures/best/hessian_max": 9.0, "train/loss": before["train/loss"]}
    assert {key: after[key] for key in expected} == expected
    assert server.history(run_id) == history
    assert [part.exit_code for part in read_parts(tmp_path)] == [code] * 3
    given = ("name", "project", "entity", "displayName", "groupName", "jobType", "tags", "notes")
    starts = [bucket for bucket in server.buckets if bucket["displayName"]]  # others: its config
    first, *others = ({key: bucket[key] for key in given} for bucket in starts)
    assert others == [first] * 2
    metrics = json.loads(server.buckets[-1]["config"])["_wandb"]["value"]["m"]
    assert any(STEP in metric.values() for metric in metrics)
    assert (first["project"], first["displayName"]) == ("symmetry", "seed=0")


def test_training_goes_on_after_its_checkpoints_were_measured(tmp_path, server):
    run_id = train(tmp_path)
    update_wandb_run(tmp_path, VALUES)
    train(tmp_path, range(5))
    assert [row[STEP] for row in server.history(run_id)] == [0, 1, 2, 3, 4]


def test_a_run_that_waits_for_upload_is_left_alone(tmp_path, server, monkeypatch, caplog):
    with monkeypatch.context() as offline:
        offline.setenv("WANDB_MODE", "offline")
        run_id = train(tmp_path)
    [part] = find_parts(tmp_path, run_id)
    assert not update_wandb_run(tmp_path, VALUES)
    assert find_parts(tmp_path, run_id) == [part]
    assert "its measures lie in measures.json alone" in caplog.text
    part.with_suffix(".wandb.synced").touch()
    server.rows[run_id] = {0: {"train/loss": 1.0, "_step": 0}}
    assert update_wandb_run(tmp_path, VALUES)
    assert {key: server.summaries[run_id][key] for key in SUMMARY} == SUMMARY


def test_figures_for_a_server_that_is_gone_are_kept(tmp_path, server, monkeypatch):
    train(tmp_path)
    monkeypatch.setenv("WANDB_BASE_URL", closed_address())
    assert not update_wandb_run(tmp_path, VALUES)
    [kept] = [part for part in read_parts(tmp_path) if part.offline]
    assert {key: kept.summary[key] for key in SUMMARY} == SUMMARY


@pytest.mark.parametrize("identity", [None, {"id": "abcd1234", "name": "a", "group": None}])
def test_a_run_without_wandb_files_is_left_alone(tmp_path, identity):
    if identity is not None:
        (tmp_path / "wandb_run.json").write_text(json.dumps(identity))
    before = list(tmp_path.iterdir())
    assert not update_wandb_run(tmp_path, VALUES)
    assert list(tmp_path.iterdir()) == before
