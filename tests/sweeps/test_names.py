import pytest
from omegaconf import OmegaConf

from src.sweeps.names import config_hash, job_folder, sweep_folder, swept_keys

CONFIG = {
    "model": {"net": {"width": 8}, "alpha": "${oc.env:ALPHA}"},
    "trainer": {"max_epochs": 2, "devices": 1, "enable_progress_bar": True},
    "callbacks": {"checkpoint": {"monitor": "val/acc"}, "progress_bar": {"_target_": "a"}},
    "paths": {"log_dir": "logs"},
    "logger": {"csv": {"_target_": "b"}},
    "seed": 0,
    "tags": [],
    "sweep": {"rerun": False},
}


def changed(key, value):
    config = OmegaConf.create(CONFIG)
    OmegaConf.update(config, key, value, force_add=True)
    return config


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.net.width", 9),
        ("model.net.width", 8.0),
        ("model.alpha", 0.1),
        ("seed", 1),
        ("trainer.max_epochs", 3),
        ("callbacks.checkpoint.monitor", "val/loss"),
        ("data", {}),
    ],
)
def test_what_a_job_computes_is_in_its_hash(key, value):
    assert config_hash(changed(key, value)) != config_hash(OmegaConf.create(CONFIG))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("trainer.devices", [1]),
        ("trainer.enable_progress_bar", False),
        ("callbacks.progress_bar", None),
        ("paths.log_dir", "elsewhere"),
        ("logger.csv", None),
        ("tags", ["pilot"]),
        ("sweep.rerun", True),
        ("data.num_workers", 4),
        ("hydra", {"job": {"num": 3}}),
    ],
)
def test_how_it_is_run_is_not(key, value):
    assert config_hash(changed(key, value)) == config_hash(OmegaConf.create(CONFIG))


def test_what_tells_jobs_apart_counts_in_any_case():
    one, two = changed("trainer.devices", 1), changed("trainer.devices", 2)
    assert config_hash(one) == config_hash(two)
    assert config_hash(one, ["trainer.devices"]) != config_hash(two, ["trainer.devices"])


def test_a_sweeps_folder_is_the_given_one_or_tells_the_overrides():
    assert sweep_folder("pilot", ["seed=0,1"]) == "pilot"
    name = sweep_folder(
        None, ["experiment=rgcnn_rotmnist", "model.optimizer.lr=1e-3,0.1", "seed=0"]
    )
    assert name.startswith("experiment-rgcnn-rotmnist_lr-1e-3-0.1_seed-0-")
    assert sweep_folder(None, []).startswith("sweep-")


@pytest.mark.parametrize(
    "overrides",
    [
        ["model=a,b", "seed=0,1", "launcher=joblib"],
        [
            "seed=0,1",
            "model=a,b",
            "logger=csv",
            "+logger.csv.x=1",
            "paths.log_dir=/tmp",
            "sweep.rerun=true",
        ],
        ["seed=4", "model=a,b", "seed=0,1"],
    ],
)
def test_the_same_sweep_has_the_same_folder(overrides):
    folder, wanted = sweep_folder(None, overrides), sweep_folder(None, ["model=a,b", "seed=0,1"])
    assert folder.rpartition("-")[2] == wanted.rpartition("-")[2]


def test_other_sweeps_have_other_folders():
    assert sweep_folder(None, ["seed=0,1"]) != sweep_folder(None, ["seed=0,1,2"])
    assert sweep_folder(None, ["seed=0,1"]) != sweep_folder(None, ["seed=range(0,2)"])


@pytest.mark.parametrize("value", ["'a b/c=d,e'", "[1,2]", "../../x", "a" * 500])
def test_names_are_fit_for_file_systems_and_for_overrides(value):
    name = sweep_folder(None, [f"+a.b={value}"])
    assert len(name) < 100
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-_")
    assert not name.startswith((".", "-"))


def test_swept_keys_are_those_with_several_values():
    task = ["model=a,b", "seed=range(3)", "data=c", "+x=choice(1,2)"]
    params = {"model.alpha": "0.1,0.2", "model.lr": "interval(0,1)"}
    assert swept_keys(task, None) == ["model", "seed", "x"]
    assert swept_keys(task, params) == ["model.alpha", "model.lr", "model", "seed", "x"]


def composed(*overrides):
    return OmegaConf.create(CONFIG | {"hydra": {"overrides": {"task": list(overrides)}}})


def test_a_jobs_folder_has_the_swept_values_and_the_hash_of_its_config(tmp_path):
    config = composed("model=gcnn", "seed=0", "trainer.max_epochs=2")
    name = job_folder(str(tmp_path), ["model", "seed"], _root_=config)
    assert name == f"model-gcnn_seed-0-{config_hash(config, ['model', 'seed'])}"
    assert job_folder(str(tmp_path), [], _root_=config).startswith("job-")


def test_a_job_is_found_under_the_name_that_another_sweep_gave_it(tmp_path):
    first = job_folder(str(tmp_path), ["seed"], _root_=composed("seed=0"))
    (tmp_path / first).mkdir()
    config = composed("seed=0", "model=gcnn")
    assert job_folder(str(tmp_path), ["seed", "model"], _root_=config) == first
