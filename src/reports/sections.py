"""What the page shows, section by section."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from src.reports import figures, metrics, page, results
from src.reports.curves import BANDS, INTERVAL
from src.reports.grouping import Group
from src.reports.jobs import unfinished
from src.reports.pictures import Picture, pictures_of_measures, pictures_of_runs
from src.reports.reading import Collection
from src.reports.settings import differing_circumstances
from src.reports.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LONG = 40  # rows; longer tables are folded
OVERALL = "dynamics/relaxed_weight_error"
PAIRED_TEXT = (
    "Mean over seeds of the metric of the first less that of the second, both with the same seed. "
    "p is that of the two-sided paired t-test; it and the interval take differences to be normally "
    "distributed, and few seeds give wide intervals. Of many comparisons some are below 0.05 by "
    "chance: 'p, Holm' is adjusted for the number of pairs of rows, within each metric, but not "
    "for the number of metrics. Decide on one metric beforehand."
)


@dataclass(frozen=True)
class Options:
    """What a report is made of.

    Attributes:
        folders: run and sweep directories.
        out: where it is written; None: ``report`` in the first of the folders.
        metrics: names or patterns; None: test, validation, dynamics and measures.
        group_by: config keys that rows are named after; None: those that differ.
        baseline: row that the others are compared with; None: all are compared.
        title: of the page; None: made of the first folder's name.
        band: of curves, ``"interval"`` or ``"range"``.
    """

    folders: Sequence[Path]
    out: Path | None = None
    metrics: Sequence[str] | None = None
    group_by: Sequence[str] | None = None
    baseline: str | None = None
    title: str | None = None
    band: str = INTERVAL


def make_content(
    found: Collection, groups: list[Group], options: Options
) -> tuple[page.Content, list[Table]]:
    """The page's content, and all tables that are written."""
    values = results.collect(groups)
    known = {n for runs in values.values() for metrics_ in runs.values() for n in metrics_}
    logged = {n for g in groups for run in g.finished.values() for n in run.curve_names()}
    metrics.check_patterns(known | logged, options.metrics)
    names = metrics.choose(known, options.metrics, metrics.SHOWN)
    compared = results.pairs(groups, options.baseline)
    sections = [
        _results(groups, values, names),
        _paired(groups, values, names, compared),
        *_curves(groups, metrics.choose(logged, options.metrics, metrics.ALONG), options),
        *_pictures(groups, options),
    ]
    raw = results.each_run(groups, values)
    if differing := results.configs(groups):
        text = ["Seeds, and what changes no more than last digits, are left out."]
        sections.append(page.Section("configs", "Configs that differ", text, [differing]))
    left = unfinished(found)
    others = sum(not run.is_training for run in found.runs)
    trained = [run for group in groups for run in group.runs]
    content = page.Content(
        title=options.title or f"Report of {options.folders[0].resolve().name}",
        facts=page.facts(groups, left),
        warnings=page.warnings(groups, others, differing_circumstances(trained)),
        sections=[s for s in sections if s.tables or s.folded or s.pictures or s.text],
        unfinished=left,
        repetitions=page.repetitions(groups),
    )
    tables = [table for section in content.sections for table in (*section.tables, *section.folded)]
    return content, [*tables, raw]


def _results(groups: list[Group], values: results.ByGroup, names: list[str]) -> page.Section:
    found = results.complete(groups, values, names)
    shown = metrics.families(names).get("results", [])
    text = [
        "n counts seeds; the interval is that of the mean, by Student's t, for independent and "
        "normally distributed seeds. One run has none. Values that are NaN or infinite are left "
        "out and counted."
    ]
    if not found:
        text = ["No run has finished with one of the metrics."]
    overview = [results.overview(groups, values, shown)] if shown else []
    first, folded = _folded(found, "results")
    tables = [*overview, *first, results.counts(groups)]
    return page.Section("results", "Results", text, tables, folded)


def _folded(tables: list[Table], main: str) -> tuple[list[Table], list[Table]]:
    """The table that is open on the page, unless it is long, and the others."""
    shown = [table for table in tables if table.name == main and len(table.rows) <= LONG]
    return shown, [table for table in tables if table not in shown]


def _paired(
    groups: list[Group],
    values: results.ByGroup,
    names: list[str],
    compared: list[tuple[str, str]],
) -> page.Section:
    section = page.Section("paired", "Paired differences")
    if len(groups) < 2:
        return section
    if not compared:
        section.text = [f"Not shown for {len(groups)} rows: choose one with --baseline."]
        return section
    found = results.paired(values, compared, names)
    section.text = [PAIRED_TEXT if found else "No two rows have a seed in common."]
    section.tables, section.folded = _folded(found, "paired_results")
    return section


def _curves(groups: list[Group], names: list[str], options: Options) -> list[page.Section]:
    dynamics = [name for name in names if name.startswith(f"{metrics.DYNAMICS}/")]
    others = [name for name in names if name not in dynamics]
    layers = figures.layers_of(groups, OVERALL) if OVERALL in dynamics else []
    told = f"Thick: mean over seeds. Band: {BANDS[options.band]}. Thin: seeds."
    drawn = {
        "curves": ("Curves", others, f"Metrics against epochs trained. {told}"),
        "dynamics": ("Dynamics", dynamics, f"Dynamics against epochs trained. {told}"),
        "relaxed_weight_error_layers": (
            "Relaxed-weight error of each layer",
            layers,
            f"Relaxed-weight error of single layers against epochs trained. {told}",
        ),
    }
    sections = []
    for name, (title, members, caption) in drawn.items():
        figure = figures.draw_curves(groups, members, options.band)
        if figure is not None:
            pictures = [_drawn(figure, name, caption)]
            sections.append(page.Section(name, title, pictures=pictures))
    return sections


def _pictures(groups: list[Group], options: Options) -> list[page.Section]:
    sections = [
        page.Section(pictures[0].name.split("-")[0], heading, pictures=pictures)
        for heading, pictures in pictures_of_runs(groups).items()
    ]
    angles = figures.draw_angles(groups, options.band)
    spectra = figures.draw_spectra(groups)
    drawn = []
    if spectra is not None:
        drawn.append(_drawn(spectra, "spectra", "Spectral density of the Hessian, each seed."))
    if angles is not None:
        caption = f"Equivariance error of every angle. Band: {BANDS[options.band]}."
        drawn.append(_drawn(angles, "angles", caption))
    pictures = [*drawn, *pictures_of_measures(groups)]
    return [
        *sections,
        page.Section("spectra", "Spectra and measures of checkpoints", pictures=pictures),
    ]


def _drawn(figure: "Figure", name: str, caption: str) -> Picture:
    files = {kind: figures.encoded(figure, kind) for kind in figures.FORMATS}
    return Picture(name, caption, files["svg"], "svg", files)
