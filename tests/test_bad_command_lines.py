"""A bad command line of any entry point ends with one message, and leaves a run or nothing."""

import pytest

from src.errors import UserError
from src.runs import exporting
from tests.conftest import QUICK, QUIET

NO_CHECKPOINT = "`ckpt_path` must be the path of an existing checkpoint; got None"
RATES = "hparams_search=learning_rate"
KEY = "search.space={lr: {type: categorical, choices: [1]}}"
SHARPNESS = "ckpt_path={run} trainer=cpu measure.sharpness."
IMAGES, WINDOWS = "data=shared_images model=cnn", "data=shared_windows model=rtrans_smoke"
COSINE = "torch.optim.lr_scheduler.CosineAnnealingLR"
AVERAGE = "+callbacks.a._target_=lightning.pytorch.callbacks."
BAD = [
    ("train", "trainer.max_epochs=0", "`trainer.max_epochs` must be a whole number of at least 1"),
    (
        "train",
        "model.optimizer=SGD",
        "`model.optimizer` must be a config, as the files of its group",
    ),
    ("train", f"model.scheduler._target_={COSINE} +model.scheduler.T_max=30", "'max_lr'. Choose"),
    ("train", "model.optimizer._target_=torch.optim.Adagrad", "momentum or beta1 with `cycle_mom"),
    ("train", f"{AVERAGE}StochasticWeightAveraging +callbacks.a.swa_lrs=0.1", "[default,ema]"),
    ("train", f"{AVERAGE}EMAWeightAveraging", "got EMAWeightAveraging. Use callbacks=[default,e"),
    ("train", "model.net.width=0", "model.net: `width` must be positive; got 0. Use 8."),
    ("train", "callbacks.checkpoint.monitor=val/f1", "must name a logged metric; got 'val/f1'"),
    ("train", f"{IMAGES} model.net.num_classes=12", "[2, 1, 8, 8] to [2, 3]; CNN gave [2, 12]. L"),
    ("train", f"{IMAGES} model.net.in_channels=2", "CNN failed (input of CNN must have the shape"),
    ("train", "model=cnn", "must have the attribute `image_shape` before `setup`"),
    ("train", "data=rotmnist data.source=own model=cnn", "data: `source` must be one of bundled"),
    ("train", f"{WINDOWS} model.net.grid_size=[9,9]", "to [2, 2, 8, 8]; RelaxedTranslationForec"),
    ("eval", "ckpt_path=null", NO_CHECKPOINT),
    ("eval", "ckpt_path={best} split=all", "`split` must be one of train, val, test; got 'all'"),
    ("eval", "ckpt_path={best} model=wider", "must be of the same architecture"),
    ("measure", "ckpt_path=null", NO_CHECKPOINT),
    ("measure", "ckpt_path={empty}", "directory with checkpoints below it; got {empty} without"),
    ("measure", f"{SHARPNESS}num_samples=0", "`measure.sharpness.num_samples` must be an integer"),
    ("measure", f"{SHARPNESS}split=all", "`measure.sharpness.split` must be one of train, val, t"),
    ("measure", f"{SHARPNESS}checkpoint=no", "measure.sharpness.checkpoint=no. Name one that exi"),
    ("measure", f"{SHARPNESS}probe.radii=[-1.0]", "got -1.0"),
    ("export", "ckpt_path=null", NO_CHECKPOINT),
    ("export", "ckpt_path={best} format=tf", "`format` must be one of pt2, onnx; got 'tf'"),
    ("export", "ckpt_path={best} out=a.onnx", "`out` must be a file name that ends in .pt2 and"),
    ("export", "ckpt_path={pt} format=pt2", "is not the checkpoint's; got "),
    ("export", "ckpt_path={best} format=onnx", "needs the packages onnxscript, which are not inst"),
    ("generate", "data=smoke_level data.level=10", "got 10"),
    ("generate", "data=smoke_level data.level=null", "got None"),
    ("generate", "data=rotmnist", "`data` must be a set of smoke plumes, which can be generated"),
    ("search", "search.direction=up", "`search.direction` must be max or min; got 'up'"),
    ("search", KEY, "search.space, lr: the key must be that of a value"),
    ("search", f"{RATES} search.sampler._target_=optuna.Random", "optuna.Random"),
    ("search", RATES, "src/search.py needs the package optuna, which is not installed. Run `pip"),
]
FIRST = list({name: (name, *row) for name, *row in reversed(BAD)}.values())  # of each script
ROWS = [pytest.param(*row, marks=[] if row in FIRST else [pytest.mark.slow]) for row in BAD]


@pytest.mark.parametrize(("name", "typed", "message"), ROWS)
def test_errors_are_one_message(refused, first_run, tmp_path, monkeypatch, name, typed, message):
    monkeypatch.setattr(exporting, "find_spec", lambda name: None if name == "onnxscript" else name)
    if "needs the package optuna" in message:
        monkeypatch.setattr("src.search.find_spec", lambda name: None)
    best = first_run / "checkpoints" / "best.ckpt"
    places = {
        "best": best,
        "run": first_run.path,
        "pt": tmp_path / "a.pt2",
        "empty": tmp_path / "e",
    }
    places["empty"].mkdir()
    places["pt"].touch()
    before = set(first_run.path.rglob("*"))
    fixed = {"train": (*QUICK, QUIET), "search": (*QUICK, QUIET), "measure": ("measure=sharpness",)}
    arguments = typed.split() if name != "search" or "{" not in typed else [typed]
    typed = [argument.format(**places) if name != "search" else argument for argument in arguments]
    shown, log = refused(name, *fixed.get(name, ()), *typed)
    assert message.format(**places) in shown
    made = {path.parent for path in tmp_path.rglob("*.log")}
    if name != "search":  # a study has begun
        assert "Traceback" in log if made else not list(tmp_path.glob("*/*"))
        assert all((folder / "config.yaml").is_file() for folder in made)
    assert set(first_run.path.rglob("*")) == before
    assert not list(places["empty"].iterdir()) and places["pt"].read_bytes() == b""


def test_the_full_error_is_shown_on_request(train, monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(UserError, match="must be positive") as raised:
        train("model.net.width=0")
    assert "InstantiationException" in repr(raised.value.__cause__)
