import re
import sys

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from src.runs import overrides
from src.runs.overrides import evaluation_config, refuse_renamed

TRAINED = {"task_name": "train", "model": {"net": {"width": 12}}, "seed": 4, "trainer": {}}
TRAINED["data"] = {"data_dir": "/there/data", "batch_size": 5}
TRAINED["paths"] = {"data_dir": "/there/data", "output_dir": "/there/run"}


@pytest.fixture
def composed(tmp_path, monkeypatch):
    """Config of a job with the overrides that it is called with; Hydra's own is set too."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "a.yaml").write_text("net: {width: 1, other: 2}\n")
    (tmp_path / "top.yaml").write_text(
        "defaults: [_self_, {model: a}]\nsplit: val\nseed: null\npaths: {data_dir: /here/data}\n"
        "data: {data_dir: '${paths.data_dir}', batch_size: 8}\n"
    )
    monkeypatch.setattr(HydraConfig.instance(), "cfg", HydraConfig.instance().cfg)  # to undo

    def compose_with(*typed):
        with initialize_config_dir(str(tmp_path), version_base="1.3"):
            config = compose("top", list(typed), return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        return OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])

    return compose_with


def test_the_last_override_of_each_key_counts(composed):
    assert overrides.command_line() == [], "outside of a job"
    composed("seed=2")
    assert overrides.command_line() == ["seed=2"]
    texts = ["model=a", "model.x=1e-3", "seed=1", "+new=[a,'b c']", "seed=null"]
    parsed = overrides.parse_overrides(texts)
    assert [o.input_line for o in parsed] == [texts[0], texts[1], texts[4], texts[3]]
    assert [o.key_or_group for o in parsed] == ["model", "model.x", "seed", "new"]
    assert [o.value() for o in parsed] == ["a", 1e-3, None, ["a", "b c"]]
    assert [overrides.chooses_option(o) for o in parsed] == [True, False, False, False]


def test_trees_are_changed_moved_and_flattened():
    config = OmegaConf.create({"a": {"b": {"c": 1}}})
    OmegaConf.set_struct(config, True)
    overrides.set_value(config, "a.b", 2)
    overrides.set_value(config, "d.e", None)
    assert config == {"a": {"b": 2}, "d": {"e": None}}
    value = {"a": ["/old", "/old/x", "/older/x", 3, None], "b": {"c": "see /old/x"}}
    moved = {"a": ["/new", "/new/x", "/older/x", 3, None], "b": {"c": "see /old/x"}}
    assert overrides.relocate(value, "/old", "/new") == moved
    flat = dict(overrides.flatten({"a": {"b": 1, "c": {}}, "d": [{"e": 2}]}))
    assert flat == {"a.b": 1, "a.c": {}, "d": [{"e": 2}]}
    below = [overrides.is_below(key, ["a.b"]) for key in ("a.b", "a.b.c", "a", "a.bc")]
    assert below == [True, True, False, False]


def test_network_and_data_are_the_checkpoints_but_for_what_was_typed(composed):
    stored = overrides.stored_config(OmegaConf.create(TRAINED))
    assert stored == {key: TRAINED[key] for key in TRAINED if key != "trainer"}
    assert type(stored["model"]["net"]) is dict
    old, new = ({"data_dir": "/here/data", "batch_size": size} for size in (5, 9))
    for texts, changes in (
        ("", {}),
        ("data.batch_size=9 seed=1 split=test", {"data": new, "seed": 1, "split": "test"}),
        ("model=a", {"model": {"net": {"width": 1, "other": 2}}}),
    ):
        expected = {"model": TRAINED["model"], "seed": 4, "split": "val", "data": old} | changes
        config = evaluation_config(composed(*texts.split()), stored)
        assert {key: config[key] for key in expected} == expected


OLD = [  # script, what is typed, the old name in it and the new one
    ("train", "sweep_name=pilot", "sweep_name", "sweep.name"),
    ("train", "rerun=true,false", "rerun", "sweep.rerun"),
    ("search", "+fail_fast=true", "fail_fast", "sweep.fail_fast"),
    ("train", "++spread_jobs=false", "spread_jobs", "sweep.spread_jobs"),
    ("measure", "measure.hessian.only=a", "measure.hessian.only", "measure.hessian.checkpoint"),
    ("measure", "again=true", "again", "overwrite"),
    ("measure", "out=a,b", "out", "output_dir"),
    ("train", "trainer=gpu,fsdp", "trainer=fsdp", "trainer=ddp"),
]
for net in ("cnn", "gcnn", "e2cnn", "rsteer", "rtrans"):
    old = f"experiment={net}_smoke_rotation"
    OLD.append(("train", old, old, f"experiment=rgcnn_smoke_rotation model={net}_smoke_paper"))


def test_old_names_are_refused_with_the_new_ones_and_others_left_to_hydra(monkeypatch):
    def run(script, *typed):
        monkeypatch.setattr(sys, "argv", [f"src/{script}.py", "-m", "seed=0", *typed])
        refuse_renamed(sys.exit)("reached")

    for script, typed, old, new in OLD:
        message = f"`{old}` is of an earlier version. Use `{new}`."
        with pytest.raises(SystemExit, match=f"^{re.escape(message)}$"):
            run(script, typed)
    with pytest.raises(SystemExit, match=r"^`rerun` .*\n`sweep_name` .*$"):
        run("train", "rerun=true", "sweep_name=a")
    current = ("sweep.name=out", "measure.hessian.checkpoint=null", "trainer=ddp")
    current += ("model=cnn_smoke_paper", "experiment=rgcnn_smoke_rotation,rtrans_smoke_translation")
    with pytest.raises(SystemExit, match="reached"):
        run("export", "out=network.onnx", *current)
