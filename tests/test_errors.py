import errno
import os

import pytest
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import OmegaConf

from src.callbacks.checkpoints import BestAndLastCheckpoint
from src.errors import UserError, user_error
from src.files import check_writable, named_in_errors, write_text
from src.loggers.metrics_csv import drop_rows_from
from src.runs.config_checks import check_config


def caught(function, *arguments) -> Exception:
    with pytest.raises(Exception) as raised:
        function(*arguments)
    return raised.value


NET = {"_target_": "run_fakes.TinyNet"}


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({**NET, "width": 0}, "net: `width` must be positive; got 0"),
        ({**NET, "widht": 1}, "net: .*unexpected keyword argument"),
        ({"_target_": "run_fakes.Unknown"}, "net: Error loading 'run_fakes.Unknown'"),
    ],
)
def test_what_a_constructor_refuses_is_one_message_with_its_config_key(node, message):
    error = caught(instantiate, OmegaConf.create({"net": node}).net)
    assert isinstance(error, InstantiationException)
    with pytest.raises(UserError, match=message):
        raise user_error(error)


def test_what_this_projects_code_refuses_is_one_message():
    error = caught(check_config, OmegaConf.create({"seed": -1}))
    assert user_error(error) is error
    error = caught(BestAndLastCheckpoint, "checkpoints", "val/acc", "best")
    assert isinstance(error, ValueError)
    with pytest.raises(UserError, match="`mode` must be one of max, min; got 'best'"):
        raise user_error(error)


def test_defects_are_not_hidden(tmp_path):
    """Neither what the standard library raises in this project's code, nor what others do."""
    metrics = tmp_path / "metrics.csv"
    metrics.write_text("epoch,step\n0,x\n")
    error = caught(drop_rows_from, metrics, 1)
    assert isinstance(error, ValueError), "from int('x')"
    errors = (error, caught((tmp_path / "missing").read_text), caught(int, "x"))
    for error in (*errors, caught({}.__getitem__, "x")):
        assert user_error(error) is None


def refused(number, path):
    raise OSError(number, os.strerror(number), path)


def test_what_the_system_refuses_is_one_message_with_path_key_and_fix(tmp_path):
    run, file = tmp_path / "logs" / "run", tmp_path / "file"
    file.touch()
    (run / "checkpoints").mkdir(parents=True)
    checkpoint = run / "checkpoints" / "best.ckpt"
    checkpoint.touch()
    paths = {"log_dir": str(tmp_path / "logs"), "data_dir": "/proc/nodata"}
    data, run_only = {"paths": paths}, {"paths": paths, "resume": str(run)}
    measured = {"paths": paths, "ckpt_path": str(checkpoint), "output_dir": None}
    beside = run / "checkpoints" / "measures.json"
    for function, arguments, config, at, fix in (
        (
            os.makedirs,
            ["/proc/nodata/a"],
            data,
            "`paths.data_dir`=/proc/n",
            "Use paths.data_dir=<a",
        ),
        (check_writable, ["/proc/nodata/a"], data, "`paths.data_dir`=/proc/n", "Use paths.data"),
        (write_text, [file / "a", ""], data, "", "Use a place that you may"),
        (refused, [errno.EACCES, run], data, "`paths.log_dir`=", "Use paths.log_dir=<a"),
        (refused, [errno.EROFS, run], run_only, "`resume`=", "Copy the run to a folder"),
        (refused, [errno.EROFS, beside], measured, "`ckpt_path`=", "Use output_dir=<a"),
        (refused, [errno.EACCES, beside], measured | {"out": None}, "`ckpt_path`=", "Use out=<a"),
        (refused, [errno.ENOSPC, run], data, "`paths.log_dir`=", "Make room there, or: Use"),
        (refused, [errno.EFBIG, run], data, "`paths.log_dir`=", "(ulimit -f unlimited), or"),
        (refused, [errno.EPERM, file], None, "", "Use a place that you may write to."),
    ):
        message = str(user_error(caught(function, *arguments), OmegaConf.create(config)))
        assert "could not be made or written: /" in message and fix in message, message
        assert f"), at {at}" in message if at else ", at" not in message


def test_an_error_of_an_open_file_names_it(tmp_path):
    with pytest.raises(OSError, match="full") as raised, named_in_errors(tmp_path / "a"):
        raise OSError(errno.ENOSPC, "full")
    assert raised.value.filename == str(tmp_path / "a")


def test_what_lightning_takes_for_a_mistake_is_one_message():
    message = user_error(MisconfigurationException("`limit_val_batches` is 7.5"))
    assert str(message) == "`limit_val_batches` is 7.5"
