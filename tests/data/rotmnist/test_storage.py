import dataclasses
import multiprocessing
import re
from concurrent.futures import ProcessPoolExecutor, wait

import pytest
import torch

from src.data.rotmnist.sources import BUNDLED
from src.data.rotmnist.storage import load, prepare, prepared_path


def test_prepares_once_and_loads(published_idx, serve, tmp_path):
    server = serve(published_idx.folder)
    path = prepare(published_idx.source, tmp_path / "data", [server.address])
    assert path == prepared_path(published_idx.source, tmp_path / "data")
    written = path.stat().st_mtime_ns
    prepare(published_idx.source, tmp_path / "data", [server.address])
    assert path.stat().st_mtime_ns == written
    assert set(server.requests.values()) == {1}
    splits = load(published_idx.source, tmp_path / "data")
    assert splits["test"].images.tolist() == published_idx.arrays["t10k"][0].tolist()
    assert not list(path.parent.glob("*.partial"))


def test_the_published_file_alone_is_enough_offline(published_amat, unreachable, tmp_path):
    folder = published_amat.source.folder(tmp_path / "data")
    folder.mkdir(parents=True)
    (published_amat.folder / "mnist_rotation_new.zip").rename(folder / "mnist_rotation_new.zip")
    prepare(published_amat.source, tmp_path / "data", [unreachable])
    assert len(load(published_amat.source, tmp_path / "data")["test"].labels) == 5


def test_the_tensor_file_alone_is_enough_offline(published_amat, serve, unreachable, tmp_path):
    server = serve(published_amat.folder)
    prepare(published_amat.source, tmp_path / "data", [server.address])
    (tmp_path / "data/rotmnist/mnist_rotation_new.zip").unlink()
    prepare(published_amat.source, tmp_path / "data", [unreachable])
    assert len(load(published_amat.source, tmp_path / "data")["train"].labels) == 10


def test_loading_unprepared_digits_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"bundled must be prepared.*prepare_data\(\)"):
        load(BUNDLED, tmp_path)


@pytest.mark.parametrize("damage", ["byte", "truncated", "empty", "text"])
def test_a_damaged_tensor_file_is_named(damage, bundled_dir, tmp_path):
    content = bytearray(prepared_path(BUNDLED, bundled_dir).read_bytes())
    content[len(content) // 2] ^= 1
    path = prepared_path(BUNDLED, tmp_path)
    path.parent.mkdir()
    damaged = {"byte": content, "truncated": content[:-100], "empty": b"", "text": b"some text"}
    path.write_bytes(damaged[damage])
    message = f"{re.escape(str(path))} must end with the checksum.*is damaged.*Delete it"
    with pytest.raises(ValueError, match=message):
        load(BUNDLED, tmp_path)


def test_the_tensor_file_is_one_that_torch_loads(bundled_dir):
    digits = torch.load(prepared_path(BUNDLED, bundled_dir), weights_only=True)
    assert digits["train"][0].shape == (3500, 28, 28)


def test_another_number_of_images_is_refused(published_amat, tmp_path):
    sizes = {**published_amat.source.sizes, "test": 6}
    source = dataclasses.replace(published_amat.source, sizes=sizes)
    folder = tmp_path / "data/rotmnist"
    folder.mkdir(parents=True)
    (published_amat.folder / "mnist_rotation_new.zip").rename(folder / "mnist_rotation_new.zip")
    message = r"test split of data.source=rotmnist.*\[6, 28, 28\].*got \[5, 28, 28\] and 5 labels"
    with pytest.raises(ValueError, match=message):
        prepare(source, tmp_path / "data", [])
    assert not prepared_path(source, tmp_path / "data").exists()


def test_what_a_killed_process_left_is_replaced(bundled_dir, tmp_path):
    path = prepared_path(BUNDLED, tmp_path)
    path.parent.mkdir()
    path.with_suffix(".partial").write_bytes(b"half a file")
    (path.parent / ".lock").touch()
    prepare(BUNDLED, tmp_path)
    assert path.read_bytes() == prepared_path(BUNDLED, bundled_dir).read_bytes()


@pytest.mark.slow
def test_several_processes_prepare_one_folder(published_amat, serve, tmp_path):
    server = serve(published_amat.folder)
    source, data_dir = published_amat.source, tmp_path / "data"
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        wait([pool.submit(prepared_path, BUNDLED, tmp_path) for _ in range(8)])  # start both
        prepared = [pool.submit(prepare, source, data_dir, [server.address]) for _ in range(2)]
        prepared += [pool.submit(prepare, BUNDLED, data_dir) for _ in range(2)]
        paths = {future.result(timeout=60) for future in prepared}
    assert paths == {prepared_path(source, data_dir), prepared_path(BUNDLED, data_dir)}
    assert server.requests.total() == 1
    assert len(load(source, data_dir)["train"].labels) == 10
    assert len(load(BUNDLED, data_dir)["train"].labels) == 3500
