import gzip

import pytest

from src.data.rotmnist.idx import find_idx

WHOLE = b"\0\0\x08\x01\0\0\0\x03abc"  # three bytes


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (b"", "begins with nothing"),
        (b"<html>", "begins with 3c 68 74 6d"),
        (b"\0\0\x08\x03" + bytes(12), "begins with 00 00 08 03"),
        (WHOLE[:-1], r"2 bytes for the sizes \[3\]"),
        (WHOLE[:6], "bytes for the sizes"),
        (WHOLE + b"d", r"4 bytes for the sizes \[3\]"),
        (gzip.compress(WHOLE)[:-9], "gzipped file that cannot be unpacked"),
    ],
)
def test_a_file_that_is_no_idx_file_is_named_and_stays(content, got, tmp_path):
    path = tmp_path / "labels-idx1"
    assert find_idx([tmp_path], path.name, 1) is None
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"labels-idx1 must be an idx file of .*got.*{got}.*Put a"):
        find_idx([tmp_path], path.name, 1)
    assert path.read_bytes() == content
    path.with_name("labels-idx1.gz").write_bytes(gzip.compress(WHOLE))
    assert find_idx([tmp_path], path.name, 1).tobytes() == b"abc", "the next that can be read"
