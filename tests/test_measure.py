import csv
import errno
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch

from src.measures import probes
from src.runs import measuring
from src.runs.checkpoints import MeasureStore, load_checkpoint
from tests.conftest import QUIET, RunDirectory, runner

SMALL = ("model.net.num_parameters=null", "model.net.num_layers=2", "model.net.pool_after=[1]")
SHORT = ("trainer=cpu", "trainer.max_epochs=2", "trainer.limit_train_batches=2")
SHORT += ("trainer.limit_val_batches=1", "trainer.limit_test_batches=1", "logger=csv")
FAST = ("measure.sharpness.probe.num_directions=1", "measure.sharpness.num_samples=16")
FAST += ("measure.sharpness.probe.radii=[0.1]", "measure.sharpness.probe.relative_radii=[]")
FAST += ("measure.sharpness.probe.max_products=30",)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def first_training(tmp_path_factory):
    """A short training of a small relaxed network on real digits, not to be changed."""
    return runner(tmp_path_factory.mktemp("trained"))(
        *("train", "model=rgcnn", "model.net.hidden_channels=[2,2]", *SMALL, *SHORT, QUIET),
        f"paths.data_dir={tmp_path_factory.mktemp('data')}",
        "callbacks.weight_path.every_n_epochs=1",
    )


@pytest.fixture
def trained(first_training, tmp_path):
    return RunDirectory(shutil.copytree(first_training.path, tmp_path / "trained"))


@pytest.fixture
def measure(run_entry_point, first_training):
    data = f"paths.data_dir={first_training.config['paths']['data_dir']}"
    measured = partial(run_entry_point, "measure", data, QUIET, "trainer=cpu")
    return lambda path, name, *more: measured(f"ckpt_path={path}", f"measure={name}", *more)


def test_the_callbacks_and_the_entry_point_agree(trained, measure):
    """On the same samples with the same options, at the end of the training."""
    radii = "probe.radii=[0.1] probe.relative_radii=[] probe.filter_radii=[]"
    last = trained / "checkpoints" / "last.ckpt"
    for name, changes in (
        ("equivariance_error", "num_samples=128"),
        ("lie_derivative", "num_samples=64 probe.transformations=[rotation]"),
        ("sharpness", f"num_samples=64 {radii}"),
    ):
        measure(last, name, *(f"measure.{name}.{change}" for change in changes.split()))
    kept = MeasureStore(last.parent).read()["last.ckpt"]
    assert (kept["epochs_trained"], kept["step"]) == (2, 4)
    for entry in kept["measures"].values():
        assert entry["statistics"] == "re-estimated on 640 training samples"
    logged = trained.summary["last"]["metrics"]
    values = {n: v for entry in kept["measures"].values() for n, v in entry["values"].items()}
    names = ["equivariance_error", "equivariance_error/blocks.1", "lie_derivative", "sharpness"]
    names += ["lie_derivative_relative", "sharpness_curvature", "sharpness_worst_case"]
    for name in names:
        assert values[name] == pytest.approx(logged[f"dynamics/{name}"], rel=1e-4, abs=1e-9), name


def test_all_checkpoints_of_a_run_and_only_what_is_missing(trained, measure, tmp_path, monkeypatch):
    checkpoints = {path: path.read_bytes() for path in trained.path.rglob("*.ckpt")}
    assert len(checkpoints) == 5  # path 0, 1, 2; best; last
    taken, take = [], measuring._take

    def interrupted(job, *arguments):
        if len(taken) == 2:
            raise KeyboardInterrupt
        taken.append(job.stored.key)
        return take(job, *arguments)

    with monkeypatch.context() as context, pytest.raises(SystemExit):
        context.setattr(measuring, "_take", interrupted)
        measure(trained.path, "sharpness", *FAST)
    last, new = "measure.sharpness.checkpoint=last.ckpt", "overwrite=true"
    seed = "measure.sharpness.probe.seed=1"
    cases = [((), 1), ((last,), 0), ((seed, last), 1), ((new, last), 1)]
    for changes, number in (*cases, (("statistics_samples=0", last), 1)):
        assert measure(trained.path, "sharpness", *FAST, *changes).summary["measured"] == number
    folder = trained / "checkpoints"
    assert set(MeasureStore(folder).read()) == {"best.ckpt", "last.ckpt"}
    path = MeasureStore(folder / "path").read()
    assert [entry["epochs_trained"] for entry in path.values()] == [0, 1, 2]
    for kind in ("png", "pdf"):
        assert len(list((folder / "path" / "measures").glob(f"*_sharpness.{kind}"))) == 3
    rows = csv.DictReader((folder / "measures.csv").read_text().splitlines())
    assert {row["name"] for row in rows} >= {"sharpness", "sharpness_filter"}
    assert (folder / "measures" / "last_sharpness.png").is_file()
    assert {path: path.read_bytes() for path in checkpoints} == checkpoints
    collected = tmp_path / "collected"
    last = "measure.symmetry.checkpoint=last.ckpt"
    measure(trained.path, "symmetry", f"output_dir={collected}", last)
    assert list(MeasureStore(collected).read()) == ["checkpoints/last.ckpt"]
    assert (collected / "measures" / "checkpoints_last_symmetry.png").is_file()


