import json
import logging

import pytest
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import OmegaConf

from src.errors import UserError
from src.runs.run import Run, open_run


class Noted(DummyLogger):
    """Notes how it is closed; fails to when asked to."""

    def __init__(self, fails=False):
        super().__init__()
        self.fails = fails
        self.closed = []

    def finalize(self, status):
        self.closed.append(status)
        if self.fails:
            raise OSError("no answer")

    def finish(self):
        self.closed.append("finish")


@pytest.fixture
def opened(tmp_path):
    """Open a run with loggers; returns the context manager, and the run's summary afterwards."""
    config = OmegaConf.create({"seed": 0})

    def open_with(*loggers):
        return open_run(config, lambda config: Run(config, tmp_path, loggers=list(loggers)))

    open_with.summary = lambda: json.loads((tmp_path / "summary.json").read_text())
    return open_with


def test_a_finished_run(opened):
    logger = Noted()
    with opened(logger) as run:
        run.summary["loss"] = float("nan")
        run.summary["best"] = {"metrics": {"a": float("inf"), "b": 1.5}}
        assert logger.closed == []
    assert logger.closed == ["success", "finish"]
    summary = opened.summary()
    assert summary.pop("wall_time_s") >= 0
    best = {"metrics": {"a": None, "b": 1.5}}
    assert summary == {"status": "finished", "loss": None, "best": best}


@pytest.mark.parametrize("error", [ZeroDivisionError("a"), UserError("a"), OSError("a")])
def test_a_failed_run_closes_its_loggers(opened, error):
    loggers = Noted(), Noted()
    with pytest.raises(type(error), match="a"), opened(*loggers):
        raise error
    assert [logger.closed for logger in loggers] == [["failed", "finish"]] * 2
    assert opened.summary()["status"] == "failed"
    assert opened.summary()["error"].endswith("a")


@pytest.mark.parametrize("signal", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_run_closes_its_loggers(opened, signal):
    logger = Noted()
    with pytest.raises(signal), opened(logger):
        raise signal
    assert logger.closed == ["failed", "finish"]
    assert opened.summary()["status"] == "interrupted"


def test_a_terminated_run_does_not_end_as_if_all_were_well(opened, tmp_path, caplog):
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(SystemExit) as exit_, opened():
        raise SIGTERMException
    assert exit_.value.code == 143
    assert opened.summary()["status"] == "interrupted"
    assert f"Continue with: src/train.py resume={tmp_path}" in caplog.text


def test_a_logger_that_cannot_be_closed_does_not_hold_up_the_others(opened, caplog):
    first, second = Noted(fails=True), Noted()
    with caplog.at_level(logging.ERROR), opened(first, second):
        pass
    assert "Noted could not be closed" in caplog.text
    assert first.closed == second.closed == ["success", "finish"]
    assert opened.summary()["status"] == "finished"


def test_what_is_refused_before_the_start_leaves_an_earlier_summary(tmp_path):
    (tmp_path / "summary.json").write_text("{}")

    def refuse(config):
        raise UserError("another run")

    with pytest.raises(UserError, match="another run"), open_run(OmegaConf.create({}), refuse):
        pass
    assert (tmp_path / "summary.json").read_text() == "{}"
