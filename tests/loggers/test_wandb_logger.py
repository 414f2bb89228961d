"""What a run is called, what it logs, and that W&B shows each step once however it is continued."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf
from PIL import Image

from src.loggers.wandb_logger import WandbRunLogger
from tests.conftest import ROOT
from tests.helpers.wandb_files import STEP, read_parts
from tests.helpers.wandb_server import leaves_file_open

LOSS, NORM = "train/loss", "dynamics/grad_norm/conv"


def make_logger(directory, **options):
    options = {"server_timeout": 4.0, "finish_timeout": 2.0, **options}
    return WandbRunLogger(str(directory), "symmetry", **options)


def log_run(directory, steps):
    """A run, or a continued one, that logs two metrics at each step."""
    logger = make_logger(directory)
    for step in steps:
        logger.log_metrics({LOSS: 1 / (step + 1), "epoch": step // 10}, step)
        logger.log_metrics({NORM: float(step), "epoch": step // 10}, step)
    logger.finalize("success")
    logger.finish()
    return logger


def steps_of(history, metric):
    return [row[STEP] for row in history if metric in row]


def history_of(directory):
    return [row for part in read_parts(directory) for row in part.history]


def check_whole(server, run_id, num_steps):
    """The server has two rows of every step, in order."""
    history, steps = server.history(run_id), list(range(num_steps))
    assert steps_of(history, LOSS) == steps_of(history, NORM) == steps
    assert [row["_step"] for row in history] == list(range(2 * num_steps))


@pytest.mark.slow
def test_config_builds_it_beside_the_csv_logger(tmp_path, monkeypatch):
    group = OmegaConf.load(ROOT / "configs" / "logger" / "wandb.yaml")
    assert group.defaults == ["csv"]
    run = {"paths": {"output_dir": str(tmp_path)}, "task_name": "train", "tags": ["c4", "pilot"]}
    config = OmegaConf.merge(run, {"logger": {"wandb": group.wandb}})
    logger = instantiate(config.logger.wandb, _convert_="all")
    logger.log_hyperparams(OmegaConf.to_container(config, resolve=True))
    logger.finish()
    [part] = read_parts(tmp_path)
    assert part.config == OmegaConf.to_container(config, resolve=True)
    assert (part.run.project, part.run.job_type) == ("relaxed-symmetry", "train")
    assert (part.run.display_name, part.run.run_group) == (tmp_path.name, "")
    assert part.run.tags == ["c4", "pilot"]
    for name in ("project", "entity"):
        monkeypatch.setenv(f"WANDB_{name.upper()}", "another")
        assert config.logger.wandb[name] == "another"


@pytest.mark.parametrize(
    ("status", "code"), [("success", 0), pytest.param("failed", 1, marks=pytest.mark.slow)]
)
def test_metrics_and_images_by_step_and_how_the_run_ended(tmp_path, status, code):
    picture = tmp_path / "kernels.png"
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(picture)
    logger = make_logger(tmp_path, name="n", group="g", notes="Try.")
    logger.log_metrics({"dynamics/equivariance_error/conv": 0.5}, 3)
    logger.log_image("images/kernels", [str(picture)], 7, caption=["before training"])
    logger.finalize(status)
    logger.finish()
    [part] = read_parts(tmp_path)
    assert (part.run.display_name, part.run.run_group, part.run.notes) == ("n", "g", "Try.")
    assert part.step_metrics == {"*": STEP}
    assert part.exit_code == code
    error, image = part.history
    assert (error["dynamics/equivariance_error/conv"], error[STEP]) == (0.5, 3)
    assert (image["images/kernels"]["captions"], image[STEP]) == (["before training"], 7)
    [file] = image["images/kernels"]["filenames"]
    assert (part.path.parent / "files" / file).read_bytes() == picture.read_bytes()


@pytest.mark.parametrize("case", ["nothing logged", "disabled", "another process"])
def test_nothing_is_written(tmp_path, monkeypatch, caplog, case):
    monkeypatch.setenv("WANDB_MODE", "disabled" if case == "disabled" else "offline")
    monkeypatch.setattr(rank_zero_only, "rank", int(case == "another process"))
    log_run(tmp_path, range(0 if case == "nothing logged" else 2))
    assert not list(tmp_path.iterdir())
    assert not [record for record in caplog.records if record.name.startswith("src.")]


def test_a_continued_run_keeps_its_names_and_logs_each_step_once(tmp_path, monkeypatch):
    first = make_logger(tmp_path, name="seed=0", group="sweep")
    for step in range(10):
        first.log_metrics({LOSS: 1 / (step + 1)}, step)
    first.log_metrics({"val/acc": 0.5}, 9)
    first.finish()
    with (tmp_path / "wandb_rows.jsonl").open("a") as file:
        file.write('[10, "train/lo')  # a kill in the middle of a line
    again = log_run(tmp_path, range(6, 14))  # from a checkpoint at step 6
    log_run(tmp_path, range(16))  # from the start: all is known, but for one metric's beginning
    parts, history = read_parts(tmp_path), history_of(tmp_path)
    assert {part.run.run_id for part in parts} == {again.version}
    assert {(part.run.display_name, part.run.run_group) for part in parts} == {("seed=0", "sweep")}
    assert steps_of(history, LOSS) == list(range(16))
    assert steps_of(history, NORM) == [*range(6, 14), 14, 15]
    assert steps_of(history, "val/acc") == [9]
    numbers = [row["_step"] for row in history]
    assert numbers == sorted(set(numbers))
    assert len((tmp_path / "wandb_rows.jsonl").read_text().splitlines()) == len(history)


@pytest.mark.slow
def test_the_parts_of_an_offline_run_are_uploaded_as_one(tmp_path, server, monkeypatch):
    with monkeypatch.context() as away:
        away.setenv("WANDB_MODE", "offline")
        run_id = log_run(tmp_path, range(6)).version
        log_run(tmp_path, range(4, 9))
    command = [str(Path(sys.executable).with_name("wandb")), "sync", str(tmp_path / "wandb")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    check_whole(server, run_id, 9)
    log_run(tmp_path, range(7, 11))  # goes on online
    check_whole(server, run_id, 11)


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 6])
def test_a_continued_online_run_sends_again_what_the_server_does_not_have(tmp_path, server, lost):
    run_id = log_run(tmp_path, range(8)).version
    for line in range(16 - lost, 16):  # as if the run had been killed before it sent them
        del server.rows[run_id][line]
    log_run(tmp_path, range(3, 10))
    log_run(tmp_path, range(9, 12))
    check_whole(server, run_id, 12)


@pytest.mark.slow
@leaves_file_open
def test_a_run_of_a_sweep_takes_and_keeps_the_agents_id(tmp_path, server, sweep, capfd):
    logger = make_logger(tmp_path)
    logger.log_hyperparams({"seed": 3, "model": {"alpha": 0.1}})
    logger.log_metrics({LOSS: 1.0}, 0)
    expected = {"model.alpha": 0.1, "seed": 3, "model": {"alpha": 0.1}}
    assert dict(logger.experiment.config) == expected
    logger.finish()
    keys = ("name", "sweep", "project", "entity")
    assert [server.buckets[0][key] for key in keys] == ["agentrun", "sweep123", "tuning", "team"]
    sweep.undo()
    assert log_run(tmp_path, range(3)).version == "agentrun"  # by hand, in another shell
    assert steps_of(server.history("agentrun"), LOSS) == [0, 1, 2]
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_a_killed_run_is_continued_without_gap(tmp_path):
    code = f"""
