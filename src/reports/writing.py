"""A report from start to end: read the runs, compute, draw, and write the page and its files."""

from collections.abc import Sequence
from pathlib import Path

from src.errors import UserError
from src.files import CHECKPOINTS, IMAGES, MEASURES, write_bytes, write_text
from src.reports import figures, results
from src.reports.grouping import group_runs, swept_keys
from src.reports.metrics import ALONG, DYNAMICS, SHOWN, START, check_patterns, choose, families
from src.reports.page import Section, render
from src.reports.reading import read_all
from src.reports.results import Results
from src.reports.statistics import INTERVAL
from src.reports.unfinished import find_unfinished

TRAININGS = ("train", "search", None)  # tasks
OVERALL = f"{DYNAMICS}/relaxed_weight_error"
RESULTS_TEXT = """\
n counts seeds; the interval is that of the mean, by Student's t, for independent and normally
distributed seeds. One run has none. Values that are NaN or infinite are left out and counted."""
PAIRED_TEXT = """\
Mean over seeds of the metric of the first less that of the second, both with the same seed. The
interval takes differences to be normally distributed. Of many intervals some leave out zero by
chance: decide on one metric beforehand."""


def write_report(
    folders: Sequence[Path],
    *,
    out: Path | None = None,
    metrics: Sequence[str] | None = None,
    group_by: Sequence[str] | None = None,
    baseline: str | None = None,
    title: str | None = None,
    band: str = INTERVAL,
) -> Path:
    """Read run directories; write the page, its figures and its tables; return the page's path.

    Nothing is averaged over runs whose configs differ in anything but the seed, and only what has
    finished. Files of an earlier report are overwritten, other files in the folder stay.

    Args:
        folders: run and sweep directories.
        out: folder of the report; None: ``report`` in the first of the folders.
        metrics, group_by, baseline, title, band: as on the command line.

    Raises:
        UserError: for directories without runs, an unknown metric or key, or a baseline that is
            no row.
    """
    found = read_all(folders)
    out = out or folders[0] / "report"
    if out.exists() and not out.is_dir():
        raise UserError(f"`--out` must be a directory; got the file {out}. Name another one.")
    trainings = [run for run in found.runs if run.task in TRAININGS and run.config]
    groups = group_runs(trainings, group_by)
    computed = Results(groups)
    sections = _sections(computed, metrics, baseline, band)
    title = title or f"Report of {folders[0].resolve().name}"
    page = render(title, groups, find_unfinished(found), sections)
    for picture in (picture for section in sections for picture in section.pictures):
        for ending, data in picture.files.items():
            write_bytes(out / "figures" / f"{picture.name}.{ending}", data)
    tables = [table for section in sections for table in section.tables]
    for table in (*tables, results.each_run(computed)):
        path = out / "tables" / table.name
        write_text(f"{path}.csv", table.csv())
        write_text(f"{path}.md", table.markdown())
        write_text(f"{path}.tex", table.latex())
    write_text(out / "index.html", page)
    return out / "index.html"


def _sections(
    computed: Results, metrics: Sequence[str] | None, baseline: str | None, kind: str
) -> list[Section]:
    """What the page shows; sections without anything to show are left out."""
    groups = computed.groups
    logged = {n for g in groups for run in g.finished.values() for n in run.curve_names()}
    check_patterns(computed.names | logged, metrics)
    names = choose(computed.names, metrics, SHOWN)
    along = choose(logged, metrics, ALONG)

    tables = results.complete(computed, names)
    columns = names if metrics else families(names).get("results", [])
    if columns:
        tables.insert(0, results.overview(computed, columns))
    text = RESULTS_TEXT if names else "No run has finished with one of the metrics."
    sections = [Section("results", "Results", text, tables)]
    paired = results.paired(computed, baseline, names)
    if len(groups) > 1:
        text = PAIRED_TEXT if paired else "The other rows have no seed in common with the first."
        sections.append(Section("paired", "Paired differences", text, paired))

    ends = [name for name in names if not name.startswith(f"{START}/")]
    for key, short in swept_keys(groups).items():
        anchor = f"against_{short}"
        table = results.against(computed, key, short, names)
        pictures = figures.against_key(computed, key, ends, kind, anchor)
        sections.append(Section(anchor, f"Against {short}", "", [table], pictures))

    dynamics = [name for name in along if name.startswith(f"{DYNAMICS}/")]
    layers = sorted(n for n in logged if n.startswith(f"{OVERALL}/") and OVERALL in dynamics)
    drawn = {"curves": ("Curves", along)}  # metrics that are named share one figure
    if metrics is None:
        others = [name for name in along if name not in dynamics]
        drawn = {"curves": ("Curves", others), "dynamics": ("Dynamics", dynamics)}
    drawn["relaxed_weight_error_layers"] = ("Relaxed-weight error of each layer", layers)
    for anchor, (title, members) in drawn.items():
        pictures = figures.against_epochs(groups, members, kind, anchor)
        sections.append(Section(anchor, title, pictures=pictures))

    maps = figures.of_runs(groups, f"{IMAGES}/relaxed_weights_end.png")
    forecasts = figures.of_runs(groups, f"{IMAGES}/forecast.png")
    measured = figures.of_runs(groups, f"{CHECKPOINTS}/{MEASURES}/*.png")
    sections += [
        Section("relaxed_weights", "Relaxed weights after training", pictures=maps),
        Section("forecasts", "Forecasts of test data", pictures=forecasts),
        Section("spectra", "Spectra of the Hessian", pictures=figures.spectra(groups)),
        Section("measures", "Measures of checkpoints", pictures=measured),
    ]
    if len(groups) > 1:
        text = "Seeds, and what changes no more than last digits, are left out."
        sections.append(Section("configs", "Configs that differ", text, [results.configs(groups)]))
    return [section for section in sections if section.text or section.tables or section.pictures]
