"""Report of runs and sweeps: one page with tables, curves, pictures, and what failed.

python src/report.py logs/train/multiruns/<sweep>
"""

import argparse
import sys
from pathlib import Path

import rootutils

ROOT = rootutils.setup_root(__file__, indicator=".project-root", pythonpath=True, dotenv=False)

EPILOG = """\
The page is <out>/index.html; nothing else is needed to read it. Beside it are its figures (PNG and
PDF) and tables (CSV, Markdown, LaTeX with booktabs); tables/runs.csv has all metrics of all runs.

A row is one config; only seeds are averaged over. Metrics are drawn against each number that was
swept, or those of --x, one line for each combination of the other keys. Runs of different tasks or
data sets stand apart. Runs that failed, were killed or never started are listed with their error
and the command to run them again. Only trainings count.

Examples
  python src/report.py logs/train/multiruns/<sweep>
  python src/report.py logs/train/runs/<run> logs/train/runs/<run> --out report
  python src/report.py <sweep> --x data.num_train --metrics test/acc
  python src/report.py <sweep> --metrics test/acc 'dynamics/*' --baseline GCNN
  python src/report.py <sweep> --group-by model.net._target_ data.level
"""


def main() -> None:
    """Entry point."""
    raw = argparse.RawDescriptionHelpFormatter
    description = __doc__.partition("\n")[0]
    parser = argparse.ArgumentParser(description=description, epilog=EPILOG, formatter_class=raw)
    add = parser.add_argument
    add("folders", nargs="+", type=Path, metavar="directory", help="of a run, or with runs below")
    add("--out", type=Path, help="where to write; default: <first directory>/report")
    add("--metrics", nargs="+", metavar="NAME", help="to show; patterns such as 'test/*' too")
    against = "draw metrics against numbers at config keys; default: all that were swept"
    add("--x", nargs="+", action="extend", metavar="KEY", help=against)
    add("--group-by", nargs="+", metavar="KEY", help="config keys that rows are named after")
    add("--baseline", metavar="ROW", help="to compare others with; default: see the page")
    add("--title", help="of the page")
    band = "around mean curves: 95 %% interval of the mean (default), or all seeds"
    add("--band", choices=("interval", "range"), default="interval", help=band)
    arguments = parser.parse_args()

    from src.errors import UserError

    try:
        from src.reports.writing import write_report

        path = write_report(**vars(arguments))
    except UserError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        text = "Interrupted. Runs are as they were; the same command writes the report anew.\n"
        sys.stderr.write(text)
        sys.exit(130)  # the status of shells after Ctrl-C
    sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
