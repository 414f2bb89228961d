import pytest
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from src.sweeps import checks
from src.sweeps.checks import offer_missing_launchers, sweep_problems

GOOD = {"name": None, "rerun": False, "fail_fast": False, "spread_jobs": True}


def problems(*overrides, params=None, launcher="a.BasicLauncher", **sweep):
    hydra = {"overrides": {"task": list(overrides)}, "launcher": {"_target_": launcher}}
    config = {"sweep": GOOD | sweep, "hydra": hydra | {"sweeper": {"params": params}}}
    return sweep_problems(OmegaConf.create(config))


def test_bad_sweeps_are_refused():
    for good in ([], ["seed=0,1,2", "model=a,b"], ["seed=range(3)"], ["model=glob(*)"], ["x=3"]):
        assert problems(*good, params={"model.alpha": "0.1,0.2"}, name=2026) == []
    params = {"model.alpha": "0.1,0.1"}
    for found, message in (
        (problems("seed=0,1,0"), "differ in their configs; got `seed=0,1,0`, in which 0 stands"),
        (problems("seed=choice(3,3)"), "in which 3 stands more than once"),
        (problems(params=params), "got `model.alpha=0.1,0.1`, in which 0.1"),
        (problems("resume=logs/a"), "`resume` continues a single run; got `resume=logs/a`"),
        (problems(name="a/b"), "`sweep.name` must be the name of a folder"),
    ):
        assert len(found) == 1 and message in found[0]


@pytest.mark.parametrize("plugins", [True, False])
def test_a_missing_launcher_is_offered_and_refused(monkeypatch, plugins):
    installed = {"hydra_plugins", "hydra_plugins.hydra_joblib_launcher"} if plugins else set()
    monkeypatch.setattr(checks, "find_spec", lambda name: name in installed or None)
    with monkeypatch.context() as context:
        context.setattr(ConfigStore.instance(), "repo", {})
        offer_missing_launchers()
        stored = ConfigStore.instance().repo["hydra"]["launcher"]
    names = set(checks.PLUGINS) - ({"joblib"} if plugins else set())
    assert set(stored) == {f"{name}.yaml" for name in names}
    (problem,) = problems(launcher=stored["ray.yaml"].node["_target_"])
    assert "`launcher` must be one whose plugin is installed" in problem
    assert 'needs hydra-ray-launcher. Run `pip install -e ".[sweep]"`' in problem


def test_bad_command_lines_end_before_any_job(train, tmp_path):
    with pytest.raises(SystemExit, match="in which 0 stands more than once"):
        train("-m", "seed=0,0")
    assert not list(tmp_path.rglob("config.yaml"))
