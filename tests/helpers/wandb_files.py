"""Reads what W&B wrote to the disk of a run, which wandb 0.31 has no Python function for."""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STEP = "trainer/global_step"
CHUNK = struct.Struct("<IHB")  # checksum, length, type of a chunk, as in LevelDB's logs
BLOCK = 32768
FULL, LAST = 1, 4  # types of chunk that end a record


@dataclass
class Part:
    """One start of a run; a run that was continued has several, all with the same id."""

    path: Path
    run: Any = None
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    step_metrics: dict[str, str] = field(default_factory=dict)
    exit_code: int | None = None  # None: killed

    @property
    def offline(self) -> bool:
        return self.path.parent.name.startswith("offline-")


def read_parts(directory: Path) -> list[Part]:
    """The parts of the W&B run of a run directory, oldest first."""
    files = [f for f in directory.glob("wandb/*run-*/*.wandb") if not f.parent.is_symlink()]
    return [read_part(f) for f in sorted(files, key=lambda f: f.parent.name.split("run-", 1)[1])]


def read_part(path: Path) -> Part:
    part = Part(path)
    for record in _records(path.read_bytes()):
        kind = record.WhichOneof("record_type")
        content = getattr(record, kind)
        if kind == "run":
            part.run, content = content, content.config
        if kind in ("run", "config"):
            part.config |= _items(content.update)
        if kind == "history":
            part.history.append(_items(content.item))
        if kind == "summary":
            part.summary |= _items(content.update)
        if kind == "metric" and content.step_metric:
            part.step_metrics[content.name or content.glob_name] = content.step_metric
        if kind == "exit":
            part.exit_code = content.exit_code
    part.config.pop("_wandb", None)
    return part


def _items(items: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for item in items:
        *parents, last = item.nested_key or [item.key]
        place = found
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = json.loads(item.value_json)
    return found


def _records(content: bytes) -> Iterator[Any]:
    from wandb.proto.wandb_internal_pb2 import Record

    position, data = 7, b""  # the header has 7 bytes
    while position + CHUNK.size <= len(content):
        left = BLOCK - position % BLOCK
        if left < CHUNK.size:
            position += left
            continue
        _, length, kind = CHUNK.unpack_from(content, position)
        position += CHUNK.size + length
        if position > len(content):
            return  # cut off by a kill
        data += content[position - length : position]
        if kind in (FULL, LAST):
            yield Record.FromString(data)
            data = b""
