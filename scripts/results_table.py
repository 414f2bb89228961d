"""Mean and standard deviation over seeds of finished runs, as a Markdown table and a figure.

python scripts/results_table.py logs/train/multiruns/<date> [more folders] [--figure FILE.png]
"""

import argparse
import csv
import json
import statistics
from collections import defaultdict
from pathlib import Path

import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure

PANELS = {
    "val/acc": "validation accuracy",
    "dynamics/equivariance_error": "equivariance error (C4)",
    "dynamics/relaxed_weight_error": "relaxed-weight error",
}
COLUMNS = ("network", "parameters", "seeds", "test accuracy, %", "equivariance error, C4: start")
COLUMNS += ("end",)


class Run:
    """A finished run, read from its directory."""

    def __init__(self, directory: Path) -> None:
        self.summary = json.loads((directory / "summary.json").read_text())
        self.config = yaml.safe_load((directory / "config.yaml").read_text())
        self.network = self.config["model"]["net"]["_target_"].rpartition(".")[2]
        self.seed = self.summary["seed"]
        with (directory / "metrics.csv").open(newline="") as file:
            self.rows = list(csv.DictReader(file))

    def curve(self, name: str) -> dict[int, float]:
        """Values of a metric by the number of epochs trained."""
        values = {}
        for row in self.rows:
            if row.get(name):
                # dynamics carry the number themselves; Lightning counts epochs from zero
                trained = row.get("epochs_trained") or float(row["epoch"]) + 1
                values[int(float(trained))] = float(row[name])
        return values


def find_runs(folders: list[Path], metric: str) -> dict[str, list[Run]]:
    """Finished trainings below the folders that were tested by ``metric``, by network."""
    runs = defaultdict(list)
    for path in sorted(p for folder in folders for p in folder.rglob("summary.json")):
        run = Run(path.parent)
        trained = run.summary["status"] == "finished" and run.summary["task"] == "train"
        if trained and metric in run.summary["test"]:
            runs[run.network].append(run)
    if not runs:
        places = ", ".join(map(str, folders))
        raise SystemExit(f"No finished training run with {metric} below {places}.")
    return dict(sorted(runs.items()))


def mean_accuracy(runs: list[Run]) -> float:
    return statistics.mean(run.summary["test"]["test/acc"] for run in runs)


def spread(values: list[float], digits: int) -> str:
    """Mean and sample standard deviation."""
    text = f"{statistics.mean(values):.{digits}f}"
    return f"{text} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else text


def table(runs: dict[str, list[Run]]) -> str:
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


def draw_panel(axes: Axes, runs: dict[str, list[Run]], name: str, title: str) -> None:
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


def draw(runs: dict[str, list[Run]], path: Path) -> None:
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
