"""Download of published files: progress, checksum, several mirrors, an error that helps."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from src.data.rotmnist.sources import Source, SourceFile

_TIMEOUT = (10, 60)  # seconds to connect, and between two packets


def fetch(source: Source, file: SourceFile, folder: Path, mirrors: Sequence[str]) -> Path:
    """Return the path of a source's file, downloading it when ``folder`` does not hold it.

    The content is written under a temporary name, checked, and renamed. A file that is there
    already, for instance because someone put it there by hand, is checked and never replaced.

    Args:
        source: the source, for the messages.
        file: name and checksum.
        folder: where the file is, or will be.
        mirrors: base addresses, tried in turn.

    Raises:
        ValueError: if the file that is there has another checksum.
        FileNotFoundError: if a file that a package should ship is missing.
        ConnectionError: if no mirror delivers the file with its checksum.
    """
    path = folder / file.name
    if path.exists():
        _check_md5(source, file, path)
        return path
    if source.package is not None:
        raise FileNotFoundError(
            f"data.source={source.name} reads {path}, which {source.package[0]} installs; it is "
            f"missing. {_reinstall(source)}"
        )
    _download(source, file, path, mirrors)
    return path


def _download(source: Source, file: SourceFile, path: Path, mirrors: Sequence[str]) -> None:
    import pooch  # only a download needs it

    downloader = pooch.HTTPDownloader(progressbar=True, timeout=_TIMEOUT)
    failures = []
    for mirror in mirrors:
        address = f"{mirror.rstrip('/')}/{file.name}"
        try:
            pooch.retrieve(
                address, f"md5:{file.md5}", file.name, path.parent, downloader=downloader
            )
        except (OSError, ValueError) as error:  # the network's errors, and a wrong checksum
            failures.append(f"  {address}: {type(error).__name__}: {error}")
        else:
            return
    names = ", ".join(file.name for file in source.files)
    raise ConnectionError(
        f"data.source={source.name} needs {file.name} (md5 {file.md5}), which no address "
        "delivered; tried\n" + "\n".join(failures) + f"\nPut {names} into {path.parent} by hand, "
        "set data.mirrors to addresses that have it, or use digits that need no download: "
        "data.source=bundled."
    )


def _check_md5(source: Source, file: SourceFile, path: Path) -> None:
    with path.open("rb") as content:
        md5 = hashlib.file_digest(content, "md5").hexdigest()
    if md5 != file.md5:
        fix = _reinstall(source) if source.package else "Delete it; it is then downloaded again."
        raise ValueError(
            f"{path} is damaged or another version: its md5 must be {file.md5}; got {md5}. {fix}"
        )


def _reinstall(source: Source) -> str:
    return f"Run: pip install --force-reinstall --no-deps {source.package[0]}"
