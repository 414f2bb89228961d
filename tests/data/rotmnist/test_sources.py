import gzip
import hashlib
import re
import zipfile

import numpy as np
import pytest
import torch
from torchvision import datasets

from src.data.rotmnist import sources
from src.data.rotmnist.sources import ARCHIVE, SOURCES
from tests.data.conftest import KINDS, use_sizes


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
    sizes = {n: (*source.sizes.values(), source.rotated) for n, source in SOURCES.items()}
    assert sizes == {
        "bundled": (3_500, 500, 1_000, False),
        "rotmnist": (10_000, 2_000, 50_000, True),
        "mnist12k": (10_000, 2_000, 50_000, False),
        "mnist": (55_000, 5_000, 10_000, False),
        "fashion_mnist": (55_000, 5_000, 10_000, False),
    }


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
        rf"Put it, .*into {re.escape(str(target))} by hand.*data.mirrors.*data.source=bundled"
    )
    with pytest.raises(ConnectionError, match=message):
        read("rotmnist", tmp_path, [unreachable, empty, damaged])
    assert not list(target.iterdir())
    read("rotmnist", tmp_path, [unreachable, empty, damaged, serve(folder)])
    read("rotmnist", tmp_path, [unreachable])  # what is there is not downloaded again


def gzipped(path):
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), 1))
    path.unlink()


def with_dots(path):
    path.rename(path.with_name(path.name.replace("-idx", ".idx")))


def cut_off(path):
    """As torchvision leaves it where unpacking was interrupted: the plain file is cut off."""
    content = path.read_bytes()
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content))
    path.write_bytes(content[:100])


@pytest.mark.parametrize("folder", ["{kind}/raw", "{kind}", "{name}"])
@pytest.mark.parametrize("change", [None, gzipped, with_dots, cut_off])
def test_idx_files_of_ones_own_are_used_offline(
    idx_files, change, folder, unreachable, monkeypatch
):
    name, data_dir, arrays = idx_files
    monkeypatch.setattr(getattr(datasets, KINDS[name]), "mirrors", [unreachable])
    raw, own = data_dir / KINDS[name] / "raw", data_dir / "own"
    for path in sorted(raw.iterdir()) if change else ():
        change(path)
    raw.rename(own)
    raw.parent.rmdir()
    place = data_dir / folder.format(kind=KINDS[name], name=name)
    place.parent.mkdir(exist_ok=True)
    own.rename(place)
    splits = read(name, data_dir)
    assert {split: len(digits.labels) for split, digits in splits.items()} == SOURCES[name].sizes
    np.testing.assert_array_equal(splits["test"].images, arrays["t10k"][0])
    np.testing.assert_array_equal(splits["test"].labels, arrays["t10k"][1])
    assert rows_of(splits["train"], splits["val"]) == rows_of(arrays["train"])


@pytest.mark.parametrize("idx_files", ["mnist"], indirect=True)
def test_mnist12k_draws_every_split_from_both_files_and_no_image_twice(idx_files, monkeypatch):
    _, data_dir, arrays = idx_files
    use_sizes(monkeypatch, "mnist12k", {"train": 10, "val": 4, "test": 12})
    splits = read("mnist12k", data_dir)
    files = [rows_of(arrays[prefix]) for prefix in ("train", "t10k")]
    assert [len(rows_of(digits)) for digits in splits.values()] == [10, 4, 12]
    assert len(rows_of(*splits.values())) == 26
    assert rows_of(*splits.values()) < set.union(*files)
    assert all(rows_of(splits["test"]) & rows for rows in files)
    torch.manual_seed(1)
    assert rows_of(read("mnist12k", data_dir)["val"]) == rows_of(splits["val"])


def test_missing_idx_files_are_downloaded_beside_those_that_are_there(
    idx_files, serve, unreachable, tmp_path, monkeypatch, capfd
):
    name, data_dir, _ = idx_files
    kind, raw = getattr(datasets, KINDS[name]), data_dir / KINDS[name] / "raw"
    monkeypatch.setattr(kind, "mirrors", [unreachable])
    published, lost = tmp_path / "published", raw / "t10k-labels-idx1-ubyte"
    published.mkdir()
    content = gzip.compress(lost.read_bytes())
    (published / f"{lost.name}.gz").write_bytes(content)
    lost.unlink()
    message = (
        rf"(?s)source={name} needs {lost.name}.gz, .*into {re.escape(str(raw))} by hand.*=bundled"
    )
    with pytest.raises(ConnectionError, match=message):
        read(name, data_dir)
    monkeypatch.setattr(kind, "mirrors", [unreachable, serve(published)])
    monkeypatch.setattr(kind, "resources", [(f"{lost.name}.gz", hashlib.md5(content).hexdigest())])
    assert len(read(name, data_dir)["test"].labels) == 6
    assert (raw / f"{lost.name}.gz").read_bytes() == content


def test_an_archive_of_ones_own_is_taken_by_what_it_holds(archive, tmp_path, unreachable):
    """Packed anew, or unpacked; one that cannot be read is named and stays."""
    folder, arrays = archive
    target = tmp_path / "rotmnist"
    target.mkdir()
    with zipfile.ZipFile(folder / ARCHIVE) as published:
        published.extractall(target)
    for packed in (False, True):
        if packed:
            with zipfile.ZipFile(target / ARCHIVE, "w", zipfile.ZIP_DEFLATED) as own:
                for path in target.glob("*.amat"):
                    own.write(path, path.name)
                    path.unlink()
        test = read("rotmnist", tmp_path, [unreachable])["test"]
        np.testing.assert_allclose(test.images, arrays["test"][0], rtol=1e-7)
    (target / ARCHIVE).write_bytes(b"half of it")
    with pytest.raises(
        ValueError, match=rf"{ARCHIVE} must hold .*got File is not a zip.*in its pl"
    ):
        read("rotmnist", tmp_path, [unreachable])
    assert (target / ARCHIVE).read_bytes() == b"half of it"
