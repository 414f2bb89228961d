"""No code runs from a file that someone else made: each gadget here would leave a canary file."""

import pickle
import re
import zlib
from contextlib import suppress
from pathlib import Path

import blosc2
import numpy as np
import pytest
import torch
import yaml
from blosc2.lazyexpr import LazyArrayEnum
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from src.data.rotmnist import storage
from src.data.rotmnist.sources import SOURCES
from src.data.smoke.generation import read_part
from src.data.smoke.storage import StoredSet
from src.errors import UserError
from src.reports.reading import read_all
from src.runs import resume, trust
from src.runs.loading import load
from src.runs.resume import continued_config, resumed_config, rewind
from src.runs.trust import checked
from tests.conftest import QUIET, ROOT, RunDirectory
from tests.helpers.report_fakes import write_run

REFUSED = r"may hold plain values, and name networks, .* got {}.* add trust=true"
LOAD = "src.models.classification_module.ClassificationModule.load_from_checkpoint"


class Evil:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return Path.touch, (self.canary,)


@pytest.fixture
def canary(tmp_path):
    return tmp_path / "canary"


@pytest.fixture
def gadgets(tmp_path, canary):
    """Configs that run code when they are built, by name."""
    pickled, saved, array = (tmp_path / name for name in ("a.pkl", "a.ckpt", "a.npy"))
    pickled.write_bytes(pickle.dumps(Evil(canary)))
    torch.save([Evil(canary)], saved)
    np.save(array, np.array([Evil(canary)], dtype=object), allow_pickle=True)
    (tmp_path / "hubconf.py").write_text(f"def net():\n    open({str(canary)!r}, 'w').close()\n")
    read = {"_target_": "pandas.read_pickle", "filepath_or_buffer": str(pickled)}
    unsafe = {"weights_only": False}
    hub = {"repo_or_dir": str(tmp_path), "model": "net", "source": "local"}
    path = {"_target_": "pathlib.Path", "_args_": [str(canary)]}
    alias, build = "torch.nn.modules.linear.torch", "src.runs.building.build"
    rate, instantiated = "torch.optim.lr_scheduler.LambdaLR", "hydra.utils.instantiate"
    later = {"_recursive_": False}
    targets = {
        "reader of pickles": read,
        "another": {"_target_": "joblib.load", "filename": str(pickled)},
        "loader": {"_target_": "torch.load", "f": str(saved), **unsafe},
        "loader by another name": {"_target_": f"{alias}.load", "f": str(saved), **unsafe},
        "loader of arrays": {"_target_": "numpy.load", "file": str(array), "allow_pickle": True},
        "hub": {"_target_": "torch.hub.load", **hub},
        "hub below an allowed module": {"_target_": f"{alias}.hub.load", **hub},
        "method": {"_target_": LOAD, "checkpoint_path": str(saved), **unsafe},
        "call in a call": {"_target_": "hydra.utils.call", "config": read},
        "call of what is not built": {"_target_": instantiated, "config": read, **later},
        "builder": {"_target_": build, "config": {"a": read}, "key": "a", **later},
        "writer": {"_target_": "src.files.write_text", "path": str(canary), "text": ""},
        "method of what is built": {"_target_": "pathlib.Path.touch", "_args_": [path]},
        "argument": {"_target_": "torch.nn.Identity", "_args_": [{"deep": [read]}]},
        "argument of a partial": {"_target_": rate, "_partial_": True, "lr_lambda": read},
    }
    return {"list": [read], **targets}


def test_what_runs_code_is_refused_before_it_is_built(gadgets, canary):
    assert len(gadgets) >= 10
    for name, gadget in gadgets.items():
        with suppress(InstantiationException):  # some find out that it was nothing for them
            instantiate(gadget)
        assert canary.is_file(), f"{name} is no gadget"
        canary.unlink()
        with pytest.raises(UserError, match=REFUSED.format("model.*_target_=")):
            checked(gadget, trust=False, key="model")
        assert checked(gadget, trust=True) is gadget
        assert not canary.exists(), name


@pytest.mark.parametrize(
    "stored",
    [
        {"a": ["${oc.env:HOME}"]},
        {"a": {"b": "${now:%Y}"}},
        {"a": "\\${oc.decode:x}"},
        {"_target_": {"_target_": "torch.nn.Identity"}},
        {"_target_": None},
        {"_target_": "torch.nn.Nothing"},
        {"_target_": "torch.nn..Linear"},
        {"_target_": "torch.nn.functional.relu"},
        {"_target_": "lightning.pytorch.cli.LightningCLI"},
        {"_target_": "src.sweeps.report.SweepReport"},
        {"a": b"bytes"},
        {"a": {1, 2}},
    ],
)
def test_only_plain_values_and_what_is_meant_to_be_built_is_let_through(stored):
    with pytest.raises(UserError, match="trust=true"):
        checked(stored, trust=False)


def test_every_target_of_our_own_configs_that_a_run_stores_is_let_through():
    groups = ("model", "data", "callbacks", "logger", "trainer", "debug", "experiment")
    paths = [p for group in groups for p in (ROOT / "configs" / group).rglob("*.yaml")]
    paths += [
        ROOT / "configs" / f"{name}.yaml" for name in ("classification", "forecasting", "smoke")
    ]
    found = {t for p in paths for t in re.findall(r"_target_: (\S+)", p.read_text())}
    assert len(found) > 30
    for target in (*found, "lightning.pytorch.plugins.environments.SLURMEnvironment"):
        assert checked({"_target_": target}, trust=False)


def poisoned(run, folder, key, value):
    """A copy of a run's best checkpoint with one value of its stored config changed."""
    checkpoint = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    *parents, last = key.split(".")
    below = checkpoint["config"]
    for parent in parents:
        below = below[parent]
    below[last] = value
    path = folder / "poisoned.ckpt"
    torch.save(checkpoint, path)
    return path


