"""Figures of a report: those drawn over seeds, and those that runs drew themselves."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import pandas as pd

from src.plots.curves import Curves, plot_curves
from src.plots.style import DOTS_PER_INCH
from src.reports.grouping import Group, lines_against
from src.reports.results import Results
from src.reports.statistics import BANDS, FEWEST_IN_BAND, band

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEGEND = f"Thin: seeds. Thick: their mean. Band, of {FEWEST_IN_BAND} seeds or more: "
TYPES = {"svg": "image/svg+xml", "png": "image/png"}
# What makes the bytes of a file depend on the day.
DATES = {"svg": {"Date": None}, "png": {}, "pdf": {"CreationDate": None}}


@dataclass(frozen=True)
class Picture:
    """A figure in the page: name and content by ending of its files, and the text below it."""

    name: str
    caption: str
    files: dict[str, bytes]

    @property
    def uri(self) -> str:
        """The first file as an address, so that the page needs no other file."""
        kind, content = next(iter(self.files.items()))
        return f"data:{TYPES[kind]};base64,{base64.b64encode(content).decode()}"


def against_epochs(
    groups: Sequence[Group], names: Sequence[str], kind: str, file_name: str
) -> list[Picture]:
    """Metrics against the number of epochs trained, one panel each; `kind` is that of the band."""
    panels: dict[str, list[Curves]] = {name: [] for name in names}
    for name, group in product(names, groups):
        seeds = [run.curve(name) for run in group.finished.values()]
        seeds = [curve for curve in seeds if len(curve) > 1]
        panels[name].append(Curves(seeds, band(seeds, kind) if seeds else None))
    rows = {group.label: group.network for group in groups}
    return _drawn(panels, rows, "epochs trained", file_name, LEGEND + BANDS[kind])


def against_key(
    results: Results, key: str, names: Sequence[str], kind: str, file_name: str
) -> list[Picture]:
    """Final metrics against a swept key, one line per combination of the other keys."""
    lines = lines_against(results.groups, key)
    panels: dict[str, list[Curves]] = {name: [] for name in names}
    for name, line in product(names, lines.values()):
        samples = pd.DataFrame({x: results.sample(name, group.label) for x, group in line.items()})
        seeds = [values.dropna() for _, values in samples.iterrows() if values.notna().any()]
        panels[name].append(Curves(seeds, band(seeds, kind, complete=False) if seeds else None))
    rows = {label: next(iter(line.values())).network for label, line in lines.items()}
    return _drawn(panels, rows, key, file_name, LEGEND + BANDS[kind], swept=True)


def spectra(groups: Sequence[Group]) -> list[Picture]:
    """Spectral densities of the Hessian, where they were measured."""
    curves: list[Curves] = []
    for group in groups:
        readings = [run.measures.get("hessian", {}) for run in group.finished.values()]
        found = [d for reading in readings if (d := reading.get("details", {}).get("density"))]
        seeds = [pd.Series(d["density"], d["grid"], dtype=float) for d in found]
        curves.append(Curves([d.where(d > 1e-7 * d.max()) for d in seeds]))  # a logarithmic axis
    panel = {"density of the Hessian of the training loss": curves}
    rows = {group.label: group.network for group in groups}
    return _drawn(panel, rows, "eigenvalue", "spectra", "Each seed.")


def of_runs(groups: Sequence[Group], pattern: str) -> list[Picture]:
    """PNG files in run directories, of each row's first run that has any."""
    pictures = []
    for group in groups:
        found = {seed: sorted(r.directory.glob(pattern)) for seed, r in group.finished.items()}
        seed = next((seed for seed, files in found.items() if files), None)
        for file in found.get(seed, []):
            words = file.stem.removesuffix("_end").replace("_", " ")
            row = "".join(c if c.isalnum() or c in ".-=" else "_" for c in group.label)
            caption = f"{group.label}, seed {seed}: {words}"
            pictures.append(Picture(f"{file.stem}-{row}", caption, {"png": file.read_bytes()}))
    return pictures


def _drawn(
    panels: Mapping[str, Sequence[Curves]],
    rows: Mapping[str, str],
    x_label: str,
    file_name: str,
    legend: str,
    swept: bool = False,
) -> list[Picture]:
    """A figure of the panels that have any curve; `rows`: networks by label."""
    panels = {title: drawn for title, drawn in panels.items() if any(c.seeds for c in drawn)}
    if not panels:
        return []
    figure = plot_curves(panels, list(rows), list(rows.values()), x_label, swept=swept)
    return [Picture(file_name, f"Against {x_label}. {legend}", _encoded(figure))]


def _encoded(figure: "Figure") -> dict[str, bytes]:
    """The figure in all formats; the same bytes for the same figure."""
    from matplotlib import rc_context

    files = {}
    for kind, metadata in DATES.items():
        buffer = io.BytesIO()
        with rc_context({"svg.hashsalt": "report"}):
            options = {"dpi": DOTS_PER_INCH, "bbox_inches": "tight", "metadata": metadata}
            figure.savefig(buffer, format=kind, **options)
        files[kind] = buffer.getvalue()
    return files
