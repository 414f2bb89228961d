"""A report from start to end: read the runs, compute, draw, and write the page and its files."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from src.errors import UserError
from src.files import CHECKPOINTS, IMAGES, MEASURES, write_bytes, write_text
from src.plots.curves import MOST_NAMED
from src.reports import figures, results
from src.reports.grouping import Group, check_keys, group_runs, split_studies
from src.reports.metrics import (
    AGAINST,
    ALONG,
    DETAILS,
    DYNAMICS,
    SHOWN,
    SKILL,
    START,
    check_patterns,
    choose,
    compared,
    families,
    without,
)
from src.reports.naming import file_stem
from src.reports.page import Section, Study, render
from src.reports.reading import read_all
from src.reports.results import Results
from src.reports.shared import shared_settings
from src.reports.statistics import INTERVAL
from src.reports.swept import by_data, check_swept, swept_keys
from src.reports.unfinished import find_unfinished

TRAININGS = ("train", "search", None)  # tasks
OVERALL = f"{DYNAMICS}/relaxed_weight_error"
RESULTS_TEXT = """\
n counts seeds; the interval is that of the mean, by Student's t, for independent and normally
distributed seeds. One run has none. Values that are NaN or infinite are left out and counted."""
PAIRED_TEXT = """\
Mean over seeds of the metric of the first less that of the second, both with the same seed, of
rows that one choice alone tells apart: of two, the difference would have two causes. The interval
takes differences to be normally distributed. Of many intervals some leave out zero by chance:
decide on one metric beforehand."""
OWN_PICTURES = (  # anchor, title, files in a run's directory
    ("relaxed_weights", "Relaxed weights after training", f"{IMAGES}/relaxed_weights_end.png"),
    ("forecasts", "Forecasts of test data", f"{IMAGES}/forecast.png"),
    ("measures", "Measures of checkpoints", f"{CHECKPOINTS}/{MEASURES}/*.png"),
)
SKILL_TEXT = """\
1 - MSE / MSE of the better of the last frame repeated and linear extrapolation, at the same step:
above 0 a forecast is better than both, which know nothing of the flow. They are rows of the tables,
and depend on the data alone: they have no seeds."""
MOST_PARTS = 4  # data whose curves are drawn apart where rows are too many to name
NOT_PAIRED = "No two rows that one choice alone tells apart have a seed in common."


@dataclass(frozen=True)
class Options:
    """What the page is to show: the options of the command line, see ``--help``."""

    metrics: Sequence[str] | None = None
    x: Sequence[str] | None = None
    group_by: Sequence[str] | None = None
    baseline: str | None = None
    title: str | None = None
    band: str = INTERVAL


def write_report(folders: Sequence[Path], out: Path | None = None, **options: object) -> Path:
    """Read run directories; write the page, its figures and its tables; return the page's path.

    Nothing is averaged over runs whose configs differ in anything but the seed, and only what has
    finished. Runs of different tasks or data sets are studies of their own. Files of an earlier
    report are overwritten, other files in the folder stay.

    Args:
        folders: run and sweep directories.
        out: folder of the report; None: ``report`` in the first of the folders.
        options: those of `Options`.

    Raises:
        UserError: for directories without runs, an unknown metric or key, or a baseline that is
            no row.
    """
    asked = Options(**options)
    found = read_all(folders)
    out = out or folders[0] / "report"
    if out.exists() and not out.is_dir():
        raise UserError(f"`--out` must be a directory; got the file {out}. Name another one.")
    trainings = [run for run in found.runs if run.task in TRAININGS and run.config]
    check_keys(trainings, asked.group_by or (), "--group-by")
    check_keys(trainings, asked.x or (), "--x")
    parts = split_studies(trainings)
    rows = {title: group_runs(runs, asked.group_by) for title, runs in parts.items()}
    computed = {title: Results(groups) for title, groups in rows.items()}
    everything = [group for groups in rows.values() for group in groups]
    results.find_row(everything, asked.baseline)
    check_swept(everything, asked.x)
    known = {name for result in computed.values() for name in result.names} | _logged(everything)
    check_patterns(known, asked.metrics)

    studies = []
    for title, result in computed.items():
        sections = [s for s in _sections(result, asked) if s.text or s.tables or s.pictures]
        studies.append(Study(title, result.groups, shared_settings(result.groups), sections))
    title = asked.title or f"Report of {folders[0].resolve().name}"
    _write_files(out, studies, list(computed.values()))
    write_text(out / "index.html", render(title, studies, find_unfinished(found)))
    return out / "index.html"


def _sections(result: Results, asked: Options) -> list[Section]:
    """Figures, then tables; with sections that may have nothing to show."""
    names = choose(result.names, asked.metrics, SHOWN)
    return [
        *_skill(result, asked),
        *_figures(result, names, asked),
        *_tables(result, names, asked),
    ]


def _skill(result: Results, asked: Options) -> list[Section]:
    """How much better forecasts are than those that know nothing, by the steps ahead."""
    names = choose(choose(result.names, SKILL, ()), asked.metrics or SKILL, ())
    if not names:
        return []
    pictures = figures.against_steps(result, names, asked.band, "skill")
    table = results.per_step(result, names)
    return [Section("skill", "Skill of forecasts", SKILL_TEXT, [table], pictures)]


def _figures(result: Results, names: Sequence[str], asked: Options) -> list[Section]:
    """Metrics against what was swept, curves, and what runs drew themselves."""
    groups, sections = result.groups, []
    ends = [name for name in names if not name.startswith(f"{START}/")]
    drawn = ends if asked.metrics else without(compared(choose(ends, None, AGAINST)), DETAILS)
    for key, short in swept_keys(groups, asked.x).items():
        anchor = file_stem(f"against_{short}")
        pictures = figures.against_key(result, key, drawn, asked.band, anchor)
        sections.append(Section(anchor, f"Against {short}", pictures=pictures))

    logged = _logged(groups)
    along = choose(logged, asked.metrics, ALONG)
    dynamics = [name for name in along if name.startswith(f"{DYNAMICS}/")]
    layers = sorted(n for n in logged if n.startswith(f"{OVERALL}/") and OVERALL in dynamics)
    curves = {"curves": ("Curves", along)}  # metrics that are named share one figure
    if asked.metrics is None:
        others = [name for name in along if name not in dynamics]
        curves = {"curves": ("Curves", others), "dynamics": ("Dynamics", compared(dynamics))}
    curves["relaxed_weight_error_layers"] = ("Relaxed-weight error of each layer", layers)
    parts = by_data(groups) if len(groups) > MOST_NAMED else {}
    if not 1 < len(parts) <= MOST_PARTS:
        parts = {"": list(groups)}
    for (anchor, (title, members)), (data, rows) in product(curves.items(), parts.items()):
        share_y = members is layers
        stem = file_stem("-".join(filter(None, (anchor, data))))
        pictures = figures.against_epochs(rows, members, asked.band, stem, share_y)
        title = ", ".join(filter(None, (title, data)))
        sections.append(Section(stem, title, pictures=pictures))

    for anchor, title, pattern in OWN_PICTURES:
        sections.append(Section(anchor, title, pictures=figures.of_runs(groups, pattern)))
    spectra = figures.spectra(groups)
    return [*sections, Section("spectra", "Spectra of the Hessian", pictures=spectra)]


def _tables(result: Results, names: Sequence[str], asked: Options) -> list[Section]:
    """Results, by what was swept, paired differences, and the configs."""
    groups = result.groups
    tables = results.complete(result, names)
    columns = names if asked.metrics else without(families(names).get("results", []), DETAILS)
    if columns:
        tables.insert(0, results.overview(result, columns))
    text = RESULTS_TEXT if names else "No run has finished with one of the metrics."
    sections = [Section("results", "Results", text, tables)]
    for key, short in swept_keys(groups, asked.x).items():
        table = results.against(result, key, short, names)
        sections.append(Section(table.name, f"By {short}", "", [table]))
    if len(groups) > 1:
        baseline = next((g for g in groups if g.label == asked.baseline), None)
        paired = results.paired(result, baseline, names)
        text = PAIRED_TEXT if paired else NOT_PAIRED
        sections.append(Section("paired", "Paired differences", text, paired))
        text = "Seeds, and where and how loudly a run went, are left out."
        sections.append(Section("configs", "Configs that differ", text, [results.configs(groups)]))
    return sections


def _logged(groups: Sequence[Group]) -> set[str]:
    """Metrics that finished runs logged along training."""
    return {n for g in groups for run in g.finished.values() for n in run.curve_names()}


def _write_files(out: Path, studies: Sequence[Study], computed: Sequence[Results]) -> None:
    """Write the figures and tables of all studies, with the study's name where there are more."""
    for study, result in zip(studies, computed):
        start = f"{file_stem(study.title)}-" if len(studies) > 1 else ""
        for section in study.sections:
            section.anchor = start + section.anchor
            for picture in section.pictures:
                picture.name = file_stem(start + picture.name)
                for ending, data in picture.files.items():
                    write_bytes(out / "figures" / f"{picture.name}.{ending}", data)
        tables = [table for section in study.sections for table in section.tables]
        for table in (*tables, results.each_run(result)):
            path = out / "tables" / file_stem(start + table.name)
            write_text(f"{path}.csv", table.csv())
            write_text(f"{path}.md", table.markdown())
            write_text(f"{path}.tex", table.latex())
