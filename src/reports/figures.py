"""Figures of a report: those drawn over seeds, and those that runs drew themselves."""

import base64
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import pandas as pd

from src.plots.curves import COLUMNS, MOST_NAMED, Curves, Row, plot_curves
from src.plots.style import DOTS_PER_INCH
from src.reports.grouping import Group
from src.reports.naming import canonical, file_stem, label_of, short_names
from src.reports.results import Results
from src.reports.statistics import BANDS, FEWEST_IN_BAND, band
from src.reports.swept import data_of, going_along, variant

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BELOW = f"from {FEWEST_IN_BAND} seeds on a band, the"
# Formats, that of the page first, without what makes the bytes depend on the day.
DATES = {"png": {}, "pdf": {"CreationDate": None}}
MOST_PICTURES = 12  # rows whose runs' own pictures are shown


@dataclass
class Picture:
    """A figure in the page: name and content by ending of its files, and the text below it."""

    name: str
    caption: str
    files: dict[str, bytes]

    @property
    def uri(self) -> str:
        """The PNG as an address, so that the page needs no other file."""
        return f"data:image/png;base64,{base64.b64encode(self.files['png']).decode()}"


def against_epochs(
    groups: Sequence[Group], names: Sequence[str], kind: str, file_name: str, share_y: bool = False
) -> list[Picture]:
    """Metrics against the number of epochs trained, one panel each; `kind` is that of the band."""
    panels: dict[str, list[Curves]] = {name: [] for name in names}
    for name, group in product(names, groups):
        seeds = [run.curve(name) for run in group.finished.values()]
        seeds = [curve for curve in seeds if len(curve) > 1]
        panels[name].append(Curves(seeds, band(seeds, kind) if seeds else None))
    rows = [Row(group.label, group.network, variant(group)) for group in groups]
    text = f"Thin: seeds; thick: their mean; {BELOW} {BANDS[kind]}."
    return _drawn(panels, rows, "epochs trained", file_name, text, share_y=share_y)


def against_key(
    results: Results, key: str, names: Sequence[str], kind: str, file_name: str
) -> list[Picture]:
    """Final metrics against a swept key: points are seeds, a line joins the means of a row's."""
    lines = results.lines(key)
    panels: dict[str, list[Curves]] = {name: [] for name in names}
    for name, line in product(names, lines):
        points = {x: (name, group.label) for x, group in line.rows.items()}
        panels[name].append(_over_seeds(results, points, kind))
    text = f"Points: seeds; lines: their means; {BELOW} {BANDS[kind]}."
    drawn = [row for line in lines for row in line.rows.values() if row in results.groups]
    along = going_along(drawn, key)
    text += f" What goes along: {', '.join(short_names(along))}." if along else ""
    missing = len(results.groups) - len(drawn)
    text += f" Left out: {missing} rows that no other number stands beside." if missing else ""
    rows = [Row(line.label, line.network, line.variant) for line in lines]
    return _drawn(panels, rows, key, file_name, text, swept=True)


def against_steps(
    results: Results, names: Sequence[str], kind: str, file_name: str
) -> list[Picture]:
    """Metrics of single steps, such as ``test/skill/01``: a panel for each test set and data."""
    sets: dict[str, list[str]] = defaultdict(list)
    for name in names:
        sets[name.rpartition("/")[0]].append(name)
    rows: dict[str, Row] = {}
    found: dict[str, dict[str, Curves]] = defaultdict(dict)
    for (metric, steps), group in product(sets.items(), results.groups):
        data = data_of(group)
        own = {key: value for key, value in group.named.items() if key not in data}
        row = Row(label_of(own) or group.network, group.network, variant(group, list(data)))
        title = ", ".join(filter(None, (metric, label_of(data))))
        points = {int(name.rpartition("/")[2]): (name, group.label) for name in steps}
        rows[canonical(own)] = row
        found[title][canonical(own)] = _over_seeds(results, points, kind)
    panels = {title: [of.get(row, Curves([])) for row in rows] for title, of in found.items()}
    text = f"Thin: seeds; thick: their mean; {BELOW} {BANDS[kind]}. Not shown: below -1."
    number = len(panels) // len(sets)  # a line of panels for each set, if they fit
    options = {"share_y": True, "columns": number if 1 < number < COLUMNS else COLUMNS}
    return _drawn(panels, list(rows.values()), "steps ahead", file_name, text, **options)


def spectra(groups: Sequence[Group]) -> list[Picture]:
    """Spectral densities of the Hessian, where they were measured."""
    curves: list[Curves] = []
    for group in groups:
        readings = [run.measures.get("hessian", {}) for run in group.finished.values()]
        found = [d for reading in readings if (d := reading.get("details", {}).get("density"))]
        seeds = [pd.Series(d["density"], d["grid"], dtype=float) for d in found]
        curves.append(Curves([d.where(d > 1e-7 * d.max()) for d in seeds]))  # a logarithmic axis
    panel = {"density of the Hessian of the training loss": curves}
    rows = [Row(group.label, group.network, variant(group)) for group in groups]
    return _drawn(panel, rows, "eigenvalue", "spectra", "Each seed.")


def of_runs(groups: Sequence[Group], pattern: str) -> list[Picture]:
    """PNG files in run directories, with the PDF beside each, of each row's first run with any."""
    pictures: list[Picture] = []
    rows = 0
    for group in groups:
        found = {seed: sorted(r.directory.glob(pattern)) for seed, r in group.finished.items()}
        seed = next((seed for seed, files in found.items() if files), None)
        rows += seed is not None
        for file in found.get(seed, []) if rows <= MOST_PICTURES else []:
            words = file.stem.removesuffix("_end").replace("_", " ")
            caption = f"{group.label}, seed {seed}: {words}"
            paths = {kind: file.with_suffix(f".{kind}") for kind in ("png", "pdf")}
            files = {kind: path.read_bytes() for kind, path in paths.items() if path.is_file()}
            pictures.append(Picture(file_stem(f"{file.stem}-{group.label}"), caption, files))
    return pictures


def _over_seeds(results: Results, points: Mapping[float, tuple[str, str]], kind: str) -> Curves:
    """Curves through metrics of rows, each by its position."""
    samples = pd.DataFrame({x: results.sample(*point) for x, point in points.items()})
    seeds = [values.dropna() for _, values in samples.iterrows() if values.notna().any()]
    return Curves(seeds, band(seeds, kind, complete=False) if seeds else None)


def _drawn(
    panels: Mapping[str, Sequence[Curves]],
    rows: Sequence[Row],
    x_label: str,
    file_name: str,
    text: str,
    **options: Any,
) -> list[Picture]:
    """A figure of the panels that have any curve."""
    panels = {title: drawn for title, drawn in panels.items() if any(c.seeds for c in drawn)}
    if not panels:
        return []
    if len(rows) > MOST_NAMED:
        text = (
            f"Means over seeds of {len(rows)} rows, too many to name; colours tell networks apart."
        )
    figure = plot_curves(panels, rows, x_label, **options)
    return [Picture(file_name, f"Against {x_label}. {text}", _encoded(figure))]


def _encoded(figure: "Figure") -> dict[str, bytes]:
    """The figure in all formats; the same bytes for the same figure."""
    files = {}
    for kind, metadata in DATES.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, dpi=DOTS_PER_INCH, metadata=metadata)
        figure.set_layout_engine("none")  # it is found; it would be sought again for each format
        files[kind] = buffer.getvalue()
    return files
