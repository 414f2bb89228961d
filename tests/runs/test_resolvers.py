from omegaconf import OmegaConf

from src.runs.resolvers import register_resolvers, run_dir
from src.sweeps.names import register_sweep_resolvers


def test_a_new_run_has_a_directory_of_its_own_and_a_resumed_one_keeps_its(tmp_path, monkeypatch):
    made = {run_dir(None, str(tmp_path)) for _ in range(3)}  # in the same second
    assert [path.startswith(f"{tmp_path}/") for path in made] == [True] * 3
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    run.mkdir()
    assert run_dir("run", "logs").startswith("logs/"), "what is no run is not written to"
    (run / "config.yaml").touch()
    assert run_dir("run", "logs") == str(run)


def test_a_config_asks_twice_and_a_sweep_in_its_jobs_and_all_get_one_answer():
    register_resolvers()
    register_sweep_resolvers()
    config = OmegaConf.create({"resume": None, "dir": "${run_dir:${oc.select:resume,null},logs}"})
    assert config.dir == config.dir
    key = "${sweep_folder:null,${hydra.overrides.task}}"
    started = OmegaConf.create({"hydra": {"overrides": {"task": ["seed=0,1"]}}, "folder": key})
    job, folder = started.copy(), started.folder
    job.hydra.overrides.task = ["seed=1"]
    OmegaConf.copy_cache(started, job)
    assert job.folder == folder