def test_equal_weights_are_measured_once_and_kept_for_each_checkpoint(trained, measure):
    """Best, last and path; of each the figures, the details and the picture."""
    assert measure(trained.path, "sharpness", *FAST).summary["measured"] == 3
    folder = trained / "checkpoints"
    along = MeasureStore(folder / "path").read()
    for name, entry in MeasureStore(folder).read().items():
        same = [key for key, kept in along.items() if kept["step"] == entry["step"]]
        assert entry == along[same[0]] and entry["measures"]["sharpness"]["values"]
        pictures = [folder / "measures" / name, folder / "path" / "measures" / same[0]]
        whole, copied = (p.with_name(f"{p.stem}_sharpness.png").read_bytes() for p in pictures)
        assert whole == copied
    steps = [kept["measures"]["sharpness"]["values"]["sharpness"] for kept in along.values()]
    assert len(set(steps)) == 3
    torch.save(load_checkpoint(folder / "last.ckpt"), folder / "copy.ckpt")
    last = MeasureStore(folder).read()["last.ckpt"]
    assert measure(trained.path, "sharpness", *FAST).summary["measured"] == 0
    assert MeasureStore(folder).read()["copy.ckpt"] == last


def test_everything_of_the_last_checkpoint(trained, measure):
    brief = """hessian.num_samples=16 hessian.probe.num_eigenvalues=1 hessian.probe.num_probes=2
        hessian.probe.lanczos_steps=3 hessian.probe.max_iterations=20 landscape.num_samples=16
        landscape.probe.resolution=3 landscape.probe.line_points=3 lie_derivative.num_samples=8
        equivariance_error.num_samples=8 projection.num_samples=8"""
    changes = (f"measure.{change}" for change in brief.split())
    run = measure(trained / "checkpoints" / "last.ckpt", "all", *FAST, *changes)
    assert run.summary["measured"] == 7
    kept = MeasureStore(trained / "checkpoints").read()["last.ckpt"]["measures"]
    assert set(kept) == set(probes.__all__)
    pictures = {path.stem for path in (trained / "checkpoints" / "measures").iterdir()}
    assert pictures == {f"last_{name}" for name in kept}
    scores = kept["projection"]["values"]
    change = scores["projection/test/loss"] - scores["projection_change/test/loss"]
    assert change == pytest.approx(kept["projection"]["details"]["scores"]["test/loss"]["before"])
    assert kept["landscape"]["details"]["steps"] == [0, 2, 4]
    assert kept["hessian"]["num_samples"] == 16


def test_a_run_that_one_may_only_read_is_measured_elsewhere(
    trained, measure, refused, monkeypatch, tmp_path
):
    """And what finds nothing to measure says why, also when it is asked again."""

    def check(folder):
        if Path(folder).is_relative_to(trained.path):
            raise OSError(errno.EROFS, "Read-only file system", str(folder))

    monkeypatch.setattr(measuring, "check_writable", check)
    asked = (f"ckpt_path={trained.path}", "measure=symmetry", "trainer=cpu", QUIET)
    shown, _ = refused("measure", *asked)
    assert f"`ckpt_path`={trained.path}. Use output_dir=<a place>" in shown
    monkeypatch.setattr("src.measures.symmetry.relaxed_layers", lambda network: {})
    for _ in range(2):
        run = measure(trained.path, "symmetry", f"output_dir={tmp_path / 'out'}")
        assert "symmetry of checkpoints/best.ckpt: RelaxedGCNN has no relaxed layer.\n" in run.log
    assert (tmp_path / "out" / "measures.json").is_file()


def test_a_run_in_another_precision_is_measured_in_ours_and_told_so(train, run_entry_point):
    run = train("trainer.precision=bf16-true", "trainer.max_epochs=1")
    path = f"ckpt_path={run / 'checkpoints' / 'best.ckpt'}"
    measured = run_entry_point("measure", path, "measure=sharpness", *FAST, QUIET, "trainer=cpu")
    assert "Measured in precision 32-true; the run's is bf16-true." in measured.log
