import csv

import pytest
import torch

from src.loggers.metrics_csv import MetricsCSVLogger, drop_rows_from, read_rows


@pytest.fixture
def logger(tmp_path):
    return MetricsCSVLogger(str(tmp_path))


def test_rows_stand_in_the_file_at_once(logger):
    logger.log_metrics({"epoch": 0, "loss": torch.tensor(0.5)}, step=3)
    assert logger.path.read_text() == "epoch,step,loss\n0,3,0.5\n"
    logger.log_metrics({"epoch": 1, "loss": 0.25}, step=7)
    assert logger.path.read_text() == "epoch,step,loss\n0,3,0.5\n1,7,0.25\n"


def test_a_new_metric_adds_a_column(logger):
    logger.log_metrics({"b": 1.0}, step=0)
    logger.log_metrics({"a": 2.0}, step=1)
    assert logger.path.read_text() == "epoch,step,a,b\n,0,,1.0\n,1,2.0,\n"


def test_values_keep_all_their_digits(logger):
    value = torch.tensor(1 / 3)
    logger.log_metrics({"loss": value}, step=0)
    assert float(read_rows(logger.path)[0]["loss"]) == value.item()


def test_names_with_commas_are_quoted(logger):
    logger.log_metrics({"a,b": 1.0}, step=0)
    with logger.path.open(newline="") as file:
        assert list(csv.reader(file)) == [["epoch", "step", "a,b"], ["", "0", "1.0"]]


def test_an_existing_file_is_continued(logger, tmp_path):
    logger.log_metrics({"epoch": 0, "a": 1.0}, step=0)
    again = MetricsCSVLogger(str(tmp_path))
    again.log_metrics({"epoch": 1, "b": 2.0}, step=1)
    assert [row["step"] for row in read_rows(logger.path)] == ["0", "1"]


def test_rows_after_a_checkpoint_are_dropped(logger):
    for step in range(4):
        logger.log_metrics({"epoch": 0, "a" if step < 2 else "b": float(step)}, step=step)
    drop_rows_from(logger.path, 2)
    assert logger.path.read_text() == "epoch,step,a\n0,0,0.0\n0,1,1.0\n", "nor is column b left"
    drop_rows_from(logger.path, 0)
    assert not logger.path.exists()
    drop_rows_from(logger.path, 0)


def test_a_row_cut_off_by_a_kill_is_left_out(logger):
    logger.log_metrics({"epoch": 0, "a": 1.0}, step=0)
    with logger.path.open("a") as file:
        file.write("0,1,1.2")
    assert [row["step"] for row in read_rows(logger.path)] == ["0"]
    drop_rows_from(logger.path, 5)
    assert logger.path.read_text() == "epoch,step,a\n0,0,1.0\n"


def test_it_is_a_logger_of_lightning(logger, tmp_path):
    logger.log_hyperparams({"a": 1})
    logger.finalize("success")
    assert logger.save_dir == str(tmp_path)
    assert (logger.name, logger.version) == ("", "")
    assert not logger.path.exists()
