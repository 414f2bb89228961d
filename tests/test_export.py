import logging
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate

from src.runs import exporting

MODEL = {
    "_target_": "src.models.classification_module.ClassificationModule",
    "net": {
        "_target_": "src.models.components.classifiers.RelaxedGCNN",
        "group": "c4",
        "hidden_channels": 2,
        "num_layers": 2,
        "pool_after": [1],
    },
    "optimizer": {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.1},
}
TINY_NET = {"_target_": "run_fakes.TinyNet", "num_classes": 10}


@pytest.fixture
def checkpoint(tmp_path):
    """Write a checkpoint as a training does, and return its path."""

    def write(**net):
        model = {**MODEL, "net": {**MODEL["net"], **net} if "_target_" not in net else net}
        torch.manual_seed(0)
        config = {
            "model": model,
            "data": {"_target_": "export_fakes.TinyImages"},
            "seed": 3,
            "paths": {"data_dir": "data"},
            "task_name": "train",
        }
        path = tmp_path / "run" / "checkpoints" / "best.ckpt"
        path.parent.mkdir(parents=True)
        torch.save({"state_dict": instantiate(model).state_dict(), "config": config}, path)
        return path

    return write


@pytest.fixture(autouse=True)
def loggers_as_before():
    yield
    for name in ("onnx_ir", "onnxscript"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def network_of(path):
    checkpoint = torch.load(path, weights_only=True)
    model = instantiate(checkpoint["config"]["model"])
    model.load_state_dict(checkpoint["state_dict"])
    return model.net.eval()


def files_beside(path):
    return sorted(file.name for file in path.parent.iterdir())


@pytest.mark.parametrize(
    ("name", "suffix", "run"),
    [
        ("torch", ".pt", lambda path, x: torch.load(path, weights_only=False)(x)),
        ("pt2", ".pt2", lambda path, x: torch.export.load(path).module()(x)),
        pytest.param(
            *("onnx", ".onnx", lambda path, x: exporting.FORMATS["onnx"].run(path.read_bytes(), x)),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_checkpoint_is_written_in_any_format(run_entry_point, checkpoint, name, suffix, run):
    path = checkpoint()
    made = run_entry_point("export", f"ckpt_path={path}", f"format={name}", "split=val")
    assert files_beside(path) == sorted(["best.ckpt", f"best{suffix}"])
    images = torch.randn(3, 1, 12, 12)
    with torch.no_grad():
        result, expected = run(path.with_suffix(suffix), images), network_of(path)(images)
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)
    summary = made.summary
    assert summary["status"] == "finished"
    assert summary["out"] == str(path.with_suffix(suffix))
    assert summary["largest_difference"] <= 1e-5
    assert (summary["input_shape"], summary["num_images"]) == ([1, 10, 12], 5)
    assert (summary["mean"], summary["std"]) == (0.25, 0.5)
    assert made.config["seed"] == 3
    assert "on 5 val images differ by at most" in made.log
    assert "Removed" not in made.log, "what the exporters simplify"


def test_the_file_may_be_named(run_entry_point, checkpoint, tmp_path):
    path, out = checkpoint(), tmp_path / "new" / "network.pt"
    run_entry_point("export", f"ckpt_path={path}", "format=torch", f"out={out}")
    assert files_beside(path) == ["best.ckpt"]
    assert [p.name for p in out.parent.iterdir()] == ["network.pt"]


def test_a_file_is_replaced_whole_or_not_at_all(run_entry_point, checkpoint, monkeypatch):
    path = checkpoint()
    old = path.with_suffix(".pt")
    old.write_bytes(b"old")

    def fail(self, target):
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(OSError, match="the disk is full"):
            exporting.write_bytes(old, b"new")
    assert old.read_bytes() == b"old"
    assert files_beside(path) == ["best.ckpt", "best.pt"]
    run_entry_point("export", f"ckpt_path={path}", "format=torch")
    assert old.stat().st_size > 1000


@pytest.mark.parametrize("shift", [2e-2, float("nan")])
def test_a_network_of_other_outputs_is_not_written(
    run_entry_point, checkpoint, monkeypatch, capsys, shift
):
    def wrong(network):
        plain = export(network)
        with torch.no_grad():
            plain[-1].bias.add_(shift)
        return plain

    export, path = exporting.export, checkpoint()
    monkeypatch.setattr(exporting, "export", wrong)
    with pytest.raises(SystemExit):
        run_entry_point("export", f"ckpt_path={path}", "format=torch")
    assert f"outputs to 1e-05; got a difference of {shift:.2g} on 6 test" in capsys.readouterr().err
    assert files_beside(path) == ["best.ckpt"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["format=pt2"], "`ckpt_path` must be the checkpoint to evaluate; got none"),
        (["ckpt_path={path}", "format=tf"], "`format` must be one of pt2, onnx, torch; got 'tf'"),
        (["ckpt_path={path}", "split=all"], "`split` must be one of train, val, test; got 'all'"),
        (["ckpt_path={path}", "out=a.onnx"], "`out` must be a file name that ends in .pt2 and"),
        (["ckpt_path={path}", "out={path}"], "Use for example out=network.pt2"),
        (["ckpt_path={pt}", "format=torch"], "is not the checkpoint's; got "),
    ],
)
def test_errors_are_one_message(run_entry_point, checkpoint, capsys, arguments, message):
    path = checkpoint()
    pt = path.with_name("renamed.pt")
    pt.write_bytes(path.read_bytes())
    with pytest.raises(SystemExit) as exit_:
        run_entry_point("export", *(a.format(path=path, pt=pt) for a in arguments))
    assert exit_.value.code == 1
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told
    assert pt.read_bytes() == path.read_bytes()


def test_a_network_without_a_plain_form(run_entry_point, checkpoint, capsys):
    path = checkpoint(**TINY_NET)
    with pytest.raises(SystemExit):
        run_entry_point("export", f"ckpt_path={path}")
    told = capsys.readouterr().err
    assert "`network` must be a Classifier" in told
    assert "got TinyNet" in told
    assert "Traceback" not in told


def test_a_missing_package_is_named(run_entry_point, checkpoint, monkeypatch, capsys):
    path = checkpoint()
    monkeypatch.setattr(exporting, "find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(SystemExit):
        run_entry_point("export", f"ckpt_path={path}", "format=onnx")
    told = capsys.readouterr().err
    assert "format=onnx needs the packages onnxscript, which are not installed" in told
    assert 'pip install -e ".[export]"' in told
    assert files_beside(path) == ["best.ckpt"]


def test_the_largest_difference_is_relative_to_large_logits():
    expected = torch.tensor([[200.0, -100.0]])
    assert exporting._largest_difference(expected + 1, expected) == pytest.approx(1 / 200)
    small = torch.tensor([[0.5, -0.1]])
    assert exporting._largest_difference(small + 0.1, small) == pytest.approx(0.1)
