import pytest
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from src.callbacks.checkpoints import BestAndLastCheckpoint
from src.errors import UserError, user_error
from src.files import write_text
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
    errors = (error, caught(write_text, metrics / "below", ""))
    for error in (*errors, caught(int, "x"), caught({}.__getitem__, "x")):
        assert user_error(error) is None
