import gzip
import hashlib
import re

import numpy as np
import pytest
import torch
from torchvision import datasets

from src.data.rotmnist import sources
from src.data.rotmnist.sources import ARCHIVE, SOURCES
from tests.data.conftest import KINDS


def read(name, data_dir, mirrors=None):
    return SOURCES[name].read(data_dir, SOURCES[name].sizes, mirrors)


def rows_of(*parts):
    """The set of (pixels, label), whatever their order."""
    rows = [row for digits in parts for row in zip(*digits)]
    return {(np.asarray(image).tobytes(), int(label)) for image, label in rows}


def test_the_bundled_splits_are_the_same_in_every_version(tmp_path):
    splits = read("bundled", tmp_path)
    content = b"".join(part.numpy().tobytes() for digits in splits.values() for part in digits)
    assert hashlib.md5(content).hexdigest() == "9ba4bfcfbe25c9b4dcd855c6dac80111"
    assert [len(rows_of(digits)) for digits in splits.values()] == [3500, 500, 1000]
    assert len(rows_of(*splits.values())) == 5000


def test_a_bundled_table_that_is_another_one_is_to_be_reinstalled(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "BUNDLED_MD5", "0" * 32)
    with pytest.raises(ValueError, match=r"its md5 must be 0{32}. Run: pip install --force"):
        read("bundled", tmp_path)
    monkeypatch.setattr(sources.resources, "files", lambda package: tmp_path)
    with pytest.raises(ValueError, match="missing or damaged"):
        read("bundled", tmp_path)


def test_sizes_are_those_of_the_published_sets():
    sizes = [(*source.sizes.values(), source.rotated) for source in SOURCES.values()]
    mnist = (55_000, 5_000, 10_000, False)
    assert sizes == [(3_500, 500, 1_000, False), (10_000, 2_000, 50_000, True), mnist, mnist]


def test_rotated_mnist_keeps_the_order_of_rows_and_pixels(archive, serve, tmp_path, capfd):
    folder, arrays = archive
    splits = read("rotmnist", tmp_path, [serve(folder).rstrip("/")])
    images, labels = arrays["train_valid"]
    parts = {"train": (images[:10], labels[:10]), "val": (images[10:], labels[10:])}
    parts["test"] = arrays["test"]
    assert splits.keys() == parts.keys()
    for split, expected in parts.items():
        assert splits[split].images.dtype == torch.float32
        for got, array in zip(splits[split], expected):
            np.testing.assert_allclose(got, array, rtol=1e-7)
    assert [entry.name for entry in (tmp_path / "rotmnist").iterdir()] == [ARCHIVE]
    assert "100%" in capfd.readouterr().err


def test_mirrors_are_tried_in_turn_and_failures_named(archive, serve, unreachable, tmp_path):
    folder, _ = archive
    half, target = tmp_path / "damaged" / ARCHIVE, tmp_path / "rotmnist"
    half.parent.mkdir()
    half.write_bytes(b"half of it")
    empty, damaged = serve(tmp_path), serve(half.parent)
    message = (
        rf"(?s)data.source=rotmnist needs {ARCHIVE}.*tried\n  {unreachable}{ARCHIVE}: Connection.*"
        rf"{empty}{ARCHIVE}: HTTPError: 404.*{damaged}{ARCHIVE}: .*not match the known hash.*"
        rf"Put it into {re.escape(str(target))} by hand.*data.mirrors.*data.source=bundled"
    )
    with pytest.raises(ConnectionError, match=message):
        read("rotmnist", tmp_path, [unreachable, empty, damaged])
    assert not list(target.iterdir())
    read("rotmnist", tmp_path, [unreachable, empty, damaged, serve(folder)])
    read("rotmnist", tmp_path, [unreachable])  # what is there is not downloaded again


@pytest.mark.parametrize("compressed", [False, True])
def test_files_of_torchvision_are_used_offline(idx_files, compressed, unreachable, monkeypatch):
    name, data_dir, arrays = idx_files
    kind = getattr(datasets, KINDS[name])
    monkeypatch.setattr(kind, "mirrors", [unreachable])
    if compressed:
        checksums = []
        for path in sorted((data_dir / KINDS[name] / "raw").iterdir()):
            content = gzip.compress(path.read_bytes())
            path.with_name(f"{path.name}.gz").write_bytes(content)
            path.unlink()
            checksums.append((f"{path.name}.gz", hashlib.md5(content).hexdigest()))
        monkeypatch.setattr(kind, "resources", checksums)
    splits = read(name, data_dir)
    assert {split: len(digits.labels) for split, digits in splits.items()} == SOURCES[name].sizes
    np.testing.assert_array_equal(splits["test"].images, arrays["t10k"][0])
    np.testing.assert_array_equal(splits["test"].labels, arrays["t10k"][1])
    assert rows_of(splits["train"], splits["val"]) == rows_of(arrays["train"])
    raw = re.escape(str(data_dir / "new" / KINDS[name] / "raw"))
    message = rf"(?s)download {KINDS[name]}: .*into {raw} by hand.*data.source=bundled"
    with pytest.raises(ConnectionError, match=message):
        read(name, data_dir / "new")
