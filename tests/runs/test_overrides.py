import shlex

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from src.runs import overrides
from src.runs.overrides import evaluation_config, override_text, shell_command

TRAINED = {"task_name": "train", "model": {"net": {"width": 12}}, "seed": 4, "trainer": {}}
TRAINED["data"] = {"data_dir": "/there/data", "batch_size": 5}
TRAINED["paths"] = {"data_dir": "/there/data", "output_dir": "/there/run"}


@pytest.fixture
def composed(tmp_path, monkeypatch):
    """Config of a job with the overrides that it is called with; Hydra's own is set too."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "a.yaml").write_text("net: {width: 1, other: 2}\n")
    (tmp_path / "model" / "b.yaml").write_text("net: {width: '${data.batch_size}'}\n")
    (tmp_path / "top.yaml").write_text(
        "defaults: [_self_, {model: a}]\nsplit: val\nseed: null\npaths: {data_dir: /here/data}\n"
        "data: {data_dir: '${paths.data_dir}', batch_size: 8}\n"
    )
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)

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
    assert stored.pop("trainer") == {"precision": TRAINED["trainer"].get("precision")}
    assert stored == {key: TRAINED[key] for key in TRAINED if key != "trainer"}
    assert type(stored["model"]["net"]) is dict
    old, new = ({"data_dir": "/here/data", "batch_size": size} for size in (5, 9))
    for texts, changes in (
        ("", {}),
        ("data.batch_size=9 seed=1 split=test", {"data": new, "seed": 1, "split": "test"}),
        ("model=a", {"model": {"net": {"width": 1, "other": 2}}}),
        ("model=b", {"model": {"net": {"width": 5}}}),  # what it asks of the data is theirs
    ):
        expected = {"model": TRAINED["model"], "seed": 4, "split": "val", "data": old} | changes
        config = evaluation_config(composed(*texts.split()), stored)
        assert {key: config[key] for key in expected} == expected


def test_hydra_reads_an_override_back():
    for value in (
        *(None, True, 3, -0.5, 1e-05, 0.1 + 0.2, "c4", "rgcnn_smoke", "null", "True", "1e-4"),
        *("two words", "it's", "/logs/a b/c=d", "a/b.yaml", "nan", "", "C:\\logs\\", "it\\'s"),
    ):
        parsed = OverridesParser.create().parse_override(override_text("a.b", value))
        assert (parsed.key_or_group, parsed.value()) == ("a.b", value)
        assert type(parsed.value()) is type(value)


def test_a_line_for_a_shell_names_a_folder_that_hydra_finds():
    assert shell_command("train", resume="logs/a_1") == "python src/train.py resume=logs/a_1"
    for name in (
        "José",
        "t=1",
        "a,b",
        "[1]",
        "(b)",
        "{c}",
        "it's",
        "#5",
        'a "b"',
        "$HOME",
        "a b\\",
    ):
        python, script, typed = shlex.split(shell_command("train", resume=f"/logs/{name}/run"))
        assert (python, script) == ("python", "src/train.py")
        parsed = OverridesParser.create().parse_override(typed)
        assert (parsed.key_or_group, parsed.value()) == ("resume", f"/logs/{name}/run")
