"""A report from start to end: read the runs, compute, draw, and write the page and its files."""

import json
from pathlib import Path

from src.errors import UserError
from src.files import write_bytes, write_json
from src.reports.grouping import group_runs
from src.reports.page import render
from src.reports.reading import read_all
from src.reports.sections import Options, make_content

PAGE, MANIFEST = "index.html", "files.json"


def write_report(options: Options) -> Path:
    """Read run directories, and write the page, its figures and its tables.

    Nothing is averaged over runs whose configs differ in anything but the seed, and only what has
    finished. Each file is written at once; those of an earlier report that are not made again are
    removed. Other files in the folder stay.

    Returns:
        The page's path.

    Raises:
        UserError: for directories without runs, an unknown metric or key, or a baseline that is
            no row.
    """
    found = read_all(options.folders)
    out = options.out or options.folders[0] / "report"
    if out.exists() and not out.is_dir():
        raise UserError(f"`--out` must be a directory; got the file {out}. Name another one.")
    trainings = [run for run in found.runs if run.is_training]
    groups = group_runs([run for run in trainings if run.config], options.group_by)
    content, tables = make_content(found, groups, options)
    pictures = [picture for section in content.sections for picture in section.pictures]
    files = {f"figures/{p.name}.{kind}": data for p in pictures for kind, data in p.files.items()}
    for table in tables:
        files[f"tables/{table.name}.csv"] = table.csv().encode()
        files[f"tables/{table.name}.md"] = table.markdown().encode()
        files[f"tables/{table.name}.tex"] = table.latex().encode()
    files[PAGE] = render(content).encode()
    _write(out, files)
    return out / PAGE


def _write(out: Path, files: dict[str, bytes]) -> None:
    """Write all files, the page last, and remove those of an earlier report that are left over."""
    earlier = _earlier(out)
    for name, data in files.items():
        write_bytes(out / name, data)
    write_json(out / MANIFEST, sorted(files))
    for name in earlier - set(files):
        (out / name).unlink(missing_ok=True)


def _earlier(out: Path) -> set[str]:
    """Files of an earlier report in this folder."""
    try:
        names = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return set()
    return {name for name in names if (out / name).resolve().is_relative_to(out.resolve())}
