import logging
import warnings

import pytest
from omegaconf import OmegaConf

from src.runs.console import apply_extras, duration, metrics_table, quiet_third_party


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (303, "5 min 3 s"), (7800, "2 h 10 min")],
)
def test_durations_are_readable(seconds, told):
    assert duration(seconds) == told


def test_the_table_shows_losses_and_accuracies_in_order():
    columns = {
        "last": {"val/acc": 0.97512, "train/loss": 1.2e-5, "dynamics/grad_norm": 3.0},
        "best": {"test/acc": 1.0, "val/acc": float("nan")},
    }
    lines = metrics_table(columns).splitlines()
    names = [line.split()[1] for line in lines if "/" in line]
    assert names == ["train/loss", "val/acc", "test/acc"]
    assert "0.9751" in "".join(lines)
    assert "1.200e-05" in "".join(lines)


def test_hints_are_silenced_and_warnings_are_not():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quiet_third_party()
        warnings.warn("The 'train_dataloader' does not have many workers which", stacklevel=1)
        with pytest.raises(UserWarning, match="loss is NaN"):
            warnings.warn("loss is NaN", stacklevel=1)
    assert logging.getLogger("lightning.pytorch").level == logging.WARNING


def test_extras_are_applied(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        apply_extras(OmegaConf.create({"extras": {"ignore_warnings": True}}))
        warnings.warn("any", stacklevel=1)
    assert capsys.readouterr().out == ""
    apply_extras(OmegaConf.create({"extras": {"print_config": True}, "seed": 12}))
    assert "seed: 12" in capsys.readouterr().out
    apply_extras(OmegaConf.create({}))
