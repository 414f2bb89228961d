"""Pictures that runs drew themselves, one run of each row."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from src.files import CHECKPOINTS
from src.reports.grouping import Group

KINDS = {  # file below a run directory: heading
    "images/relaxed_weights_end.png": "Relaxed weights after training",
    "images/forecast.png": "Forecasts of test data",
}
OF_MEASURES = f"{CHECKPOINTS}/measures"
TYPES = {"svg": "image/svg+xml", "png": "image/png"}


@dataclass(frozen=True)
class Picture:
    """A picture in the page.

    Attributes:
        name: of its files, without the ending.
        caption: below it.
        content: of the file that the page shows.
        kind: of that file, ``"svg"`` or ``"png"``.
        files: what is written beside the page, by ending.
    """

    name: str
    caption: str
    content: bytes
    kind: str
    files: dict[str, bytes]

    @property
    def uri(self) -> str:
        """The picture itself as an address, so that the page needs no other file."""
        return f"data:{TYPES[self.kind]};base64,{base64.b64encode(self.content).decode()}"


def pictures_of_runs(groups: Sequence[Group]) -> dict[str, list[Picture]]:
    """By heading, the picture of each row's first run that has it."""
    found = {
        heading: _pictures(groups, lambda run, file=file: [run / file])
        for file, heading in KINDS.items()
    }
    return {heading: pictures for heading, pictures in found.items() if pictures}


def pictures_of_measures(groups: Sequence[Group]) -> list[Picture]:
    """Every picture of the measures of each row's first run that has any."""
    return _pictures(groups, lambda run: sorted((run / OF_MEASURES).glob("*.png")))


def _pictures(groups: Sequence[Group], files_of: Callable[[Path], list[Path]]) -> list[Picture]:
    pictures = []
    for group in groups:
        for seed, run in group.finished.items():
            if files := [file for file in files_of(run.directory) if file.is_file()]:
                pictures += [_picture(file, group, seed) for file in files]
                break
    return pictures


def _picture(file: Path, group: Group, seed: int) -> Picture:
    content = file.read_bytes()
    name = f"{file.stem}-{group.file_name}"
    what = file.stem.removesuffix("_end").replace("_", " ")
    caption = f"{group.label}, seed {seed}: {what}"
    return Picture(name, caption, content, "png", {"png": content})
