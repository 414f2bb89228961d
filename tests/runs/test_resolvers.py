import re

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationResolutionError

from src.errors import user_error
from src.runs.resolvers import register_resolvers, run_dir
from src.sweeps.names import register_sweep_resolvers

ROTATED = {"_target_": "src.data.rotmnist.datamodule.RotatedMNISTDataModule"}


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


class Flowers:
    num_classes, image_shape, input_kind = 26, (3, 32, 24), None


@pytest.mark.parametrize(
    ("asked", "value"),
    [("num_classes", 26), ("image_shape.2", 24), ("input_kind,scalar", "scalar"), ("no,2", 2)],
)
def test_a_config_asks_the_data_module_and_its_resolved_form_has_the_answer(asked, value):
    register_resolvers()
    config = OmegaConf.create({"data": {"_target_": f"{__name__}.Flowers"}})
    config.net = {"size": f"${{from_data:{asked}}}"}
    assert OmegaConf.to_container(config, resolve=True)["net"] == {"size": value}


def test_what_the_data_module_lacks_is_named_and_its_own_refusals_stay_as_they_are(tmp_path):
    register_resolvers()
    config = OmegaConf.create({"data": {"_target_": f"{__name__}.Flowers"}, "n": "${from_data:x}"})
    message = r"must have the attribute `x` before `setup`.*got \S*Flowers without"
    for expected, data in (
        (message, config.data),
        ("^data: `source` must be one of", {**ROTATED, "source": "own", "data_dir": str(tmp_path)}),
    ):
        config.data = data
        with pytest.raises(InterpolationResolutionError) as raised:
            OmegaConf.to_container(config, resolve=True)
        assert re.search(expected, str(user_error(raised.value)))
