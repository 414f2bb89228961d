"""Tiny stand-ins for the published files, and a server on this machine that offers them."""

import dataclasses
import gzip
import hashlib
import io
import socket
import zipfile
from collections import Counter
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from src.data.rotmnist.datamodule import RotatedMNISTDataModule
from src.data.rotmnist.sources import (
    BUNDLED,
    FASHION_MNIST,
    MNIST,
    ROTATED_MNIST,
    SourceFile,
)
from src.data.rotmnist.storage import prepare
from tests.helpers.fake_plumes import use_fake_simulation

AMAT_SIZES = {"train": 10, "val": 2, "test": 5}
IDX_SIZES = {"train": 20, "val": 4, "test": 6}


@pytest.fixture(scope="session")
def bundled_dir(tmp_path_factory):
    """A data folder in which the bundled digits are prepared; not to be changed."""
    folder = tmp_path_factory.mktemp("bundled")
    prepare(BUNDLED, folder)
    return folder


@pytest.fixture(scope="session")
def make_data(bundled_dir):
    """Build a data module and set it up: ``make_data(data_dir, **options)``."""

    def make(data_dir=bundled_dir, **options):
        data = RotatedMNISTDataModule(data_dir, **options)
        data.prepare_data()
        data.setup()
        return data

    return make


@pytest.fixture(scope="session")
def bundled(make_data):
    """The default data module, set up; not to be changed."""
    return make_data()


@pytest.fixture(scope="session")
def upright(make_data):
    """The bundled digits as written; not to be changed."""
    return make_data(rotate="none")


class Published:
    """A folder of files, a source made of them, and the arrays that they hold."""

    def __init__(self, folder: Path, template, sizes, contents: dict[str, bytes], arrays):
        self.folder, self.arrays = folder, arrays
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        files = tuple(
            SourceFile(name, hashlib.md5(content).hexdigest()) for name, content in contents.items()
        )
        self.source = dataclasses.replace(template, files=files, sizes=sizes)


@pytest.fixture
def published_amat(tmp_path):
    """An archive like that of rotated MNIST, with few rows."""
    generator = np.random.default_rng(0)
    arrays, archive = {}, io.BytesIO()
    with zipfile.ZipFile(archive, "w") as members:
        for part, count in (("train_valid", 12), ("test", 5)):
            images = generator.random((count, 28, 28)).astype(np.float32)
            labels = generator.integers(10, size=count)
            arrays[part] = images, labels
            lines = io.StringIO()
            np.savetxt(lines, np.column_stack([images.reshape(count, -1), labels]), fmt="%.8e")
            members.writestr(f"mnist_all_rotation_normalized_float_{part}.amat", lines.getvalue())
    contents = {"mnist_rotation_new.zip": archive.getvalue()}
    return Published(_folder(tmp_path), ROTATED_MNIST, AMAT_SIZES, contents, arrays)


@pytest.fixture(params=[MNIST, FASHION_MNIST], ids=lambda source: source.name)
def published_idx(request, tmp_path):
    """Four files like those of MNIST, with few images."""
    generator = np.random.default_rng(0)
    contents, arrays = {}, {}
    for prefix, count in (("train", 24), ("t10k", 6)):
        images = generator.integers(256, size=(count, 28, 28), dtype=np.uint8)
        labels = generator.integers(10, size=count, dtype=np.uint8)
        arrays[prefix] = images, labels
        contents[f"{prefix}-images-idx3-ubyte.gz"] = _idx(images)
        contents[f"{prefix}-labels-idx1-ubyte.gz"] = _idx(labels)
    return Published(_folder(tmp_path), request.param, IDX_SIZES, contents, arrays)


def _folder(tmp_path: Path) -> Path:
    folder = tmp_path / "published"
    folder.mkdir()
    return folder


def _idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">i4").tobytes()
    return gzip.compress(header + array.tobytes())


class Server(ThreadingHTTPServer):
    """Serves a folder on the loopback device; counts requests and can cut answers short."""

    def __init__(self, folder: Path):
        super().__init__(("127.0.0.1", 0), partial(_Handler, directory=str(folder)))
        self.requests: Counter[str] = Counter()
        self.truncated = False

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class _Handler(SimpleHTTPRequestHandler):
    def do_GET(self):
        self.server.requests[self.path.lstrip("/")] += 1
        super().do_GET()

    def copyfile(self, source, outputfile):
        content = source.read()
        outputfile.write(content[: len(content) // 2] if self.server.truncated else content)

    def log_message(self, format, *args):
        pass


@pytest.fixture
def serve(monkeypatch):
    """Start a server of a folder with ``serve(folder)``; it stops after the test."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    servers = []

    def start(folder: Path) -> Server:
        server = Server(folder)
        servers.append(server)
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def unreachable(monkeypatch):
    """An address on this machine at which nothing listens."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return f"http://127.0.0.1:{port}/"


@pytest.fixture
def fake_simulation(monkeypatch):
    """Simulate nothing: generations of this process use `FakeSimulation`, which is returned."""
    return use_fake_simulation(monkeypatch)
