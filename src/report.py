"""Report of runs and sweeps: one page with tables, curves, pictures, and what failed.

python src/report.py logs/train/multiruns/<sweep>
"""

import argparse
import sys
from pathlib import Path

import rootutils

ROOT = rootutils.setup_root(__file__, indicator=".project-root", pythonpath=True, dotenv=False)

EPILOG = """\
The page is <out>/index.html; nothing else is needed to read it. Beside it are its figures (SVG,
PNG, PDF) and tables (CSV, Markdown, LaTeX), and all metrics of all runs in tables/runs.csv.

A row is one config; only seeds are averaged over. Runs that failed, were killed or never started
are listed with their error and the command to run them again. Nothing but the directories is read.

Examples
  python src/report.py logs/train/multiruns/<sweep>
  python src/report.py logs/train/runs/<run> logs/train/runs/<run> --out report
  python src/report.py <sweep> --metrics test/acc 'dynamics/*' --baseline GCNN
  python src/report.py <sweep> --group-by model.net._target_ data.level
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = made.add_argument
    add("folders", nargs="+", type=Path, metavar="directory", help="of a run, or with runs below")
    add("--out", type=Path, help="where to write; default: <first directory>/report")
    add("--metrics", nargs="+", metavar="NAME", help="to show; patterns such as 'test/*' too")
    add("--group-by", nargs="+", metavar="KEY", help="config keys that rows are named after")
    add("--baseline", metavar="ROW", help="compare every other row with this one")
    add("--title", help="of the page")
    add(
        "--band",
        choices=("interval", "range"),
        default="interval",
        help="around mean curves: 95 %% interval of the mean (default), or all seeds",
    )
    return made


def main() -> None:
    """Entry point."""
    arguments = parser().parse_args()

    from src.errors import UserError
    from src.reports.writing import Options, write_report

    try:
        path = write_report(Options(**vars(arguments)))
    except UserError as error:
        sys.exit(str(error))
    sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
