"""Every file of `configs/relaxation` trains and is resumed, or is refused where it cannot apply."""

import re
import sys
from itertools import cycle
from types import ModuleType

import pytest

from tests.conftest import ROOT, assert_same_result
from tests.test_configs import CPU, FEW_SAMPLES, SHORT, options

RUNS = list(zip(options("relaxation"), cycle(("rgcnn", "rgcnn_smoke"))))
RUNS += [("output", "cnn"), ("projection", "unet_smoke"), ("triangle", "rtrans_smoke")]
RUNS += [("dual_ascent", "rsteer_smoke"), ("learned", "rtrans_smoke"), ("l2", "rsteer_smoke")]
STRICT_AT_THE_END = ("strict", "annealed", "triangle")


def chosen(relaxation, model):
    data = "shared_windows" if "smoke" in model else "shared_images"
    return f"data={data}", f"model={model}", f"relaxation={relaxation}"


@pytest.mark.slow
@pytest.mark.parametrize(("relaxation", "model"), RUNS)
def test_every_choice_trains_and_resumed_half_way_reaches_the_same(
    run_entry_point, monkeypatch, relaxation, model
):
    size = "model.net.hidden_channels=2", "model.net.num_parameters=null"
    tiny = [*chosen(relaxation, model), *size, "callbacks=ended", "callbacks.ended.how=raise"]
    tiny += ["logger=csv", *CPU, *SHORT, "trainer.max_epochs=4", "callbacks.ended.hook=epoch_end"]
    if relaxation == "annealed":  # the best epoch is to be one that ends strict
        tiny.append("callbacks.checkpoint.first_epoch=3")
    with pytest.raises(SystemExit):
        run_entry_point("train", *tiny)
    monkeypatch.setenv("SPARED", "1")
    whole = run_entry_point("train", *tiny)
    (ended,) = {path.parent for path in whole.path.parent.glob("*/config.yaml")} - {whole.path}
    assert_same_result(run_entry_point("train", f"resume={ended}", "trust=true"), whole)
    tested_strict = any(name.startswith("test/strict/") for name in whole.summary["test"])
    assert tested_strict == model.startswith(("rg", "rs", "rt"))
    if relaxation in STRICT_AT_THE_END:
        both = {n: v for n, v in whole.summary["test"].items() if "/strict/" in n}
        assert both == {n: whole.summary["test"][n.replace("/strict", "")] for n in both}
    checkpoint = f"ckpt_path={whole / 'checkpoints/best.ckpt'}"
    evaluated = run_entry_point("eval", checkpoint, "trust=true", *CPU, SHORT[-1], SHORT[-2])
    assert evaluated.summary["metrics"] == pytest.approx(whole.summary["test"])


REFUSED = [
    ("strict", "cnn", "needs a relaxed layer (`RelaxedGroupConv`, `RelaxedTranslationConv`, ...)"),
    ("kernel_biases", "rsteer_smoke", "got model.net.kernel_biases=True with RelaxedSteerable"),
    ("free_kernel", "rtrans_smoke", "got model.net.free_kernel=zero with RelaxedTranslationFor"),
    ("group_biases", "cnn", "got model.net.group_biases=True with CNN. Use model=rgcnn, rgcnn_sm"),
    ("dual_ascent", "gcnn", "got GCNN without any. Use a relaxed network, such as model=rgcnn"),
    ("l1", "cnn", "for a network without relaxed layers; got 'l1, with CNN'. Use model.penalty=o"),
    ("l2", "unet_smoke", "for a network without relaxed layers; got 'l2, with UNetFor"),
    ("projection", "rtrans_smoke", "must be l1, l2 or output for a network without convolutions"),
]
ROWS = [pytest.param(*row, marks=[pytest.mark.slow] if n else []) for n, row in enumerate(REFUSED)]


@pytest.mark.parametrize(("relaxation", "model", "message"), ROWS)
def test_a_choice_that_does_not_apply_is_refused_before_any_work(
    refused, tmp_path, relaxation, model, message
):
    shown, _ = refused("train", *chosen(relaxation, model), "callbacks=minimal", "logger=csv")
    assert message in shown
    assert not list(tmp_path.rglob("*.ckpt")) and not list(tmp_path.rglob("metrics.csv"))


@pytest.mark.slow
def test_the_layer_that_the_docs_add_takes_part(run_entry_point, monkeypatch):
    """In all that is said of it: a learned theta, penalties, measures, two test scores."""
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/relaxation.md").read_text(), re.S)
    assert block.count("\n") <= 40
    module = ModuleType("src.models.components.scaled")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(block, module.__dict__)
    scaled = f"model.net._target_={module.__name__}.ScaledGCNN"
    small = (scaled, "model.net.hidden_channels=2", "model.net.num_parameters=null", "logger=csv")
    small += (*FEW_SAMPLES, *CPU, *SHORT, "callbacks=dynamics")
    pulled = "model.penalty=projection", "model.alpha=0.1"
    run = run_entry_point("train", *chosen("elastic", "gcnn"), *small, *pulled)
    assert max(v for n, v in run.summary["start"].items() if "equivariance" in n) < 1e-5
    assert "test/strict/acc" in run.summary["test"]
    assert "dynamics/multiplier/blocks.1.0" in run.metrics
