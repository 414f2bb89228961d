import csv
import json
import shutil

import pytest

from src.measures import probes
from src.runs import measuring
from src.runs.measure_store import MeasureStore
from tests.conftest import RunDirectory

SMALL = ("model.net.num_parameters=null", "model.net.num_layers=2", "model.net.pool_after=[1]")
SHORT = ("trainer=cpu", "trainer.max_epochs=2", "trainer.limit_train_batches=2")
SHORT += ("trainer.limit_val_batches=1", "trainer.limit_test_batches=1", "logger=csv")
QUIET = "trainer.enable_progress_bar=false"


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def first_training(tmp_path_factory):
    return tmp_path_factory.mktemp("trained") / "run"


@pytest.fixture
def trained(run_entry_point, data_dir, first_training, tmp_path):
    """A short training of a small relaxed network on real digits, made once, copied for each."""
    if not first_training.is_dir():
        run = run_entry_point(
            "train",
            *("model=rgcnn", "model.net.hidden_channels=[2,2]", *SMALL, *SHORT, QUIET),
            f"paths.data_dir={data_dir}",
            "callbacks.weight_path.every_n_epochs=1",
        )
        shutil.copytree(run.path, first_training)
    return RunDirectory(shutil.copytree(first_training, tmp_path / "trained"))


@pytest.fixture
def measure(run_entry_point, data_dir):
    def run(path, name, *arguments):
        fixed = (
            f"ckpt_path={path}",
            f"measure={name}",
            f"paths.data_dir={data_dir}",
            "trainer=cpu",
        )
        return run_entry_point("measure", *fixed, QUIET, *arguments)

    return run


FAST = ("measure.sharpness.probe.num_directions=1", "measure.sharpness.num_samples=16")
FAST += ("measure.sharpness.probe.radii=[0.1]", "measure.sharpness.probe.relative_radii=[]")


def checkpoints(run):
    return sorted(path for path in (run / "checkpoints").rglob("*.ckpt"))


@pytest.mark.slow
def test_the_callbacks_and_the_entry_point_agree(trained, measure):
    """On the same samples with the same options, at the start and at the end."""
    options = {
        "equivariance_error": ("num_samples=128",),
        "lie_derivative": ("num_samples=64", "probe.transformations=[rotation]"),
        "sharpness": (
            *("num_samples=64", "probe.radii=[0.1]", "probe.relative_radii=[0.01]"),
            *("probe.filter_radii=[]", "probe.num_directions=3"),
        ),
    }
    last = trained / "checkpoints" / "last.ckpt"
    for name, changes in options.items():
        measure(last, name, *(f"measure.{name}.{change}" for change in changes))
    kept = MeasureStore(last.parent).read()["last.ckpt"]
    assert (kept["epochs_trained"], kept["step"]) == (2, 4)
    logged = trained.summary["last"]["metrics"]
    values = {n: v for entry in kept["measures"].values() for n, v in entry["values"].items()}
    for name in (
        *("equivariance_error", "equivariance_error/blocks.1", "lie_derivative"),
        *("lie_derivative_relative", "sharpness", "sharpness_relative", "sharpness_worst_case"),
    ):
        assert values[name] == pytest.approx(logged[f"dynamics/{name}"], rel=1e-4, abs=1e-9), name


