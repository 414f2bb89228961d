import errno
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from unittest.mock import Mock

import pytest
import torch

from src.data.rotmnist.sources import SOURCES
from src.data.rotmnist.storage import load, prepare, prepared_path

BUNDLED = SOURCES["bundled"]


def test_several_at_once_prepare_once_and_load(tmp_path, bundled):
    read = Mock(side_effect=BUNDLED.read)
    source = replace(BUNDLED, read=read)
    with ThreadPoolExecutor(2) as pool:
        made = [pool.submit(prepare, source, tmp_path, ["a"]) for _ in range(2)]
        paths = {future.result() for future in made}
    assert paths == {prepare(source, tmp_path)} == {tmp_path / "bundled" / "digits-v1.pt"}
    read.assert_called_once_with(tmp_path, source.sizes, ["a"])
    assert paths.pop().read_bytes() == prepared_path(BUNDLED, bundled.data_dir).read_bytes()
    expected = BUNDLED.read(tmp_path, BUNDLED.sizes, None)
    for split, digits in load(source, tmp_path).items():
        assert all(map(torch.equal, digits, expected[split]))
    assert {file.name for file in (tmp_path / "bundled").iterdir()} == {"digits-v1.pt", ".lock"}


def test_what_is_prepared_is_used_where_one_may_only_read(tmp_path, monkeypatch):
    path = prepare(BUNDLED, tmp_path)
    for call in ("os.mkdir", "os.open"):  # of folders and of locks
        monkeypatch.setattr(call, Mock(side_effect=OSError(errno.EROFS, "Read-only file system")))
    assert prepare(BUNDLED, tmp_path) == path
    assert load(BUNDLED, tmp_path)
    with pytest.raises(OSError, match="Read-only file system"):
        prepare(BUNDLED, tmp_path / "new")


@pytest.mark.parametrize("damage", ["byte", "truncated", "empty", "text"])
def test_a_damaged_tensor_file_is_named(damage, bundled, tmp_path):
    content = bytearray(prepared_path(BUNDLED, bundled.data_dir).read_bytes())
    content[len(content) // 2] ^= 1
    path = prepared_path(BUNDLED, tmp_path)
    path.parent.mkdir()
    damaged = {"byte": content, "truncated": content[:-100], "empty": b"", "text": b"some text"}
    path.write_bytes(damaged[damage])
    with pytest.raises(ValueError, match=f"{re.escape(str(path))} is damaged. Delete it"):
        load(BUNDLED, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"Call prepare_data\(\) before setup"):
        load(BUNDLED, tmp_path / "new")


def test_another_number_of_images_is_refused(idx_files):
    name, data_dir, _ = idx_files
    source = replace(SOURCES[name], sizes={"train": 20, "val": 4, "test": 7})
    message = rf"test split of data.source={name} must hold 7 .*shape \[6, 28, 28\] and 6 labels"
    with pytest.raises(ValueError, match=message):
        prepare(source, data_dir)
    assert not prepared_path(source, data_dir).exists()
