from omegaconf import OmegaConf

from src.runs.resolvers import register_resolvers, run_dir


def test_runs_of_the_same_second_have_directories_of_their_own(tmp_path):
    made = {run_dir(None, str(tmp_path)) for _ in range(3)}
    assert len(made) == 3
    assert all(path.startswith(f"{tmp_path}/") for path in made)


def test_a_resumed_run_keeps_its_directory(tmp_path, monkeypatch):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").touch()
    monkeypatch.chdir(tmp_path)
    assert run_dir("run", "elsewhere") == str(run)


def test_what_is_no_run_directory_is_not_written_to(tmp_path):
    assert run_dir(str(tmp_path), "logs").startswith("logs/")


def test_a_config_asks_twice_and_gets_one_answer():
    register_resolvers()
    config = OmegaConf.create({"resume": None, "dir": "${run_dir:${oc.select:resume,null},logs}"})
    assert config.dir == config.dir


def test_jobs_take_over_what_was_evaluated_where_the_sweep_was_started():
    register_resolvers()
    key = "${sweep_folder:null,${hydra.overrides.task}}"
    started, job = (
        OmegaConf.create({"hydra": {"overrides": {"task": [seeds]}}, "folder": key})
        for seeds in ("seed=0,1", "seed=1")
    )
    folder = started.folder
    OmegaConf.copy_cache(started, job)
    assert job.folder == folder
