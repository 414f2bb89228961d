"""What docs/extending.md shows works as it stands there: own data and own network, to the end."""

import re
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from src.models.components.widths import count_parameters
from src.runs.checkpoints import MeasureStore
from src.runs.loading import load
from tests.conftest import QUIET, ROOT

SHORT = ("trainer=cpu", "trainer.max_epochs=1", "trainer.limit_train_batches=2", QUIET)
SHORT += ("logger=csv", "trainer.limit_val_batches=1", "trainer.limit_test_batches=1")
FEW = ("callbacks.equivariance_error.num_samples=4", "callbacks.lie_derivative.num_samples=2")
FEW += ("callbacks.sharpness.num_samples=4", "data.batch_size=8")

LETTERS = """
import numpy as np

from src.data.images import ImageDataModule


class Letters(ImageDataModule):
    num_classes, image_shape = 26, (2, 20, 20)
    input_kind = "vector"

    def __init__(self, size=78, **options):
        super().__init__(**options)
        self.size = size

    def read_parts(self):
        images = np.random.default_rng(0).normal(size=(self.size, 2, 20, 20))
        return {"train": (images, np.arange(self.size) % 26), "test": (images, [25] * self.size)}
"""
ORDINARY = '''
from torch import nn


class Ordinary(nn.Module):
    """A residual network without a group, without relaxed layers; `blocks` is a number."""

    def __init__(self, in_channels, num_classes):
        super().__init__()
        self.blocks = 2
        self.stem = nn.Conv2d(in_channels, 4, 3, 2)
        conv = nn.Conv2d(4, 4, 3, padding=1)
        self.body = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(inplace=True), conv)
        self.head = nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes))

    def forward(self, x):
        x = self.stem(x)
        return self.head(x + self.body(x))
'''
LETTERS_CONFIG = """
_target_: src.data.letters.Letters
seed: ${seed}
batch_size: 8
"""
ORDINARY_CONFIG = """
defaults: [/classification@_here_, _self_]
net:
  _target_: src.models.components.ordinary.Ordinary
  in_channels: ${from_data:image_shape.0}
  num_classes: ${from_data:num_classes}
"""
OWN = {
    "src/data/letters.py": LETTERS,
    "configs/data/letters.yaml": LETTERS_CONFIG,
    "src/models/components/ordinary.py": ORDINARY,
    "configs/model/ordinary.yaml": ORDINARY_CONFIG,
}


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Modules and configs of docs/extending.md and of this file, as if they lay in the checkout."""
    text = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    shown = dict(re.findall(r"```\w+\n# (\S+)\n(.*?)```", text, re.S))
    assert len(shown) == 4
    for name, body in (shown | OWN).items():
        path = Path(name)
        if path.suffix == ".yaml":
            place = tmp_path / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(body)
            continue
        module = ModuleType(".".join(path.with_suffix("").parts))
        exec(compile(body, name, "exec"), vars(module))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        parent, _, child = module.__name__.rpartition(".")
        monkeypatch.setattr(import_module(parent), child, module, raising=False)
    return f"hydra.searchpath=[file://{tmp_path / 'configs'}]", shown


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "model", "kept"),
    [
        ("shapes", "skips", {"blocks.0", "blocks.1", "blocks.2"}),
        ("letters", "ordinary", set()),
        ("letters", "gcnn", {f"blocks.{n}" for n in range(6)}),
    ],
)
def test_own_data_and_networks_are_trained_measured_drawn_and_exported(
    run_entry_point, own, data, model, kept
):
    path, _ = own
    run = run_entry_point("train", path, f"data={data}", f"model={model}", *SHORT, *FEW)
    start = run.summary["start"]
    name = "dynamics/equivariance_error"
    layers = {key.removeprefix(f"{name}/") for key in start if key.startswith(f"{name}/")}
    assert layers == kept
    assert not [key for key in start if "relaxed_weight" in key]
    assert {"dynamics/lie_derivative", "dynamics/sharpness"} <= set(start)
    assert (run / "images" / "kernels_start.png").is_file()
    trained = load(run.path)
    sizes = trained.datamodule.image_shape[0], trained.datamodule.num_classes
    network = run.config["model"]["net"]
    network = network.get("make", network)
    assert (network["in_channels"], network["num_classes"]) == sizes
    assert run.config["model"]["input_kind"] == trained.datamodule.input_kind
    if model == "skips":
        assert count_parameters(trained.model) == pytest.approx(22_000, rel=0.03)
    checkpoint = run / "checkpoints" / "best.ckpt"
    if model != "ordinary":  # the network trained, and is as strict as it was
        exact = "measure.equivariance_error.probe.elements=exact"
        asked = ("measure=equivariance_error", exact, "trainer=cpu", f"ckpt_path={checkpoint}")
        run_entry_point("measure", path, *asked)
        (found,) = MeasureStore(checkpoint.parent).read()["best.ckpt"]["measures"].values()
        assert found["values"]["equivariance_error"] < 1e-4
    exported = run_entry_point("export", path, f"ckpt_path={checkpoint}")
    assert exported.summary["largest_difference"] <= 1e-5


def test_a_data_module_takes_25_lines(own):
    _, shown = own
    assert shown["src/data/shapes.py"].count("\n") <= 25
