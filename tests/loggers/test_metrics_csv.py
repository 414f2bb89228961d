import pytest
import torch

from src.loggers.metrics_csv import MetricsCSVLogger, drop_rows_from, read_rows


@pytest.fixture
def logger(tmp_path):
    return MetricsCSVLogger(str(tmp_path))


def test_rows_stand_in_the_file_at_once_with_all_their_digits(logger):
    value, text = torch.tensor(1 / 3), "epoch,step,loss\n"
    for epoch, step, loss in ((0, 3, value), (1, 7, 0.25)):
        logger.log_metrics({"epoch": epoch, "loss": loss}, step=step)
        text += f"{epoch},{step},{float(loss)!r}\n"
        assert logger.path.read_text() == text


def test_a_new_metric_adds_a_column(logger):
    logger.log_metrics({"b": 1.0}, step=0)
    logger.log_metrics({"a,b": 2.0}, step=1)
    assert logger.path.read_text() == 'epoch,step,"a,b",b\n,0,,1.0\n,1,2.0,\n'


def test_an_existing_file_is_continued_without_a_row_cut_off_by_a_kill(logger, tmp_path):
    logger.log_metrics({"epoch": 0, "a": 1.0}, step=0)
    with logger.path.open("a") as file:
        file.write("0,1,1.2")
    assert [row["step"] for row in read_rows(logger.path)] == ["0"]
    MetricsCSVLogger(str(tmp_path)).log_metrics({"epoch": 1, "b": 2.0}, step=1)
    assert [row["step"] for row in read_rows(logger.path)] == ["0", "1"]
    drop_rows_from(logger.path, 1)
    assert logger.path.read_text() == "epoch,step,a\n0,0,1.0\n"


def test_rows_after_a_checkpoint_are_dropped(logger):
    for step in range(4):
        logger.log_metrics({"epoch": 0, "a" if step < 2 else "b": float(step)}, step=step)
    drop_rows_from(logger.path, 2)
    assert logger.path.read_text() == "epoch,step,a\n0,0,0.0\n0,1,1.0\n", "nor is column b left"
    drop_rows_from(logger.path, 0)
    assert not logger.path.exists()
    drop_rows_from(logger.path, 0)


def test_it_is_a_logger_of_lightning(logger, tmp_path):
    logger.log_hyperparams({"a": 1})
    logger.finalize("success")
    assert (logger.save_dir, logger.name, logger.version) == (str(tmp_path), "", "")
    assert not logger.path.exists()
