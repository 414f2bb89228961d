"""Read what W&B wrote to a run's disk: config, history, summary and images, without a server."""

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from wandb.proto.wandb_internal_pb2 import Record

MAGIC = b":W&B\xe1\xbe"
HEADER_BYTES = 7  # MAGIC and a version
BLOCK_BYTES = 32768
CHUNK_HEADER = struct.Struct("<IHB")  # checksum, length, type
FULL, LAST = 1, 4  # types of chunk that end a record


class WandbImage(NamedTuple):
    """An image of a history row: its metric, optimisation step, file and caption."""

    key: str
    step: int | None
    path: Path
    caption: str | None


@dataclass
class WandbRun:
    """What one `.wandb` file holds.

    A run that was resumed has one file per start, all with the same `id`.

    Attributes:
        path: the file.
        id, name, project, group, job_type, notes, tags: as given at the start.
        started: when the run was started.
        config: as it was at the end, nested, without what W&B adds.
        history: rows in the order logged; besides metrics, each has `_step` (W&B's row counter).
        summary: last value of each metric.
        step_metrics: the metric on the x axis of each metric.
        files: paths, relative to `files_dir`, of what would be uploaded.
        exit_code: None for a run that was killed.
    """

    path: Path
    id: str = ""
    name: str = ""
    project: str = ""
    group: str = ""
    job_type: str = ""
    notes: str = ""
    tags: list[str] = field(default_factory=list)
    started: datetime | None = None
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    step_metrics: dict[str, str] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    exit_code: int | None = None

    @property
    def files_dir(self) -> Path:
        """Directory of the run's files."""
        return self.path.parent / "files"

    @property
    def offline(self) -> bool:
        """Whether nothing of it was sent to a server when it was logged."""
        return self.path.parent.name.startswith("offline-")

    @property
    def keys(self) -> list[str]:
        """Names of what was logged to the history, without W&B's own (`_step`, `_runtime`, ...)."""
        return sorted({key for row in self.history for key in row if not key.startswith("_")})

    def values(self, key: str) -> list[Any]:
        """All values of a metric, in the order logged."""
        return [row[key] for row in self.history if key in row]

    def images(self) -> list[WandbImage]:
        """All images, in the order logged."""
        return [
            WandbImage(key, row.get("trainer/global_step"), self.files_dir / path, caption)
            for row in self.history
            for key, value in row.items()
            for path, caption in _image_files(value)
        ]


def find_wandb_files(directory: str | Path, run_id: str | None = None) -> list[Path]:
    """The `.wandb` files of a run directory, oldest first; a `.wandb` file stands for itself.

    Args:
        directory: of the run.
        run_id: only files of this W&B run.
    """
    directory = Path(directory)
    if directory.suffix == ".wandb":
        return [directory]
    files = directory.glob(f"wandb/*run-*/run-{run_id or '*'}.wandb")
    own = (file for file in files if not file.parent.is_symlink())
    return sorted(own, key=lambda file: file.parent.name.removeprefix("offline-"))


def is_waiting(path: str | Path) -> bool:
    """Whether a `.wandb` file is of an offline run that `wandb sync` has not uploaded."""
    path = Path(path)
    offline = path.parent.name.startswith("offline-")
    return offline and not path.with_suffix(".wandb.synced").exists()


def read_wandb_file(path: str | Path) -> WandbRun:
    """Read a `.wandb` file; what a killed run had not finished writing is left out.

    Raises:
        ValueError: when it is no such file, or was damaged.
    """
    run = WandbRun(Path(path))
    for record in read_records(path):
        kind = record.WhichOneof("record_type")
        if kind in READERS:
            READERS[kind](run, getattr(record, kind))
    run.config.pop("_wandb", None)
    return run


def read_history(path: str | Path) -> Iterator[dict[str, Any]]:
    """The history rows of a `.wandb` file, in the order logged.

    Raises:
        ValueError: when it is no such file, or was damaged.
    """
    for record in read_records(path):
        if record.WhichOneof("record_type") == "history":
            yield _row(record.history)


def read_records(path: str | Path) -> Iterator["Record"]:
    """The protobuf records of a `.wandb` file, in the order written.

    The file is a 7-byte header and then blocks of 32 KiB, each filled with chunks (CRC-32 of type
    and data, length, type, data); a record is one chunk or several, as in LevelDB's log format.
    The numbers are little-endian.

    Raises:
        ValueError: when it is no such file, or was damaged.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    content = Path(path).read_bytes()
    if not content.startswith(MAGIC):
        raise ValueError(
            f"A W&B run file starts with {MAGIC!r}; got {content[: len(MAGIC)]!r} in {path}. "
            "Give the file <run directory>/wandb/<run>/run-<id>.wandb."
        )
    data = b""
    for kind, chunk in _chunks(content, path):
        data += chunk
        if kind in (FULL, LAST):
            yield Record.FromString(data)
            data = b""


def _chunks(content: bytes, path: str | Path) -> Iterator[tuple[int, bytes]]:
    position = HEADER_BYTES
    while position + CHUNK_HEADER.size <= len(content):
        left = BLOCK_BYTES - position % BLOCK_BYTES
        if left < CHUNK_HEADER.size:
            position += left
            continue
        checksum, length, kind = CHUNK_HEADER.unpack_from(content, position)
        start = position + CHUNK_HEADER.size
        chunk = content[start : start + length]
        if len(chunk) < length:
            return
        if zlib.crc32(bytes([kind]) + chunk) != checksum:
            raise ValueError(
                f"Every chunk of a W&B run file must match its checksum; got another one at byte "
                f"{position} of {path}, which is damaged. Restore the file, or move its directory "
                "away to do without it."
            )
        yield kind, chunk
        position = start + length


def _image_files(value: Any) -> Iterator[tuple[str, str | None]]:
    kind = value.get("_type") if isinstance(value, dict) else None
    if kind == "image-file":
        yield value["path"], value.get("caption")
    elif kind == "images/separated":
        paths = value["filenames"]
        captions = value.get("captions") or [None] * len(paths)
        yield from zip(paths, captions)


def _set_items(target: dict[str, Any], items: Any) -> None:
    for item in items:
        *parents, last = item.nested_key or [item.key]
        place = target
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = json.loads(item.value_json)


def _read_run(run: WandbRun, record: Any) -> None:
    run.id, run.name, run.project = record.run_id, record.display_name, record.project
    run.group, run.job_type, run.notes = record.run_group, record.job_type, record.notes
    run.tags = list(record.tags)
    run.started = record.start_time.ToDatetime()
    _set_items(run.config, record.config.update)


def _read_config(run: WandbRun, record: Any) -> None:
    _set_items(run.config, record.update)


def _row(record: Any) -> dict[str, Any]:
    row: dict[str, Any] = {}
    _set_items(row, record.item)
    return row


def _read_history(run: WandbRun, record: Any) -> None:
    run.history.append(_row(record))


def _read_summary(run: WandbRun, record: Any) -> None:
    _set_items(run.summary, record.update)


def _read_metric(run: WandbRun, record: Any) -> None:
    if record.step_metric:
        run.step_metrics[record.name or record.glob_name] = record.step_metric


def _read_files(run: WandbRun, record: Any) -> None:
    run.files.extend(file.path for file in record.files)


def _read_exit(run: WandbRun, record: Any) -> None:
    run.exit_code = record.exit_code


READERS = {
    "run": _read_run,
    "config": _read_config,
    "history": _read_history,
    "summary": _read_summary,
    "metric": _read_metric,
    "files": _read_files,
    "exit": _read_exit,
}
