import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from src.runs.overrides import command_line, parse_overrides, relocate, set_value


@pytest.fixture
def composed(tmp_path):
    """A config of one group, and Hydra's own as a job sees it."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "a.yaml").write_text("x: 1")
    (tmp_path / "top.yaml").write_text("defaults:\n  - _self_\n  - model: a\nseed: 0\n")
    before = HydraConfig.instance().cfg
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        config = compose("top", ["seed=2"], return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        yield
    HydraConfig.instance().cfg = before


def test_overrides_are_parsed(composed):
    assert command_line() == ["seed=2"]
    texts = ["model=a", "model.x=1e-3", "+new=[a,'b c']", "~seed", "seed=null"]
    parsed = parse_overrides(texts)
    assert [o.text for o in parsed] == texts
    assert [o.key for o in parsed] == ["model", "model.x", "new", "seed", "seed"]
    assert [o.value for o in parsed] == ["a", 1e-3, ["a", "b c"], None, None]
    assert [o.is_group for o in parsed] == [True, False, False, False, False]
    assert [o.changes_structure for o in parsed] == [False, False, True, True, False]


def test_outside_of_a_job_there_is_no_command_line():
    assert command_line() == []


def test_values_are_set_also_where_there_is_none():
    config = OmegaConf.create({"a": {"b": {"c": 1}}})
    OmegaConf.set_struct(config, True)
    set_value(config, "a.b", 2)
    set_value(config, "d.e", None)
    assert config == {"a": {"b": 2}, "d": {"e": None}}


def test_paths_below_a_folder_are_moved():
    value = {"a": ["/old", "/old/x", "/older/x", 3, None], "b": {"c": "see /old/x"}}
    moved = {"a": ["/new", "/new/x", "/older/x", 3, None], "b": {"c": "see /old/x"}}
    assert relocate(value, "/old", "/new") == moved
