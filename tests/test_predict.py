import json

import numpy as np
import pytest
import torch

from src.runs.loading import load
from tests.conftest import QUICK, QUIET

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
def test_another_split(run_entry_point):
    checkpoint = run_entry_point("train", *QUICK, QUIET) / "checkpoints/best.ckpt"
    given = f"ckpt_path={checkpoint}", "split=val", QUIET
    made = run_entry_point("predict", *given, "trainer=cpu")
    assert set(np.load(made / "predictions.npz")) == {"metadata", "val/logits", "val/labels"}
