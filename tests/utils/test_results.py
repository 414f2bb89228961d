from pathlib import Path

import pytest
from omegaconf import OmegaConf

from src.utils.errors import UserError
from src.utils.results import optimized_value
from src.utils.run import Run

BEST = {"epochs_trained": 2, "metrics": {"val/acc": 0.9, "train/loss": 0.1}}
LAST = {"epochs_trained": 3, "metrics": {"val/acc": 0.8}}


def value(name, best=BEST):
    run = Run(OmegaConf.create({"optimized_metric": name}), Path())
    run.summary = {"best": best, "last": LAST, "test": {"test/acc": 0.7}}
    return optimized_value(run)


def test_a_sweeper_gets_the_metric_of_the_best_epoch_or_of_the_test():
    assert value(None) is None
    assert value("val/acc") == 0.9
    assert value("val/acc", best={}) == 0.8
    assert value("test/acc") == 0.7


def test_an_unknown_metric_is_told():
    with pytest.raises(UserError, match=r"got 'val/f1'.* test/acc, train/loss, val/acc"):
        value("val/f1")