def test_a_checkpoint_runs_no_code_from_python(gadgets, canary, first_run, tmp_path):
    evil = gadgets["reader of pickles"]
    for key, value, got in (
        ("data", evil, "data._target_=pandas.read_pickle"),
        ("model.net.width", [evil], r"model.net.width\[0\]._target_=pandas.read_pickle"),
        ("seed", "${oc.env:HOME}", r"seed=\${oc.env:HOME}"),
    ):
        path = poisoned(first_run, tmp_path, key, value)
        with pytest.raises(UserError, match=REFUSED.format(got)):
            load(path)
    assert not canary.exists()


@pytest.mark.slow
def test_a_checkpoint_runs_no_code(refused, run_entry_point, gadgets, canary, first_run, tmp_path):
    path = poisoned(first_run, tmp_path, "data", gadgets["reader of pickles"])
    for name in ("eval", "measure", "export"):
        message, _ = refused(name, f"ckpt_path={path}")
        assert "data._target_=pandas.read_pickle" in message and "add trust=true" in message
    assert not canary.exists()
    with pytest.raises(SystemExit):  # it is no data module
        run_entry_point("export", f"ckpt_path={path}", "trust=true")
    assert canary.exists(), "the user said so"


@pytest.mark.slow
def test_a_run_of_modules_of_ones_own_needs_a_word(
    refused, run_entry_point, first_run, monkeypatch
):
    ours = tuple(m for m in trust.MODULES if m.startswith(("src", "torch", "lightning")))
    monkeypatch.setattr(trust, "MODULES", ours)
    path = first_run / "checkpoints" / "best.ckpt"
    message, _ = refused("eval", f"ckpt_path={path}")
    assert re.search(r"got (model\.net|data)\._target_=run_fakes\..* add trust=true", message)
    assert "`trust` must be true or false" in refused("eval", f"ckpt_path={path}", "trust=1")[0]
    run = run_entry_point("eval", f"ckpt_path={path}", "trust=true", QUIET)
    assert run.summary["metrics"] == pytest.approx(first_run.summary["test"], rel=1e-5)


def test_a_run_directory_runs_no_code(gadgets, canary, earlier_run, monkeypatch):
    place = str(earlier_run.path)
    composed = OmegaConf.create({"resume": place, "paths": {"output_dir": place}})
    monkeypatch.setattr(resume, "command_line", list)
    assert resumed_config(composed).seed == 0
    evil, path = gadgets["reader of pickles"], earlier_run / "config.yaml"
    tagged = f"tags: !!python/object/apply:open [{canary}, w]\n"
    for key, value, message in (
        ("callbacks", {"a": evil}, "callbacks.a._target_=pandas.read_pickle"),
        ("trainer", {"plugins": [evil]}, r"trainer.plugins\[0\]._target_=pandas.read_pickle"),
        ("logger", {"a": {"_target_": "src.files.write_text"}}, "logger.a._target_=src.files"),
        ("tags", ["${oc.env:HOME}"], r"tags\[0\]=\${oc.env:HOME}"),
        ("seed", 0, "must be YAML of plain values"),
    ):
        config = yaml.safe_dump(earlier_run.config | {key: value}) + tagged * (key == "seed")
        (earlier_run / "config_resumed.yaml").write_text(config)
        with pytest.raises(UserError, match=message):
            resumed_config(composed)
    (earlier_run / "config_resumed.yaml").unlink()
    torch.save({"state_dict": {}, "config": Evil(canary)}, earlier_run / "checkpoints/last.ckpt")
    with pytest.raises(UserError, match=r"last.ckpt could not be read \(UnpicklingError\)"):
        rewind(earlier_run.path, resumed_config(composed))
    path.write_text("seed: ${oc.env:HOME}\n")
    with pytest.raises(UserError, match=REFUSED.format("seed=")):
        continued_config({}, earlier_run.path)
    assert not canary.exists()


def test_a_sweep_given_to_the_report_runs_no_code(gadgets, canary, tmp_path):
    run = write_run(tmp_path / "sweep" / "a", data=gadgets["reader of pickles"])
    tagged = RunDirectory(write_run(tmp_path / "sweep" / "b"))
    (tagged / "config.yaml").write_text(f"a: !!python/object/apply:open [{canary}, w]\n")
    found = read_all([tmp_path / "sweep"])
    assert [r.directory for r in found.runs] == [run]
    assert "ConstructorError" in found.damaged[tagged.path]
    assert not canary.exists()


def test_data_files_run_no_code(canary, tmp_path):
    path, source = tmp_path / "a.b2nd", f"open({str(canary)!r}, 'w')\ndef f(): pass\n"
    lazy = {"LazyArray": LazyArrayEnum.UDF.value}
    array = blosc2.zeros(1, urlpath=str(path), contiguous=True, meta=lazy)
    array.schunk.vlmeta["_LazyArray"] = {"UDF": source, "name": "f", "operands": {}}
    with pytest.raises(ValueError, match="UnsafeDeserializationError"):
        StoredSet.open(path)
    np.savez(tmp_path / "a.npz", frames=np.array([Evil(canary)], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        read_part(tmp_path / "a.npz", "frames")
    digits = storage.prepared_path(SOURCES["bundled"], tmp_path)
    digits.parent.mkdir()
    torch.save({"train": Evil(canary)}, digits)
    content = digits.read_bytes()
    digits.write_bytes(content + zlib.crc32(content).to_bytes(4))
    with pytest.raises(pickle.UnpicklingError, match="weights_only"):
        storage.load(SOURCES["bundled"], tmp_path)
    assert not canary.exists()
