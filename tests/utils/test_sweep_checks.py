import pytest
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from src.utils import sweep_checks
from src.utils.sweep_checks import key_problems, offer_missing_launchers, sweep_problems

GOOD = {"sweep_name": None, "rerun": False, "fail_fast": False, "spread_jobs": True}


def command(*overrides, params=None, launcher="a.BasicLauncher"):
    hydra = {
        "overrides": {"task": list(overrides)},
        "sweeper": {"params": params},
        "launcher": {"_target_": launcher},
    }
    return OmegaConf.create(GOOD | {"hydra": hydra})


@pytest.mark.parametrize(
    "overrides", [[], ["seed=0,1,2", "model=a,b"], ["seed=range(3)"], ["model=glob(*)"], ["x=3"]]
)
def test_good_sweeps(overrides):
    assert sweep_problems(command(*overrides, params={"model.alpha": "0.1,0.2"})) == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["seed=0,1,0"], "must differ in their configs; got `seed=0,1,0`, in which 0 stands more"),
        (["seed=choice(3,3)"], "in which 3 stands more than once. List each value once."),
        (["resume=logs/a"], "`resume` continues a single run; got `resume=logs/a` in a sweep."),
        (["resume=a,b"], "got `resume=a,b` in a sweep. Leave out `-m`"),
        (["rerun=true,false"], "`rerun` must have one value in a sweep; got `rerun=true,false`."),
        (["sweep_name=a,b"], "`sweep_name` must have one value in a sweep"),
    ],
)
def test_bad_sweeps(overrides, message):
    (problem,) = sweep_problems(command("model=a", *overrides))
    assert message in problem


def test_parameters_of_the_sweeper_are_checked_too():
    (problem,) = sweep_problems(command(params={"model.alpha": "0.1,0.1"}))
    assert "got `model.alpha=0.1,0.1`, in which 0.1 stands more than once" in problem


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("fail_fast", 3, "`fail_fast` must be true or false; got 3. Use fail_fast=true."),
        ("rerun", "yes please", "`rerun` must be true or false; got 'yes please'."),
        ("spread_jobs", None, "`spread_jobs` must be true or false; got None."),
        ("sweep_name", "a/b", "`sweep_name` must be the name of a folder, .*; got 'a/b'. Use"),
        ("sweep_name", "..", "got '..'"),
        ("sweep_name", "", "got ''"),
    ],
)
def test_bad_values_of_keys(key, value, message):
    (problem,) = key_problems(OmegaConf.create(GOOD | {key: value}))
    assert message.split(", .*; ")[0] in problem
    assert message.split(", .*; ")[-1] in problem


def test_configs_without_the_keys_are_left():
    assert key_problems(OmegaConf.create({})) == []
    assert key_problems(OmegaConf.create(GOOD | {"sweep_name": 2026})) == []


def test_a_missing_launcher_is_offered_and_refused(monkeypatch):
    repository = ConfigStore.instance().repo
    monkeypatch.setattr(ConfigStore.instance(), "repo", {})
    monkeypatch.setattr(sweep_checks, "_is_installed", lambda package: package.endswith("joblib"))
    offer_missing_launchers()
    stored = ConfigStore.instance().repo["hydra"]["launcher"]
    assert set(stored) == {f"{name}.yaml" for name in sweep_checks.PLUGINS}
    target = stored["ray.yaml"].node["_target_"]
    monkeypatch.setattr(ConfigStore.instance(), "repo", repository)
    (problem,) = sweep_problems(command(launcher=target))
    assert "`launcher` must be one whose plugin is installed" in problem
    assert 'needs hydra-ray-launcher. Run `pip install -e ".[sweep]"`' in problem


def test_without_any_plugin_none_is_found(monkeypatch):
    monkeypatch.setattr(sweep_checks, "find_spec", lambda name: None)
    assert not sweep_checks._is_installed("hydra_ray_launcher")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-m", "seed=0,0"], "got `seed=0,0`, in which 0 stands more than once"),
        (["-m", "seed=0,1", "resume=nowhere"], "`resume` continues a single run"),
        (["-m", "seed=0,1", "fail_fast=3"], "`fail_fast` must be true or false; got 3"),
        (["fail_fast=3"], "`fail_fast` must be true or false; got 3"),
        (["launcher=cluster"], "Could not find 'launcher/cluster'"),
        (["-m", "model=tiny,nowhere"], "Could not find 'model/nowhere'"),
    ],
)
def test_bad_command_lines_end_before_any_job(train, tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit) as ended:
        train(*arguments)
    assert ended.value.code not in (0, None)
    assert message in f"{ended.value.code} {capsys.readouterr().err}"
    assert not list(tmp_path.rglob("config.yaml"))
