import json
import logging
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import OmegaConf

from src.errors import UserError
from src.models.components.e2cnn import RelaxedSteerableConv
from src.runs.run import Run, open_run


class Noted(DummyLogger):
    def __init__(self, fails=False):
        super().__init__()
        self.fails, self.closed = fails, []

    def finalize(self, status):
        self.closed.append(status)
        if self.fails:
            raise OSError("no answer")

    def finish(self):
        self.closed.append("finish")


@pytest.fixture
def opened(tmp_path):
    def open_with(*loggers):
        config = OmegaConf.create({"seed": 0})
        return open_run(config, lambda config: Run(config, tmp_path, loggers=list(loggers)))

    open_with.summary = lambda: json.loads((tmp_path / "summary.json").read_text())
    return open_with


def test_a_finished_run_closes_every_logger_and_its_summary_is_json(opened, caplog):
    first, second = Noted(fails=True), Noted()
    with caplog.at_level(logging.ERROR), opened(first, second) as run:
        run.summary["loss"] = float("nan")
        run.summary["best"] = {"metrics": {"a": float("inf"), "b": 1.5}}
        assert first.closed == []
    assert "Noted could not be closed" in caplog.text
    assert first.closed == second.closed == ["success", "finish"]
    summary, best = opened.summary(), {"metrics": {"a": None, "b": 1.5}}
    assert summary.pop("wall_time_s") >= 0
    assert summary == {"status": "finished", "loss": None, "best": best}


def test_a_run_that_ends_early_says_how_and_closes_its_loggers(opened, tmp_path, caplog):
    (tmp_path / "checkpoints").mkdir()
    for error in (ZeroDivisionError, UserError, OSError, KeyboardInterrupt, SystemExit):
        loggers, failed = (Noted(), Noted()), issubclass(error, Exception)
        ended = SystemExit if error is KeyboardInterrupt else error
        with pytest.raises(ended, match="130" if ended is not error else "a"), opened(*loggers):
            raise error("a")
        assert [logger.closed for logger in loggers] == [["failed", "finish"]] * 2
        assert opened.summary()["status"] == ("failed" if failed else "interrupted")
        assert ("error" in opened.summary()) == failed
    caplog.clear()
    with pytest.raises(SystemExit, match=r"^143$"), opened():
        raise SIGTERMException
    assert opened.summary()["status"] == "interrupted"
    assert f"Interrupted. Continue with: python src/train.py resume={tmp_path}\n" in caplog.text
    (tmp_path / "checkpoints").rmdir()
    with pytest.raises(SystemExit), opened() as run:
        run.when_interrupted = "Measures are kept."
        raise KeyboardInterrupt
    assert "Interrupted. Measures are kept.\n" in caplog.text


def test_what_is_refused_before_the_start_leaves_an_earlier_summary(tmp_path):
    (tmp_path / "summary.json").write_text("{}")
    refuse = Mock(side_effect=UserError("another run"))
    with pytest.raises(UserError, match="another run"), open_run(OmegaConf.create({}), refuse):
        pass
    assert (tmp_path / "summary.json").read_text() == "{}"


@pytest.mark.parametrize(
    ("has_begun", "result"), [(False, None), (False, "metrics.csv"), (True, None)]
)
def test_a_run_refused_before_it_has_begun_leaves_no_directory(
    tmp_path, monkeypatch, has_begun, result
):
    folder = tmp_path / "train" / "runs" / "a"
    folder.mkdir(parents=True)
    (folder / "train.log").touch()
    hydra = OmegaConf.create({"runtime": {"output_dir": str(folder)}, "job": {"name": "train"}})
    for name, value in {"initialized": lambda: True, "get": lambda: hydra}.items():
        monkeypatch.setattr(f"src.runs.run.HydraConfig.{name}", value)
    monkeypatch.setattr("src.runs.run.in_sweep", lambda: False)
    config = OmegaConf.create({"seed": 0, "paths": {"log_dir": str(tmp_path)}})
    refused = pytest.raises(UserError, match="no such group")
    with refused, open_run(config, lambda c: Run(c, folder, has_begun=has_begun)):
        (folder / "config.yaml").touch()
        if result:
            (folder / result).touch()
        raise UserError("no such group")
    assert [path.name for path in tmp_path.iterdir()] == (["train"] if result or has_begun else [])


def test_the_size_of_the_network_is_logged(tmp_path, caplog):
    relaxed = RelaxedSteerableConv(1, 2, 3, "c4", "scalar", "regular")
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 3), relaxed)
    run = Run(OmegaConf.create({}), tmp_path)
    with caplog.at_level(logging.INFO):
        run.start_logging(SimpleNamespace(fast_dev_run=True), network, datamodule=None)
    assert "The network has 118 parameters.\n" in caplog.text
    ((layer, (reached, plain)),) = run.summary["degrees_of_freedom"].items()
    assert layer == "1" and 0 < reached <= plain == 2 * 4 * 9
    assert f"kernels can reach {reached} of 72 dimensions" in caplog.text
