import json

import numpy as np
import pytest
import torch

from src.runs.checkpoints import MeasureStore
from src.runs.loading import load
from tests.conftest import QUICK, QUIET
from tests.helpers.fake_plumes import tiny_overrides, use_fake_simulation

FORECASTS = ("model=forecaster", "data=shared_windows", "trainer=cpu", "callbacks=minimal")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["logits", "forecast"])
def test_a_file_of_what_the_network_answers_beside_the_truth(run_entry_point, tmp_path, kind):
    """Of every sample, in the order of the data; again, from the arrays, the logged score."""
    choices = QUICK if kind == "logits" else (*FORECASTS, "trainer.max_epochs=1")
    checkpoint = run_entry_point("train", *choices, QUIET) / "checkpoints/best.ckpt"
    out = tmp_path / "predictions.npz"
    given = f"ckpt_path={checkpoint}", f"out={out}", "trainer=cpu", QUIET
    made = run_entry_point("predict", *given)
    found = dict(np.load(out))
    metadata = json.loads(str(found.pop("metadata")))
    assert (metadata["ckpt_path"], metadata["split"]) == (str(checkpoint), "test")
    assert metadata["model"]["net"]["_target_"] == made.config["model"]["net"]["_target_"]
    model, datamodule, _ = load(checkpoint, trust=True)
    datamodule.setup()
    metrics = made.summary["metrics"]
    if kind == "logits":
        images, labels = (torch.cat(parts) for parts in zip(*datamodule.test_dataloader()))
        with torch.no_grad():
            expected = {"test/logits": model(images), "test/labels": labels}
        hits = found["test/logits"].argmax(1) == found["test/labels"]
        assert metrics["test/acc"] == pytest.approx(hits.mean())
    else:
        expected = {}
        for name, loader in zip(("future", "domain"), datamodule.test_dataloader()):
            windows = torch.cat(list(loader))
            with torch.no_grad():
                expected[f"{name}/forecast"] = model.forecast(windows)
            expected |= {f"{name}/known": windows[:, :2], f"{name}/truth": windows[:, 2:]}
        error = found["domain/forecast"] - found["domain/truth"]
        assert metrics["test/domain/rmse"] == pytest.approx((error**2).mean() ** 0.5, rel=1e-5)
        names = {path.name for path in (made / "images").iterdir()}
        assert names == {"forecast.png", "forecast.pdf", "forecast.gif"}
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_forecasts_with_the_density(run_entry_point, tmp_path, monkeypatch):
    """Trained, measured and written; scores and measures are of the velocity."""
    use_fake_simulation(monkeypatch)
    small = ("model=rgcnn_smoke", "model.net.num_parameters=3000", "data.batch_size=8")
    options = (*tiny_overrides("strengths"), *small, "data.density=true", "data.augment=c4")
    options += ("callbacks=minimal", "logger=csv", "trainer=cpu", "trainer.max_epochs=1", QUIET)
    data_dir = f"paths.data_dir={tmp_path / 'data'}"
    checkpoint = run_entry_point("train", *options, data_dir) / "checkpoints/best.ckpt"
    given = f"ckpt_path={checkpoint}", data_dir, "trainer=cpu", QUIET
    made = run_entry_point("predict", *given, f"out={tmp_path / 'predictions.npz'}")
    found = dict(np.load(tmp_path / "predictions.npz"))
    assert found["unseen/forecast"].shape[1:] == found["unseen/truth"].shape[1:] == (3, 3, 8, 8)
    error = (found["unseen/forecast"] - found["unseen/truth"])[:, :, :2]
    rmse = made.summary["metrics"]["test/rmse"]
    assert rmse == pytest.approx((error**2).mean() ** 0.5, rel=1e-5)
    assert (made / "images/forecast.gif").exists()
    exported = run_entry_point("export", *given[:2], f"out={tmp_path / 'net.pt2'}").summary
    assert exported["input_shape"] == [6, 8, 8] and exported["density_scale"] > 0
    for name in ("equivariance_error", "lie_derivative"):
        run_entry_point("measure", *given, f"measure={name}")
    measured = MeasureStore(checkpoint.parent).read()["best.ckpt"]["measures"]
    assert 0 < measured["equivariance_error"]["values"]["equivariance_error"] < 0.1
    assert measured["lie_derivative"]["values"]["lie_derivative"] > 0


@pytest.mark.slow
def test_another_split(run_entry_point):
    checkpoint = run_entry_point("train", *QUICK, QUIET) / "checkpoints/best.ckpt"
    given = f"ckpt_path={checkpoint}", "split=val", QUIET
    made = run_entry_point("predict", *given, "trainer=cpu")
    assert set(np.load(made / "predictions.npz")) == {"metadata", "val/logits", "val/labels"}
