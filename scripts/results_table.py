"""Mean and standard deviation over seeds of finished runs, as a Markdown table and a figure.

python scripts/results_table.py logs/train/multiruns/<sweep> [more folders] [--figure FILE.png]
"""

import argparse
import statistics
from collections import defaultdict
from pathlib import Path

import rootutils
from matplotlib.axes import Axes
from matplotlib.figure import Figure

ROOT = rootutils.setup_root(__file__, indicator=".project-root", pythonpath=True, dotenv=False)

from src.errors import UserError  # noqa: E402
from src.reports.reading import StoredRun, read_all  # noqa: E402

PANELS = {
    "val/acc": "validation accuracy",
    "dynamics/equivariance_error": "equivariance error (C4)",
    "dynamics/relaxed_weight_error": "relaxed-weight error",
}
COLUMNS = ("network", "parameters", "seeds", "test accuracy, %", "equivariance error, C4: start")
COLUMNS += ("end",)


def find_runs(folders: list[Path], metric: str) -> dict[str, list[StoredRun]]:
    """Finished trainings below the folders that were tested by ``metric``, by network."""
    try:
        found = read_all(folders)
    except UserError as error:
        raise SystemExit(str(error)) from None
    runs = defaultdict(list)
    for run in sorted(found.runs, key=lambda run: run.directory):
        trained = run.status == "finished" and run.task == "train"
        if trained and metric in run.summary["test"]:
            runs[run.network].append(run)
    if not runs:
        places = ", ".join(map(str, folders))
        raise SystemExit(f"No finished training run with {metric} below {places}.")
    return dict(sorted(runs.items()))


def mean_accuracy(runs: list[StoredRun]) -> float:
    return statistics.mean(run.summary["test"]["test/acc"] for run in runs)


def spread(values: list[float], digits: int) -> str:
    """Mean and sample standard deviation."""
    text = f"{statistics.mean(values):.{digits}f}"
    return f"{text} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else text


def table(runs: dict[str, list[StoredRun]]) -> str:
    """One line per network, best first."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    error = "dynamics/equivariance_error"
    for network, group in runs.items():
        ends = [run.summary["last"]["metrics"][error] for run in group]
        cells = (
            network,
            ", ".join(sorted({f"{run.summary['num_parameters']:,}" for run in group})),
            ", ".join(str(seed) for seed in sorted(run.seed for run in group)),
            spread([100 * run.summary["test"]["test/acc"] for run in group], 2),
            f"{max(run.summary['start'][error] for run in group):.2g}",
            spread(ends, 4) if max(ends) > 1e-4 else f"{max(ends):.2g}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw_panel(axes: Axes, runs: dict[str, list[StoredRun]], name: str, title: str) -> None:
    """Every run as a thin line, the mean over seeds as a thick one."""
    for index, (network, group) in enumerate(runs.items()):
        curves = [curve for run in group if (curve := run.curve(name))]
        if not curves:
            continue
        for curve in curves:
            axes.plot(list(curve), list(curve.values()), color=f"C{index}", alpha=0.25, lw=0.8)
        epochs = [e for e in curves[0] if all(e in curve for curve in curves)]
        means = [statistics.mean(curve[e] for curve in curves) for e in epochs]
        axes.plot(epochs, means, color=f"C{index}", lw=2, label=network)
    axes.set(title=title, xlabel="epochs trained")
    if "error" in name:
        axes.set_yscale("symlog", linthresh=1e-3)
        axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)


def draw(runs: dict[str, list[StoredRun]], path: Path) -> None:
    """Training dynamics of all networks, one panel per measure."""
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    for axes, (name, title) in zip(figure.subplots(1, len(PANELS)), PANELS.items()):
        draw_panel(axes, runs, name, title)
    figure.axes[0].legend(loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, help="run or sweep directories")
    parser.add_argument("--figure", type=Path, help="draw training curves into this file")
    arguments = parser.parse_args()
    runs = find_runs(arguments.folders, "test/acc")
    runs = dict(sorted(runs.items(), key=lambda item: -mean_accuracy(item[1])))
    print(table(runs))
    if arguments.figure:
        draw(runs, arguments.figure)


if __name__ == "__main__":
    main()
