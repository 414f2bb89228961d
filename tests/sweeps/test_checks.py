import pytest
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from src.sweeps import checks
from src.sweeps.checks import offer_missing_launchers, sweep_problems

GOOD = {"name": None, "rerun": False, "fail_fast": False, "spread_jobs": True}


def command(*overrides, params=None, launcher="a.BasicLauncher", sweep=None):
    hydra = {
        "overrides": {"task": list(overrides)},
        "sweeper": {"params": params},
        "launcher": {"_target_": launcher},
    }
    return OmegaConf.create({"sweep": GOOD | (sweep or {}), "hydra": hydra})


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
        (["sweep.rerun=true,false"], "`sweep.rerun` must have one value in a sweep; got"),
        (["sweep.name=a,b"], "`sweep.name` must have one value in a sweep"),
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
        (
            "fail_fast",
            3,
            "`sweep.fail_fast` must be true or false; got 3. Use sweep.fail_fast=true.",
        ),
        ("rerun", "yes please", "`sweep.rerun` must be true or false; got 'yes please'."),
        ("spread_jobs", None, "`sweep.spread_jobs` must be true or false; got None."),
        ("name", "a/b", "`sweep.name` must be the name of a folder, .*; got 'a/b'. Use"),
        ("name", "..", "got '..'"),
        ("name", "", "got ''"),
    ],
)
def test_bad_values_of_keys(key, value, message):
    (problem,) = sweep_problems(command(sweep={key: value}))
    assert message.split(", .*; ")[0] in problem
    assert message.split(", .*; ")[-1] in problem


def test_a_name_may_be_a_number():
    assert sweep_problems(command(sweep={"name": 2026})) == []


def test_a_missing_launcher_is_offered_and_refused(monkeypatch):
    repository = ConfigStore.instance().repo
    monkeypatch.setattr(ConfigStore.instance(), "repo", {})
    monkeypatch.setattr(checks, "_is_installed", lambda package: package.endswith("joblib"))
    offer_missing_launchers()
    stored = ConfigStore.instance().repo["hydra"]["launcher"]
    assert set(stored) == {f"{name}.yaml" for name in checks.PLUGINS}
    target = stored["ray.yaml"].node["_target_"]
    monkeypatch.setattr(ConfigStore.instance(), "repo", repository)
    (problem,) = sweep_problems(command(launcher=target))
    assert "`launcher` must be one whose plugin is installed" in problem
    assert 'needs hydra-ray-launcher. Run `pip install -e ".[sweep]"`' in problem


def test_without_any_plugin_none_is_found(monkeypatch):
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    assert not checks._is_installed("hydra_ray_launcher")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-m", "seed=0,0"], "got `seed=0,0`, in which 0 stands more than once"),
        (["-m", "seed=0,1", "resume=nowhere"], "`resume` continues a single run"),
        (["-m", "seed=0,1", "sweep.fail_fast=3"], "`sweep.fail_fast` must be true or false; got 3"),
        (["sweep.fail_fast=3"], "`sweep.fail_fast` must be true or false; got 3"),
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
