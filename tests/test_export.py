import logging

import pytest
import torch
from hydra.utils import instantiate
from torch import nn

from src.models.components.classifiers import RelaxedGCNN
from src.runs import exporting

NET = {"_target_": "src.models.components.classifiers.RelaxedGCNN", "group": "c4"}
NET |= {"hidden_channels": 2, "num_layers": 2, "pool_after": [1], "num_classes": 3}
SGD = {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.1}
MODEL = {"_target_": "src.models.classification_module.ClassificationModule"}
MODEL |= {"net": NET, "optimizer": SGD}
DATA = {"_target_": "shared_fakes.SharedImages", "data_dir": "data", "batch_size": 64}
CONFIG = {"model": MODEL, "data": {**DATA, "num_workers": 0, "seed": 0}, "seed": 3}
CONFIG |= {"paths": {"data_dir": "data"}, "task_name": "train"}
SLOW = pytest.mark.slow
NAN = float("nan")


@pytest.fixture
def checkpoint(tmp_path):
    """The path of a checkpoint as a training writes it."""
    torch.manual_seed(0)
    path = tmp_path / "run" / "checkpoints" / "best.ckpt"
    path.parent.mkdir(parents=True)
    torch.save({"state_dict": instantiate(MODEL).state_dict(), "config": CONFIG}, path)
    yield path
    for name in ("onnx_ir", "onnxscript"):
        logging.getLogger(name).setLevel(logging.NOTSET)


@SLOW
@pytest.mark.parametrize("name", ["pt2", "onnx"])
def test_a_network_is_written_with_what_its_images_need(
    run_entry_point, checkpoint, tmp_path, name
):
    """As pt2 to a new folder, as ONNX beside the checkpoint; each over an older file."""
    places = {"pt2": tmp_path / "new/network.pt2", "onnx": checkpoint.with_suffix(".onnx")}
    place = places[name]
    named = [f"out={place}"] if name == "pt2" else []
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(b"old")
    made = run_entry_point(
        "export", f"ckpt_path={checkpoint}", f"format={name}", "split=val", *named
    )
    assert {p.name for p in place.parent.iterdir()} <= {place.name, "best.ckpt"}
    network = instantiate(MODEL)
    network.load_state_dict(torch.load(checkpoint, weights_only=True)["state_dict"])
    images = torch.randn(3, 1, 12, 12)
    with torch.no_grad():
        result = exporting.FORMATS[name].run(place.read_bytes(), images)
        torch.testing.assert_close(result, network.net.eval()(images), rtol=1e-5, atol=1e-5)
    summary = made.summary
    expected = {"status": "finished", "out": str(place), "input_shape": [1, 8, 8]}
    expected |= {"num_samples": 21, "mean": 0.25, "std": 0.5}
    assert summary.items() >= expected.items()
    assert summary["largest_difference"] <= 1e-5
    assert made.config["seed"] == 3
    assert "on 21 val samples differ by at most" in made.log
    assert "Removed" not in made.log, "what the exporters simplify"


@pytest.mark.parametrize(
    ("bias", "shift", "difference"), [(300.0, 3.0, "0.01"), (0.0, 2e-2, "0.02"), (0.0, NAN, "nan")]
)
def test_other_outputs_are_refused(refused, checkpoint, monkeypatch, bias, shift, difference):
    """The difference is relative to logits above 1; all logits are the bias here."""
    stored = torch.load(checkpoint, weights_only=True)
    nn.init.zeros_(stored["state_dict"]["net.head.weight"])
    nn.init.constant_(stored["state_dict"]["net.head.bias"], bias)
    torch.save(stored, checkpoint)

    def run(data, inputs):
        return torch.full((len(inputs), 3), bias + shift)

    fake = exporting.FORMATS["pt2"]._replace(write=lambda *_: b"a file", run=run)
    monkeypatch.setitem(exporting.FORMATS, "pt2", fake)
    message, _ = refused("export", f"ckpt_path={checkpoint}")
    assert f"outputs to 1e-05; got a difference of {difference} on 31 test" in message
    assert list(checkpoint.parent.iterdir()) == [checkpoint]


def test_a_network_that_cannot_be_traced_is_refused_with_the_reason(
    refused, checkpoint, monkeypatch
):
    def branching(self, x):
        return x.mean((-2, -1)).expand(-1, 3) * (1 if x.sum() > 0 else 2)

    monkeypatch.setattr(RelaxedGCNN, "forward", branching)
    message, _ = refused("export", f"ckpt_path={checkpoint}")
    assert "that pt2 can hold" in message and "RelaxedGCNN could not be written: " in message
    assert "Change its forward" in message
    assert list(checkpoint.parent.iterdir()) == [checkpoint]
