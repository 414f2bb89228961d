import pytest
from omegaconf import OmegaConf

from src.errors import UserError
from src.searches.search import check_file, check_search


def check(devices=1, resume=None, **changes):
    search = {"num_trials": 0, "timeout": None, "direction": "max", "metric": "val/acc"} | changes
    trainer = {"devices": devices}
    check_search(OmegaConf.create({"search": search, "trainer": trainer, "resume": resume}))


def test_bad_settings_are_refused():
    for good in ({}, {"devices": [1], "num_trials": 9, "timeout": 1.5}, {"devices": "1"}):
        check(**good)
    for bad, message in (
        ({"num_trials": -1}, "`search.num_trials` must be an integer of at least 0; got -1"),
        ({"num_trials": True}, "`search.num_trials` must be an integer"),
        ({"timeout": 0}, "`search.timeout` must be seconds above 0, or null; got 0"),
        ({"timeout": "1h"}, "`search.timeout` must be seconds above 0, or null"),
        ({"direction": "up"}, "`search.direction` must be max or min; got 'up'"),
        ({"metric": "test/acc"}, "`search.metric` must be a metric of the validation"),
        ({"resume": "here"}, "`resume` must be null"),
        ({"devices": 2}, "`trainer.devices` must be one device"),
        ({"devices": [0, 1], "direction": "up"}, r"(?s)search.direction.*trainer.devices"),
    ):
        with pytest.raises(UserError, match=message):
            check(**bad)


def test_a_search_file_must_not_change_what_is_trained():
    training = {"model": {"lr": 0.1}, "seed": 0, "optimized_metric": None}
    searched = {**training, "search": {"space": {}}, "optimized_metric": "val/acc"}
    check_file(searched, training)
    with pytest.raises(UserError, match=r"must set only `search`.*; got seed\. Put these into"):
        check_file({**searched, "seed": 1}, training)