@pytest.mark.slow
def test_all_checkpoints_of_a_run_and_only_what_is_missing(trained, measure):
    run = measure(trained.path, "sharpness", *FAST)
    assert run.summary["measured"] == len(checkpoints(trained)) == 5  # path 0, 1, 2; best; last
    kept = MeasureStore(trained / "checkpoints").read()
    assert set(kept) == {"best.ckpt", "last.ckpt"}
    path = MeasureStore(trained / "checkpoints" / "path").read()
    assert [entry["epochs_trained"] for entry in path.values()] == [0, 1, 2]
    with (trained / "checkpoints" / "measures.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["name"] for row in rows} >= {"sharpness", "sharpness_filter"}
    assert (trained / "checkpoints" / "measures" / "last_sharpness.png").is_file()
    assert measure(trained.path, "sharpness", *FAST).summary["measured"] == 0
    assert measure(trained.path, "sharpness", *FAST, "again=true").summary["measured"] == 5
    other = measure(trained.path, "sharpness", *FAST, "measure.sharpness.probe.seed=1")
    assert other.summary["measured"] == 5


@pytest.mark.slow
def test_an_interruption_loses_nothing(trained, measure, monkeypatch):
    taken = []
    take = measuring._take

    def interrupted(job, *arguments):
        if len(taken) == 2:
            raise KeyboardInterrupt
        taken.append(job.stored.key)
        return take(job, *arguments)

    monkeypatch.setattr(measuring, "_take", interrupted)
    with pytest.raises(KeyboardInterrupt):
        measure(trained.path, "sharpness", *FAST)
    monkeypatch.setattr(measuring, "_take", take)
    assert measure(trained.path, "sharpness", *FAST).summary["measured"] == 3


@pytest.mark.slow
def test_everything_of_the_last_checkpoint(trained, measure):
    brief = (
        *("measure.hessian.num_samples=16", "measure.hessian.probe.num_eigenvalues=1"),
        *("measure.hessian.probe.num_probes=2", "measure.hessian.probe.lanczos_steps=3"),
        *("measure.hessian.probe.max_iterations=20", "measure.landscape.probe.resolution=3"),
        *("measure.landscape.probe.line_points=3", "measure.landscape.num_samples=16"),
        *("measure.equivariance_error.num_samples=8", "measure.lie_derivative.num_samples=8"),
    )
    run = measure(trained / "checkpoints" / "last.ckpt", "all", *FAST, *brief)
    assert run.summary["measured"] == 6
    kept = MeasureStore(trained / "checkpoints").read()["last.ckpt"]["measures"]
    assert set(kept) == {
        *("equivariance_error", "lie_derivative", "sharpness"),
        *("hessian", "landscape", "symmetry"),
    }
    pictures = {path.stem for path in (trained / "checkpoints" / "measures").iterdir()}
    assert pictures == {f"last_{name}" for name in kept}
    scores = kept["symmetry"]["values"]
    change = scores["projection/test/loss"] - scores["projection_change/test/loss"]
    assert change == pytest.approx(kept["symmetry"]["details"]["scores"]["test/loss"]["before"])
    assert kept["landscape"]["details"]["steps"] == [0, 2, 4]
    assert kept["hessian"]["num_samples"] == 16


def test_one_folder_for_all(trained, measure, tmp_path):
    out = tmp_path / "collected"
    measure(trained.path, "symmetry", f"out={out}", "measure.symmetry.only=last.ckpt")
    assert list(json.loads((out / "measures.json").read_text())) == ["checkpoints/last.ckpt"]
    assert (out / "measures" / "checkpoints_last_symmetry.png").is_file()
    assert not (trained / "checkpoints" / "measures.json").exists()


def test_checkpoints_are_left_as_they_are(trained, measure):
    before = {path: path.read_bytes() for path in checkpoints(trained)}
    measure(trained.path, "symmetry", "measure.symmetry.only=last.ckpt")
    assert before == {path: path.read_bytes() for path in checkpoints(trained)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "`ckpt_path` must be a checkpoint, a run directory or the directory of a sweep; got"),
        (["ckpt_path=nowhere"], "or a directory with checkpoints below it; got nowhere without"),
        (["ckpt_path={empty}"], "or a directory with checkpoints below it; got {empty} without"),
        (
            ["ckpt_path={empty}", "measure.sharpness.num_samples=0"],
            "`measure.sharpness.num_samples` must be a whole number of at least 1; got 0",
        ),
        (
            ["ckpt_path={empty}", "measure.sharpness.split=all"],
            "`measure.sharpness.split` must be one of train, val, test; got 'all'",
        ),
    ],
)
def test_errors_are_one_message(run_entry_point, tmp_path, capsys, arguments, message):
    empty = tmp_path / "empty"
    empty.mkdir()
    typed = [argument.format(empty=empty) for argument in arguments]
    with pytest.raises(SystemExit) as exit_:
        run_entry_point("measure", "measure=sharpness", *typed)
    assert exit_.value.code == 1
    told = capsys.readouterr().err
    assert message.format(empty=empty) in told
    assert "Traceback" not in told


def test_options_that_a_measure_refuses(trained, measure, capsys):
    with pytest.raises(SystemExit):
        measure(trained.path, "sharpness", *FAST, "measure.sharpness.probe.radii=[-1.0]")
    assert "a radius, the distance that weights are moved by" in capsys.readouterr().err


def test_every_probe_has_a_config():
    from tests.test_configs import options

    assert set(options("measure")) - {"all"} == {
        name
        for name, value in vars(probes).items()
        if getattr(value, "__module__", "") == probes.__name__ and not name.startswith("_")
    }