import os, time
from src.loggers.wandb_logger import WandbRunLogger
logger = WandbRunLogger({str(tmp_path)!r}, "symmetry")
for step in range(20):
    logger.log_metrics({{"{LOSS}": 1 / (step + 1)}}, step)
time.sleep(0.5)
os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == -9
    log_run(tmp_path, range(15, 25))
    assert [part.exit_code for part in read_parts(tmp_path)] == [None, 0]
    assert steps_of(history_of(tmp_path), LOSS) == list(range(25))


@pytest.mark.slow
def test_jobs_that_start_in_the_same_second_are_runs_of_one_group(tmp_path):
    code = f"""
import os
from src.loggers.wandb_logger import WandbRunLogger
for number in range(8):
    if os.fork() == 0:
        logger = WandbRunLogger(f"{tmp_path}/{{number}}", "symmetry", group="sweep")
        for step in range(3):
            logger.log_metrics({{"{LOSS}": float(number)}}, step)
        logger.finalize("success")
        logger.finish()
        os._exit(0)
assert not any(os.wait()[1] for number in range(8))
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
    parts = [read_parts(tmp_path / str(number)) for number in range(8)]
    assert {(len(own), own[0].run.run_group, own[0].exit_code) for own in parts} == {
        (1, "sweep", 0)
    }
    assert len({own[0].run.run_id for own in parts}) == 8
    for number, own in enumerate(parts):
        assert [row[LOSS] for row in own[0].history] == [number] * 3


@pytest.mark.parametrize(("mode", "group"), [("MULTIRUN", "morning"), ("RUN", "")])
def test_a_run_is_named_after_its_overrides_and_grouped_by_its_sweep(
    tmp_path, monkeypatch, mode, group
):
    overrides = [f"hydra.mode={mode}", "hydra.sweep.dir=sweeps/morning", "+tags=[a]", "+seed=1"]
    with initialize(config_path=None, version_base="1.3"):
        config = compose(overrides=[*overrides, "+paths.data_dir=b"], return_hydra_config=True)
    monkeypatch.setattr(HydraConfig.instance(), "cfg", config)
    log_run(tmp_path, range(1))
    [part] = read_parts(tmp_path)
    assert (part.run.display_name, part.run.run_group) == ("+seed=1", group)
    identity = json.loads((tmp_path / "wandb_run.json").read_text())
    assert identity["id"] == part.run.run_id
    assert (identity["name"], identity["group"] or "") == ("+seed=1", group)


def test_training_goes_on_without_wandb(train, monkeypatch):
    monkeypatch.setattr("src.loggers.wandb_logger.start_run", lambda *arguments: None)
    run, other = train("logger=wandb"), train("logger=csv")
    assert run.summary["status"] == "finished"
    assert run.metrics == other.metrics and not (run / "wandb").exists()
