import math
from types import SimpleNamespace
from unittest.mock import Mock, call

import pytest

from src.callbacks.study import ReportToStudy


def after_epoch(reporter, epoch, validated=True, **metrics):
    """Whether training is ended after this one of three epochs."""
    trainer = SimpleNamespace(max_epochs=3, current_epoch=epoch, should_stop=False)
    trainer.callback_metrics = metrics
    if validated:
        reporter.on_validation_end(trainer, None)
    reporter.on_train_epoch_end(trainer, None)
    return trainer.should_stop


def test_every_epoch_is_reported_once():
    trial = Mock(**{"should_prune.return_value": False})
    reporter = ReportToStudy(trial, "acc", reported=frozenset({1}))
    for epoch in range(3):
        assert not after_epoch(reporter, epoch, acc=0.1 * epoch)
    assert not after_epoch(reporter, 3, validated=False, acc=0.5)
    assert trial.report.call_args_list == [call(0.1, 2), call(0.2, 3)]


def test_training_is_ended_where_more_of_it_is_not_worth_it():
    for epoch, value, stops in ((0, 0.5, True), (2, 0.5, False), (2, math.nan, True)):
        reporter = ReportToStudy(Mock(**{"should_prune.return_value": True}), "acc")
        assert after_epoch(reporter, epoch, acc=value) is reporter.pruned is stops


def test_a_metric_that_is_not_logged_is_named():
    with pytest.raises(ValueError, match=r"must be a metric .*got 'f1'\. Logged are: acc, loss"):
        after_epoch(ReportToStudy(Mock(), "f1"), 0, loss=1.0, acc=0.0)
