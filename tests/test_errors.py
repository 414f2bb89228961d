import pytest
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from src.errors import UserError, user_error
from src.files import write_text
from src.runs.config_checks import check_config


def caught(function, *arguments) -> Exception:
    with pytest.raises(Exception) as raised:
        function(*arguments)
    return raised.value


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"_target_": "run_fakes.TinyNet", "width": 0}, "net: `width` must be positive; got 0"),
        ({"_target_": "run_fakes.TinyNet", "widht": 1}, "net: .*unexpected keyword argument"),
        ({"_target_": "run_fakes.Unknown"}, "net: Error loading 'run_fakes.Unknown'"),
    ],
)
def test_what_a_constructor_refuses_is_told_with_its_config_key(node, message):
    config = OmegaConf.create({"net": node})
    error = caught(instantiate, config.net)
    assert isinstance(error, InstantiationException)
    with pytest.raises(UserError, match=message):
        raise user_error(error)


def test_what_this_projects_code_raises_is_told(tmp_path):
    (tmp_path / "file").touch()
    error = caught(write_text, tmp_path / "file" / "below", "")
    assert user_error(error) is None, "raised in the standard library: a defect of the caller"
    error = caught(check_config, OmegaConf.create({"seed": -1}))
    assert user_error(error) is error


def test_a_value_error_of_this_projects_code_is_told():
    from src.callbacks.checkpoints import BestAndLastCheckpoint

    error = caught(BestAndLastCheckpoint, "checkpoints", "val/acc", "best")
    assert isinstance(error, ValueError)
    with pytest.raises(UserError, match="`mode` must be max or min; got 'best'"):
        raise user_error(error)


def test_what_this_projects_code_runs_into_is_a_defect(tmp_path):
    from src.loggers.metrics_csv import drop_rows_from

    (tmp_path / "metrics.csv").write_text("epoch,step\n0,x\n")
    error = caught(drop_rows_from, tmp_path / "metrics.csv", 1)
    assert isinstance(error, ValueError), "from int('x')"
    assert user_error(error) is None


def test_defects_are_not_hidden():
    assert user_error(caught(int, "x")) is None
    assert user_error(caught({}.__getitem__, "x")) is None
