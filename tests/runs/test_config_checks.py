import re

import pytest
from omegaconf import OmegaConf

from src.errors import UserError
from src.runs.config_checks import CHECKS, broken_rules, check_config

SWEEP = {"name": None, "rerun": False, "fail_fast": False, "spread_jobs": True}
GOOD = {"trainer": {"max_epochs": 3}, "seed": 0, "resume": None, "ckpt_path": None}
GOOD |= {"tags": ["pilot"], "sweep": SWEEP}


OPTIMIZED = "`optimized_metric` must be a metric that the run measures; got"


def changed(values):
    config = OmegaConf.create(GOOD)
    for key, value in values.items():
        OmegaConf.update(config, key, value, merge=False)
    return config


def test_good_configs_pass(tmp_path):
    (tmp_path / "config.yaml").touch()
    check_config(OmegaConf.create({}))  # keys that a config lacks are not checked
    for values in (
        *({"seed": None}, {"seed": 2**32 - 1}, {"sweep.name": "pilot_1.b"}),
        *({"ckpt_path": __file__}, {"resume": str(tmp_path)}),
        {"trainer.max_epochs": None, "trainer.max_steps": 9, "model.scheduler": None},
        *({"model": own, "data": own} for own in ({}, {"num_inputs": 2})),
        *({"trainer.limit_train_batches": part} for part in (None, 1, 20, 0.1, 1.0)),
        *(
            {"logger": logger}
            for logger in (None, {}, {"csv": {}}, {"wandb": {"project": "a-b c"}})
        ),
        {"tags": ["a" * 64]},
        *({**UNSEEN, "optimized_metric": metric} for metric in (None, "train/loss")),
    ):
        check_config(changed(values))


UNSEEN = {"trainer.limit_val_batches": 0, "trainer.limit_test_batches": 0}
BAD = [
    *(("trainer.max_epochs", value, "whole number of at least 1") for value in (0, 1.5, "x", True)),
    *(("seed", value, "from 0 to 4294967295, or null") for value in (-1, 2**32, "zero", False)),
    *(("resume", value, "run directory") for value in ("/nowhere", 3)),
    *(("trainer.max_steps", value, "at least 1, or -1") for value in (0, None, 1.5)),
    *((f"model.{part}", "SGD", "a config, as the") for part in ("optimizer", "scheduler")),
    ("split", "all", "one of train, val, test"),
    *(("tags", value, "list of words") for value in ("pilot", [1], ["a" * 65], [""])),
    *(("logger.wandb.project", v, "1 to 128 letters") for v in ("", "a" * 129, "a/b", "a?", None)),
    *(("trainer.limit_train_batches", v, "at least 1, a fr") for v in (0, 0.0, 1.5, -1, False)),
    *(("sweep.name", value, "name of a folder") for value in ("a/b", "..", "")),
    *((f"sweep.{key}", "yes", "true or false") for key in ("rerun", "fail_fast", "spread_jobs")),
    ("trust", "yes", "true or false"),
]


def test_bad_values_are_refused_with_all_that_is_wrong(tmp_path):
    assert {check.key for check in CHECKS} == {key for key, *_ in BAD}
    (tmp_path / "config.yaml").touch()
    wrong = {"seed": -1, "trainer.max_epochs": 0, "sweep.rerun": 1}
    no_checkpoint = "`ckpt_path` must be the path of an existing checkpoint; got"
    for config, message in (
        *((changed({k: v}), f"`{k}` must be .*{r}.*; got {re.escape(repr(v))}") for k, v, r in BAD),
        (changed(wrong), r"(?s)`trainer.max_epochs` .*\n`seed` .*\n`sweep.rerun` "),
        (changed({"ckpt_path": "nowhere.ckpt"}), f"{no_checkpoint} nowhere.ckpt"),
        *((OmegaConf.create({"ckpt_path": p}), no_checkpoint) for p in (None, "???", "no.ckpt")),
        *(
            (changed({"optimized_metric": metric, **UNSEEN}), f"{OPTIMIZED} {metric} with {why}")
            for metric, why in (("val/acc", "trainer.limit_val_batches=0"), ("test/acc", "trainer"))
        ),
        (
            changed({"optimized_metric": "val/acc", "trainer.check_val_every_n_epoch": 4}),
            f"{OPTIMIZED} val/acc with trainer.check_val_every_n_epoch=4 in 3 epochs",
        ),
        (changed({"model": {"num_inputs": 2}, "data": {}}), "`model` .* Use data=smoke_level"),
        (changed({"model": {}, "data": {"num_inputs": 2}}), "`model` .* Use data=rotmnist"),
        (changed({"trainer.max_epochs": None}), "may be null where `trainer.max_steps` ends"),
        (changed({"resume": str(tmp_path), "ckpt_path": __file__}), "exclude each other"),
    ):
        with pytest.raises(UserError, match=message):
            check_config(config)
    (problem,) = broken_rules(changed(wrong), "sweep.")
    assert problem.startswith("`sweep.rerun`")
