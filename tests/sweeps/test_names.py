import re

from omegaconf import OmegaConf

from src.sweeps.names import config_hash, job_folder, sweep_folder, swept_keys

CONFIG = {
    "model": {"net": {"width": 8}, "alpha": "${oc.env:ALPHA}"},
    "trainer": {"max_epochs": 2, "devices": 1, "enable_progress_bar": True},
    "callbacks": {"checkpoint": {"monitor": "val/acc"}, "progress_bar": {"_target_": "a"}},
}
CONFIG |= {"paths": {"log_dir": "logs"}, "logger": {"csv": {"_target_": "b"}}}
CONFIG |= {"seed": 0, "tags": [], "sweep": {"rerun": False}}
HASH = "63dae17c79"  # a directory of this name is found again by every later version


def changed(key, value):
    config = OmegaConf.create(CONFIG)
    OmegaConf.update(config, key, value, force_add=True)
    return config


def test_what_a_job_computes_is_in_its_hash_and_how_it_is_run_is_not():
    plain = OmegaConf.create(CONFIG)
    assert config_hash(plain) == HASH
    for key, value in (
        *(("model.net.width", 9), ("model.net.width", 8.0), ("model.alpha", 0.1), ("seed", 1)),
        *(("trainer.max_epochs", 3), ("callbacks.checkpoint.monitor", "val/loss"), ("data", {})),
        ("data.batch_size", 9),
    ):
        assert config_hash(changed(key, value)) != HASH, key
    for key, value in (
        *(("trainer.devices", [1]), ("trainer.enable_progress_bar", False), ("tags", ["pilot"])),
        *(("callbacks.progress_bar", None), ("paths.log_dir", "elsewhere"), ("logger.csv", None)),
        *(("sweep.rerun", True), ("data.num_workers", 4), ("hydra", {"job": {"num": 3}})),
    ):
        config = changed(key, value)
        swept = config_hash(config, [key])  # where the jobs of a sweep differ in it
        assert config_hash(config) == HASH != swept != config_hash(plain, [key]), key


def test_a_sweeps_folder_is_the_given_one_or_shows_the_overrides():
    assert sweep_folder("pilot", ["seed=0,1"]) == "pilot"
    assert sweep_folder(None, []) == "sweep-4f53cda18c"
    folder = sweep_folder(None, ["experiment=rgcnn_rotmnist", "model.optimizer.lr=1e-3,0.1"])
    assert folder.startswith("experiment-rgcnn-rotmnist_lr-1e-3-0.1-")
    folder, digest = "model-a-b_seed-0-1-650cf79ffa", "650cf79ffa"
    assert sweep_folder(None, ["model=a,b", "seed=0,1", "launcher=joblib"]) == folder
    for same in (
        ["model=a,b", "seed=0,1", "logger=csv", "+logger.csv.x=1", "paths.log_dir=/tmp"],
        ["seed=0,1", "model=a,b", "sweep.rerun=true"],
        ["seed=4", "model=a,b", "seed=0,1"],
    ):
        assert sweep_folder(None, same).endswith(digest)
    for other in (["model=a,b", "seed=0,1,2"], ["model=a,b", "seed=range(0,2)"]):
        assert not sweep_folder(None, other).endswith(digest)
    for value in ("'a b/c=d,e'", "[1,2]", "../../x", "a" * 500):  # fit for file systems
        assert re.fullmatch(r"[a-z0-9_][a-z0-9._-]{,98}", sweep_folder(None, [f"+a.b={value}"]))


def test_a_jobs_folder_has_the_swept_values_and_the_hash_of_its_config(tmp_path):
    task = ["model=a,b", "seed=range(3)", "data=c", "+x=choice(1,2)"]
    params = {"model.alpha": "0.1,0.2", "model.lr": "interval(0,1)"}
    assert swept_keys(task, None) == ["model", "seed", "x"]
    assert swept_keys(task, params) == ["model.alpha", "model.lr", "model", "seed", "x"]

    def folder(swept, *overrides):
        config = CONFIG | {"hydra": {"overrides": {"task": list(overrides)}}}
        return job_folder(str(tmp_path), swept, _root_=OmegaConf.create(config))

    name = folder(["model", "seed"], "model=gcnn", "seed=0", "trainer.max_epochs=2")
    assert name == f"model-gcnn_seed-0-{HASH}"
    assert folder([], "seed=0") == f"job-{HASH}"
    (tmp_path / name).mkdir()
    assert folder(["seed"], "seed=0") == name  # that another sweep gave it
