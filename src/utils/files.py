"""Write files so that a reader, or a kill, never meets half of one."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write `data` to a temporary file beside `path`, then rename it to `path`."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def write_text(path: str | Path, text: str) -> None:
    """Write `text` in UTF-8, atomically."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_yaml(path: str | Path, value: Any) -> None:
    """Write a config, list or dict as YAML, atomically."""
    write_text(path, OmegaConf.to_yaml(OmegaConf.create(value)))
