import os
import re
import shutil

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from src.errors import UserError
from src.runs.loading import compose_config, load
from tests.conftest import ROOT, RunDirectory, process_as_before


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """A process without Hydra, in a folder of its own."""
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    monkeypatch.delenv("PROJECT_ROOT")
    monkeypatch.chdir(tmp_path)
    with process_as_before():
        yield tmp_path


def accuracy(model, datamodule):
    """On the test data, by hand."""
    datamodule.prepare_data()
    datamodule.setup()
    with torch.no_grad():
        hits = [model(x).argmax(1) == labels for x, labels in datamodule.test_dataloader()]
    return torch.cat(hits).float().mean().item()


@pytest.mark.parametrize("place", ["checkpoint", "run", "moved", "no best"])
def test_a_network_comes_back_with_its_data_and_config(notebook, earlier_run, first_run, place):
    if place == "moved":  # what an archive of the results may hold: nothing but the checkpoints
        shutil.copytree(earlier_run / "checkpoints", notebook / "elsewhere" / "checkpoints")
        shutil.rmtree(earlier_run.path)
    if place == "no best":
        (earlier_run / "checkpoints" / "best.ckpt").unlink()
    paths = {"checkpoint": earlier_run / "checkpoints" / "best.ckpt", "moved": "elsewhere"}
    model, datamodule, config = load(paths.get(place, str(earlier_run.path)))
    weights = first_run.weights("last.ckpt" if place == "no best" else "best.ckpt")
    torch.testing.assert_close(dict(model.state_dict()), weights, rtol=0, atol=0)
    assert not model.training and (config.seed, config.model.net.width) == (0, 8)
    if place != "no best":
        assert accuracy(model, datamodule) == pytest.approx(first_run.summary["test"]["test/acc"])


def test_data_are_looked_for_where_they_were_then_here(notebook, earlier_run):
    assert load(earlier_run.path, data_dir="mine").config.data.data_dir == "mine"
    path = earlier_run / "checkpoints" / "best.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    for stored, expected in ((str(notebook), str(notebook)), ("/not/here", str(ROOT / "data"))):
        for group in ("paths", "data"):
            checkpoint["config"][group]["data_dir"] = stored
        torch.save(checkpoint, path)
        assert load(path).config.data.data_dir == expected
    with pytest.raises(UserError, match=r"must be an existing file; got .*checkpoints/best.ckpt"):
        load(notebook)


def test_configs_are_composed_without_a_job_of_hydra(notebook):
    """Ours, and Hydra's own, which is initialised and stays so."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        config = compose_config("train", "model=cnn", "paths.log_dir=my_runs")
        own = compose("train")
    OmegaConf.resolve(own)
    assert not GlobalHydra.instance().is_initialized()
    assert re.fullmatch(r"my_runs/train/runs/[-_\d]+", config.paths.output_dir)
    assert config.callbacks.checkpoint.dirpath == f"{config.paths.output_dir}/checkpoints"
    assert config.model.net._target_.endswith(".CNN")
    assert own.paths.output_dir == own.trainer.default_root_dir
    assert own.paths.output_dir.startswith(f"{ROOT}/logs/train/runs/")
    assert os.environ["PROJECT_ROOT"] == str(ROOT) and not list(notebook.iterdir())


@pytest.mark.slow
def test_the_code_in_the_docs_runs(notebook):
    text = (ROOT / "docs" / "python.md").read_text()
    names = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(block, names)
    run = RunDirectory(notebook / names["config"].paths.output_dir)
    assert run.summary["status"] == "finished" and run.summary["steps"] == 5
    assert names["trained_config"].model == run.config["model"]
    tested = run.summary["test"]["test/acc"]
    assert accuracy(names["model"], names["data"]) == pytest.approx(tested, abs=1e-6)
    assert 0 < names["error"] < 0.1
    assert names["untrained"].group.name == "c8"
