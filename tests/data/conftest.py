"""Tiny stand-ins for the published files, and a server on this machine that offers them."""

import hashlib
import io
import socket
import zipfile
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest

from src.data.rotmnist import sources
from src.data.rotmnist.datamodule import RotatedMNISTDataModule
from tests.helpers.fake_plumes import use_fake_simulation

KINDS = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}


@pytest.fixture(scope="session")
def make_data(tmp_path_factory):
    """Build a data module of the bundled digits and set it up: ``make_data(**options)``."""
    folder = tmp_path_factory.mktemp("bundled")

    def make(data_dir=folder, **options):
        data = RotatedMNISTDataModule(data_dir, **options)
        data.prepare_data()
        data.setup()
        return data

    return make


@pytest.fixture(scope="session")
def bundled(make_data):
    """The default data module, set up; not to be changed."""
    return make_data()


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """A folder with an archive like that of rotated MNIST, and the arrays in it by part."""
    generator = np.random.default_rng(0)
    arrays, content = {}, io.BytesIO()
    with zipfile.ZipFile(content, "w") as members:
        for part, count in (("train_valid", 12), ("test", 5)):
            images, lines = generator.random((count, 784)).astype(np.float32), io.StringIO()
            labels = generator.integers(10, size=count)
            np.savetxt(lines, np.column_stack([images, labels]), fmt="%.8e")
            arrays[part] = images.reshape(count, 28, 28), labels
            members.writestr(f"mnist_all_rotation_normalized_float_{part}.amat", lines.getvalue())
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / sources.ARCHIVE).write_bytes(content.getvalue())
    monkeypatch.setattr(sources, "ARCHIVE_MD5", hashlib.md5(content.getvalue()).hexdigest())
    use_sizes(monkeypatch, "rotmnist", {"train": 10, "val": 2, "test": 5})
    return folder, arrays


@pytest.fixture(params=KINDS)
def idx_files(request, tmp_path, monkeypatch):
    """Name of a source, a data folder with four small files of it, and the arrays in them."""
    generator = np.random.default_rng(0)
    raw, arrays = tmp_path / "data" / KINDS[request.param] / "raw", {}
    raw.mkdir(parents=True)
    for prefix, count in (("train", 24), ("t10k", 6)):
        images = generator.integers(256, size=(count, 28, 28), dtype=np.uint8)
        arrays[prefix] = images, generator.integers(10, size=count, dtype=np.uint8)
        for array, kind in zip(arrays[prefix], ("images-idx3", "labels-idx1")):
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
            (raw / f"{prefix}-{kind}-ubyte").write_bytes(header + array.tobytes())
    use_sizes(monkeypatch, request.param, {"train": 20, "val": 4, "test": 6})
    return request.param, tmp_path / "data", arrays


def use_sizes(monkeypatch, name, sizes):
    """Let a source have other numbers of images."""
    monkeypatch.setitem(sources.SOURCES, name, replace(sources.SOURCES[name], sizes=sizes))


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
        """Log nothing."""


@pytest.fixture
def serve(monkeypatch):
    """The address of a server of a folder on this machine: ``serve(folder)``."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ExitStack() as servers:

        def start(folder):
            handler = partial(QuietHandler, directory=str(folder))
            server = servers.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), handler))
            servers.callback(server.shutdown)
            Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            return f"http://127.0.0.1:{server.server_port}/"

        yield start


@pytest.fixture
def unreachable(monkeypatch):
    """An address on this machine at which nothing listens."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"http://127.0.0.1:{free.getsockname()[1]}/"


@pytest.fixture
def fake_simulation(monkeypatch):
    """Simulate nothing: generations of this process use `FakeSimulation`, which is returned."""
    return use_fake_simulation(monkeypatch)
