"""The W&B logger: what a run is called, what it logs, and how it is continued."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hydra.utils import instantiate
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf
from PIL import Image

from src.loggers.wandb_logger import WandbRunLogger
from src.loggers.wandb_offline import WandbRun, find_wandb_files, read_wandb_file
from src.loggers.wandb_run import finish_wandb
from tests.helpers.wandb_server import KEY, isolate_wandb, leaves_file_open, wandb_server

ROOT = Path(__file__).parents[2]
STEP = "trainer/global_step"


@pytest.fixture(autouse=True)
def isolated(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    isolate_wandb(monkeypatch, tmp_path_factory.mktemp("home"))
    yield
    finish_wandb()


def log_run(directory: Path, first: int, last: int, status: str = "success") -> WandbRunLogger:
    """A run, or a continued one, that logs two metrics at the steps first, ..., last - 1."""
    logger = WandbRunLogger(str(directory), "symmetry", server_timeout=4.0, finish_timeout=2.0)
    for step in range(first, last):
        logger.log_metrics({"train/loss": 1 / (step + 1), "epoch": step // 10}, step)
        logger.log_metrics({"dynamics/grad_norm/conv": float(step), "epoch": step // 10}, step)
    logger.finalize(status)
    logger.finish()
    return logger


def parts(directory: Path) -> list[WandbRun]:
    return [read_wandb_file(file) for file in find_wandb_files(directory)]


def steps_of(runs: list[WandbRun], key: str) -> list[int]:
    return [row[STEP] for run in runs for row in run.history if key in row]


def test_config_builds_it_beside_the_csv_logger(tmp_path: Path) -> None:
    group = OmegaConf.load(ROOT / "configs" / "logger" / "wandb.yaml")
    assert group.defaults == ["csv"]
    run = {"paths": {"output_dir": str(tmp_path)}, "task_name": "train", "tags": ["c4", "pilot"]}
    config = OmegaConf.merge(run, {"logger": {"wandb": group.wandb}})
    logger = instantiate(config.logger.wandb, _convert_="all")
    logger.log_hyperparams(OmegaConf.to_container(config, resolve=True))
    logger.finish()
    [found] = parts(tmp_path)
    assert found.config == OmegaConf.to_container(config, resolve=True)
    assert (found.project, found.job_type) == ("relaxed-symmetry", "train")
    assert (found.name, found.group) == (tmp_path.name, "")
    assert found.tags == ["c4", "pilot"]


def test_a_config_without_tags_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "another")
    monkeypatch.setenv("WANDB_ENTITY", "team")
    group = OmegaConf.load(ROOT / "configs" / "logger" / "wandb.yaml")
    run = {"paths": {"output_dir": str(tmp_path)}, "task_name": "eval"}
    config = OmegaConf.merge(run, {"logger": {"wandb": group.wandb}}).logger.wandb
    assert (config.project, config.entity, config.tags) == ("another", "team", [])


def test_metrics_and_images_have_the_step_on_the_x_axis(tmp_path: Path) -> None:
    picture = tmp_path / "kernels.png"
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(picture)
    logger = WandbRunLogger(str(tmp_path), "symmetry", name="n", group="g", notes="Try.")
    logger.log_metrics({"dynamics/equivariance_error/conv": 0.5}, 3)
    logger.log_image("images/kernels", [str(picture)], 7, caption=["before training"])
    logger.finish()
    [found] = parts(tmp_path)
    assert (found.name, found.group, found.notes) == ("n", "g", "Try.")
    assert found.step_metrics == {"*": STEP}
    assert steps_of([found], "dynamics/equivariance_error/conv") == [3]
    [image] = found.images()
    assert (image.key, image.step, image.caption) == ("images/kernels", 7, "before training")
    assert image.path.read_bytes() == picture.read_bytes()


def test_nothing_starts_before_something_is_logged(tmp_path: Path) -> None:
    logger = WandbRunLogger(str(tmp_path), "symmetry")
    logger.finalize("success")
    logger.finish()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("status", "code"), [("success", 0), ("failed", 1)])
def test_the_state_of_a_run_is_how_it_ended(tmp_path: Path, status: str, code: int) -> None:
    log_run(tmp_path, 0, 1, status)
    [found] = parts(tmp_path)
    assert found.exit_code == code


def test_a_disabled_run_is_not_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    log_run(tmp_path, 0, 2)
    assert not list(tmp_path.iterdir())


def test_only_the_first_process_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    log_run(tmp_path, 0, 2)
    assert not list(tmp_path.iterdir())


def test_a_continued_run_keeps_its_names_and_logs_each_step_once(tmp_path: Path) -> None:
    first = WandbRunLogger(str(tmp_path), "symmetry", name="seed=0", group="sweep")
    for step in range(10):
        first.log_metrics({"train/loss": 1 / (step + 1)}, step)
    first.log_metrics({"val/acc": 0.5}, 9)
    first.finish()

    again = log_run(tmp_path, 6, 14)  # from a checkpoint at step 6
    runs = parts(tmp_path)
    assert [run.id for run in runs] == [again.version] * 2
    assert [(run.name, run.group) for run in runs] == [("seed=0", "sweep")] * 2
    assert steps_of(runs, "train/loss") == list(range(14))
    assert steps_of(runs, "dynamics/grad_norm/conv") == list(range(6, 14))
    assert steps_of(runs, "val/acc") == [9]
    counted = [row["_step"] for run in runs for row in run.history]
    assert counted == sorted(set(counted))

    log_run(tmp_path, 0, 14)  # from the start: all of it is known, but for one metric's beginning
    assert steps_of(parts(tmp_path), "train/loss") == list(range(14))


def test_a_continued_online_run_sends_again_what_the_server_does_not_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with wandb_server() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        run_id = log_run(tmp_path, 0, 8).version
        for line in range(10, 16):  # as if the run had been killed before it sent them
            del server.rows[run_id][line]
        log_run(tmp_path, 3, 10)
        history = server.history(run_id)
    assert [row[STEP] for row in history if "train/loss" in row] == list(range(10))
    assert [row["_step"] for row in history] == list(range(20))


@leaves_file_open
def test_a_run_of_a_sweep_takes_the_agents_id_and_continues_under_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    chosen = tmp_path / "config-agentrun.yaml"
    chosen.write_text("wandb_version: 1\nmodel.alpha: {value: 0.1}\nseed: {value: 3}\n")
    agent = {"SWEEP_ID": "s", "RUN_ID": "agentrun", "SWEEP_PARAM_PATH": str(chosen)}
    with wandb_server() as server, monkeypatch.context() as agents:
        for name, value in agent.items():
            agents.setenv(f"WANDB_{name}", value)
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        logger = WandbRunLogger(str(tmp_path), "symmetry", server_timeout=4.0, finish_timeout=2.0)
        logger.log_hyperparams({"seed": 3, "model": {"alpha": 0.1}})
        logger.log_metrics({"train/loss": 1.0}, 0)
        expected = {"model.alpha": 0.1, "seed": 3, "model": {"alpha": 0.1}}
        assert dict(logger.experiment.config) == expected
        logger.finish()
        for name in agent:  # continued by hand, in another shell
            agents.delenv(f"WANDB_{name}")
        assert log_run(tmp_path, 0, 3).version == "agentrun"
        history = server.history("agentrun")
    assert [row[STEP] for row in history if "train/loss" in row] == [0, 1, 2]
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_a_killed_run_is_continued_without_gap(tmp_path: Path) -> None:
    code = f"""
