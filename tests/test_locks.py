import errno
import os
import subprocess
import threading
import time
from contextlib import ExitStack

import pytest
from filelock import FileLock, Timeout

from src import locks
from src.files import LOCK
from src.locks import file_lock, is_held, patience


@pytest.fixture
def without_flock(monkeypatch):
    """Let the system lack `flock`, as Lustre, NFS and FUSE do; with short leases."""

    def lack(number):
        def refused(*arguments):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr("fcntl.flock", refused)
        monkeypatch.setattr(locks, "LEASE_SECONDS", 0.6)
        locks._knows_flock.cache_clear()

    yield lack
    locks._knows_flock.cache_clear()


@pytest.mark.parametrize("number", [None, *{*locks.LACKING}])
def test_one_holds_a_lock_wherever_it_lies(tmp_path, without_flock, number):
    if number is not None:
        without_flock(number)
    path = tmp_path / LOCK
    assert not is_held(path) and not path.exists()
    held = file_lock(path)
    assert isinstance(held, FileLock) == (number is None)
    assert patience(held) == (locks.LOCK_SECONDS if number is None else locks.LOCK_SECONDS + 0.6)
    with held:
        time.sleep(0.8 if number else 0)  # longer than a lease that nobody renews
        assert is_held(path, 0)
        with pytest.raises(Timeout):
            file_lock(path).acquire(timeout=0.8)
    assert not is_held(path, 0)
    with file_lock(path):
        pass


def test_users_of_a_folder_share_its_locks(tmp_path):
    before = os.umask(0o022)
    try:
        with file_lock(tmp_path / LOCK):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / LOCK).stat().st_mode & 0o777 == 0o666


def marker(lease, **changes):
    """Leave the file of a lease behind, of another process or machine."""
    with file_lock(lease.with_name(LOCK)):
        lines = lease.read_text().splitlines(keepends=True)
    pairs = [line.rstrip("\n").split("=", 1) for line in lines if "=" in line]
    kept = {key: changes.get(key, value) for key, value in pairs}
    lease.write_text(lines[0] + "".join(f"{key}={value}\n" for key, value in kept.items()) + "\n")


@pytest.mark.parametrize("skew", [0, -10_000, 10_000])
def test_a_lease_is_stale_when_its_process_is_gone_or_nobody_renews_it(
    tmp_path, without_flock, skew
):
    """Clocks of other machines, which set the time of the file, make no difference."""
    without_flock(errno.ENOSYS)
    path, lease = tmp_path / LOCK, tmp_path / f"{LOCK}.lease"

    def touch():
        os.utime(lease, (time.time() + skew,) * 2)

    ended = subprocess.run(["sh", "-c", "echo $$"], capture_output=True, text=True, check=True)
    marker(lease, pid=ended.stdout.strip())  # of this machine
    touch()
    with file_lock(path).acquire(timeout=0.3):
        pass
    marker(lease, host="elsewhere")
    touch()
    done = threading.Event()

    def renew():
        while not done.wait(0.1):
            touch()

    with ExitStack() as stack:
        stack.callback(done.set)
        threading.Thread(target=renew).start()
        with pytest.raises(Timeout):
            file_lock(path).acquire(timeout=1.5)
    started = time.monotonic()
    assert is_held(path, 0)
    with file_lock(path).acquire(timeout=5):
        assert time.monotonic() - started > 0.5


def test_a_lock_of_a_folder_with_flock_is_no_lease(tmp_path, without_flock):
    """As of a run directory that was copied to a file system without."""
    with file_lock(tmp_path / LOCK):
        pass
    os.utime(tmp_path / LOCK, (0, 0))
    without_flock(errno.ENOSYS)
    with file_lock(tmp_path / LOCK).acquire(timeout=2):
        pass
