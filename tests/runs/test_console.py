import io
import logging
import sys
import warnings

import pytest
from omegaconf import OmegaConf

from src.runs.console import apply_extras, duration, quiet_third_party, table


def test_durations_are_readable_and_tables_have_a_row_for_each_name():
    texts = {0.04: "0.0 s", 59.94: "59.9 s", 303: "5 min 3 s", 7800: "2 h 10 min"}
    assert {seconds: duration(seconds) for seconds in texts} == texts
    columns = {"last": {"a": 0.97512, "b": 1.2e-5}, "best": {"c": float("nan"), "b": None}}
    rows = [line.split("│")[1:-1] for line in table(columns, "metric").splitlines() if "│" in line]
    cells = [[cell.strip() for cell in row] for row in rows]
    assert cells == [["a", "0.9751", ""], ["b", "1.200e-05", ""], ["c", "", "nan"]]


def test_tables_are_drawn_with_what_the_console_has(monkeypatch):
    for encoding, drawn in (("utf-8", False), ("latin-1", True), ("ascii", True)):
        stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        with monkeypatch.context() as context:
            context.setattr(sys, "stdout", stream)
            assert table({"last": {"a": 0.5}}, "metric").isascii() == drawn


def test_hints_are_silenced_and_warnings_only_on_request(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quiet_third_party()
        warnings.warn("The 'train_dataloader' does not have many workers which", stacklevel=1)
        warnings.warn(
            "The `srun` command is available on your system but is not used", stacklevel=1
        )
        with pytest.raises(UserWarning, match="loss is NaN"):
            warnings.warn("loss is NaN", stacklevel=1)
        apply_extras(OmegaConf.create({"extras": {"ignore_warnings": True}}))
        warnings.warn("any", stacklevel=1)
    assert logging.getLogger("lightning.pytorch").level == logging.WARNING
    apply_extras(OmegaConf.create({}))
    assert capsys.readouterr().out == ""
    apply_extras(OmegaConf.create({"extras": {"print_config": True}, "seed": 12}))
    assert "seed: 12" in capsys.readouterr().out