import os, time
from src.loggers.wandb_run import start_run
timeouts = {{"init_timeout": 4.0, "finish_timeout": 2.0}}
run = start_run({{"dir": {str(tmp_path)!r}, "project": "symmetry"}}, "abcd1234", timeouts)
for step in range(20):
    run.log({{"train/loss": 1 / (step + 1), "{STEP}": step}})
time.sleep(2)
os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == -9
    (tmp_path / "wandb_run.json").write_text('{"id": "abcd1234", "name": "a", "group": null}')
    log_run(tmp_path, 15, 25)
    runs = parts(tmp_path)
    assert [run.exit_code for run in runs] == [None, 0]
    assert steps_of(runs, "train/loss") == list(range(25))


def test_the_parts_of_an_offline_run_are_uploaded_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = log_run(tmp_path, 0, 6).version
    log_run(tmp_path, 4, 9)
    with wandb_server() as server:
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        command = [str(Path(sys.executable).with_name("wandb")), "sync", str(tmp_path / "wandb")]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        history = server.history(run_id)
    assert [row[STEP] for row in history if "train/loss" in row] == list(range(9))
    assert [row["_step"] for row in history] == list(range(18))


@pytest.mark.slow
def test_each_job_of_a_multirun_is_a_run_of_its_own_in_the_group_of_the_sweep(
    tmp_path: Path,
) -> None:
    app = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from src.loggers.wandb_logger import WandbRunLogger

@hydra.main(version_base="1.3", config_path=None)
def main(config):
    logger = WandbRunLogger(HydraConfig.get().runtime.output_dir, "symmetry")
    logger.log_hyperparams(OmegaConf.to_container(config))
    logger.log_metrics({{"train/loss": 1.0}}, 0)
    if config.seed == 1:
        logger.finalize("failed")
    logger.finish()

main()
"""
    script = tmp_path / "app.py"
    script.write_text(app)
    sweep = tmp_path / "sweeps" / "morning"
    done = subprocess.run(
        [sys.executable, str(script), "-m", "+seed=0,1", "+tags=[a]", f"hydra.sweep.dir={sweep}"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    runs = [run for job in ("0", "1") for run in parts(sweep / job)]
    assert [run.config["seed"] for run in runs] == [0, 1]
    assert [run.group for run in runs] == ["morning", "morning"]
    assert [run.name for run in runs] == ["+seed=0", "+seed=1"]
    assert [run.exit_code for run in runs] == [0, 1]
    assert runs[0].id != runs[1].id
