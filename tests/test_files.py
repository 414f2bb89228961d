import json
import os

import pytest

from src.files import write_json, write_text, write_yaml


def test_files_are_written_below_new_folders(tmp_path):
    write_text(tmp_path / "new" / "a.txt", "text")
    write_json(tmp_path / "a.json", {"a": [1, (float("nan"), None)], "b": {"c": -float("inf")}})
    write_yaml(tmp_path / "a.yaml", {"a": [1, None]})
    assert (tmp_path / "new" / "a.txt").read_text() == "text"
    read = json.loads((tmp_path / "a.json").read_text())
    assert read == {"a": [1, [None, None]], "b": {"c": None}}
    assert (tmp_path / "a.yaml").read_text() == "a:\n- 1\n- null\n"


def test_what_cannot_be_written_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def broken(self, target):
        raise OSError("disk full")

    monkeypatch.setattr("pathlib.Path.replace", broken)
    with pytest.raises(OSError, match="disk full"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]
