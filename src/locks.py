"""Locks on files, which end with the process that holds them, also on shared file systems."""

import errno
import fcntl
import tempfile
from functools import cache
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLease, Timeout

# The data loader's workers of a killed process hold its locks until they notice, within 5 seconds.
LOCK_SECONDS = 6.0
LEASE_SECONDS = 30.0
# What `flock` ends with where a file system (NFS, Lustre, FUSE, ...) lacks it.
LACKING = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)


def file_lock(path: str | Path) -> BaseFileLock:
    """A lock on a file, which whoever may write to its folder can take, one process at a time.

    The system ends it with the process where the file system knows `flock`. Elsewhere a file beside
    it, `<path>.lease`, names machine and process, and its holder touches it every 10 seconds. It
    counts as stale when that process of this machine is gone, or when nobody touched it for 30
    seconds by the clock of the process that waits for it, whatever clocks of other machines say.
    """
    path = Path(path)
    if _knows_flock(path.parent):
        return FileLock(path, mode=0o666)  # also for other users of the folder
    return SoftFileLease(path.with_name(f"{path.name}.lease"), lease_duration=LEASE_SECONDS)


def patience(lock: BaseFileLock) -> float:
    """Seconds that a process which was killed may hold a lock."""
    return LOCK_SECONDS if isinstance(lock, FileLock) else LEASE_SECONDS + LOCK_SECONDS


def is_held(path: Path, seconds: float | None = None) -> bool:
    """Whether a process holds a lock that may not exist, for the next seconds too.

    seconds: time after which one that is held counts as such; None: its `patience`.
    """
    lock = file_lock(path) if path.parent.is_dir() else None
    if lock is None or not Path(lock.lock_file).is_file():
        return False
    try:
        with lock.acquire(timeout=patience(lock) if seconds is None else seconds):
            return False
    except Timeout:
        return True


@cache
def _knows_flock(folder: Path) -> bool:
    """Whether the folder's file system has `flock`; where nothing can be written, it may have."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in LACKING
    return True
