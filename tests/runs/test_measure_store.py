import csv
import json

import pytest

from src.runs.measure_store import MeasureStore, fingerprint

POSITION = {"epochs_trained": 5.0, "step": 55}


def entry(value=1.0, mark="a", **details):
    values = {"sharpness": value}
    return {"fingerprint": mark, "settings": {}, "values": values, "details": details}


def test_entries_are_kept_by_checkpoint_and_measure(tmp_path):
    store = MeasureStore(tmp_path / "folder")
    assert store.read() == {}
    store.add("best.ckpt", POSITION, "sharpness", entry(1.5, curve=[1, 2]))
    store.add("best.ckpt", POSITION, "hessian", entry(2.5))
    store.add("last.ckpt", {"epochs_trained": 6.0, "step": 66}, "sharpness", entry(3.5))
    kept = MeasureStore(tmp_path / "folder").read()
    assert kept["best.ckpt"]["step"] == 55
    assert kept["best.ckpt"]["measures"]["sharpness"]["details"] == {"curve": [1, 2]}
    with (tmp_path / "folder" / "measures.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["checkpoint", "epochs_trained", "step", "measure", "name", "value"],
        ["best.ckpt", "5.0", "55", "sharpness", "sharpness", "1.5"],
        ["best.ckpt", "5.0", "55", "hessian", "sharpness", "2.5"],
        ["last.ckpt", "6.0", "66", "sharpness", "sharpness", "3.5"],
    ]


def test_a_new_entry_replaces_the_old_one(tmp_path):
    store = MeasureStore(tmp_path)
    store.add("best.ckpt", POSITION, "sharpness", entry(1.0, "old"))
    store.add("best.ckpt", POSITION, "sharpness", entry(2.0, "new"))
    assert store.find("best.ckpt", "sharpness", "old") is None
    assert store.find("best.ckpt", "sharpness", "new")["values"] == {"sharpness": 2.0}
    assert store.find("best.ckpt", "hessian", "new") is None


def test_json_has_no_nan(tmp_path):
    store = MeasureStore(tmp_path)
    found = entry(float("nan"), curve=[float("inf"), (1.0, float("nan"))])
    store.add("best.ckpt", POSITION, "sharpness", found)
    text = store.path.read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    kept = json.loads(text)["best.ckpt"]["measures"]["sharpness"]
    assert kept["values"] == {"sharpness": None}
    assert kept["details"] == {"curve": [None, [1.0, None]]}


def test_fingerprints_tell_settings_and_checkpoints_apart(tmp_path):
    path, other = tmp_path / "a.ckpt", tmp_path / "b.ckpt"
    path.write_bytes(b"weights")
    other.write_bytes(b"other weights")
    marks = {
        fingerprint({"num_samples": 1}, path),
        fingerprint({"num_samples": 2}, path),
        fingerprint({"num_samples": 1}, other),
    }
    assert len(marks) == 3
    assert fingerprint({"num_samples": 1}, path) in marks


def test_a_failed_write_loses_nothing(tmp_path, monkeypatch):
    store = MeasureStore(tmp_path)
    store.add("best.ckpt", POSITION, "sharpness", entry(1.0))
    unwritable = entry(2.0, bad={1, 2})  # a set is no JSON
    with pytest.raises(TypeError):
        store.add("best.ckpt", POSITION, "hessian", unwritable)
    assert list(store.read()["best.ckpt"]["measures"]) == ["sharpness"]
