"""Equivariance error and test error of relaxed networks against the weight alpha of the penalty.

python scripts/alpha_study.py logs/train/multiruns/<sweep> [--figure docs/alpha.png]
"""

import argparse
import statistics
from collections import defaultdict
from pathlib import Path

import rootutils
from matplotlib.axes import Axes
from matplotlib.figure import Figure

ROOT = rootutils.setup_root(__file__, indicator=".project-root", pythonpath=True, dotenv=False)

from scripts.results_table import find_runs, spread  # noqa: E402
from src.plots.style import save_figure  # noqa: E402
from src.reports.reading import StoredRun  # noqa: E402

RMSE = "test/rmse"
ENDS = {
    "relaxed-weight error": "dynamics/relaxed_weight_error",
    "equivariance error": "dynamics/equivariance_error",
}

Cells = dict[tuple[int, float], list[StoredRun]]


def by_level_and_alpha(folders: list[Path]) -> Cells:
    """Finished runs on the levels of the smoke set."""
    cells = defaultdict(list)
    for runs in find_runs(folders, RMSE).values():
        for run in runs:
            cells[run.config["data"]["level"], float(run.config["model"]["alpha"])].append(run)
    return dict(sorted(cells.items()))


def values(runs: list[StoredRun], name: str) -> list[float]:
    """A figure of each run: of the tested network, or at the end of training."""
    if name == RMSE:
        return [run.summary["test"][RMSE] for run in runs]
    return [run.summary["last"]["metrics"][name] for run in runs]


def table(cells: Cells) -> str:
    """One line per level and alpha; means over seeds, with the sample standard deviation."""
    head = ["level", "alpha", "seeds", *ENDS, "test RMSE"]
    lines = [" | ".join(head), " | ".join(["---"] * len(head))]
    for (level, alpha), runs in cells.items():
        ends = [f"{statistics.mean(values(runs, name)):.2g}" for name in ENDS.values()]
        seeds = ", ".join(str(seed) for seed in sorted(run.seed for run in runs))
        row = [str(level), f"{alpha:g}", seeds, *ends, spread(values(runs, RMSE), 3)]
        lines.append(" | ".join(row))
    return "\n".join(f"| {line} |" for line in lines)


def draw_panel(axes: Axes, cells: Cells, name: str, title: str) -> None:
    """Each seed as a point, their mean as a line; alpha = 0 stands at the left end."""
    levels = sorted({level for level, _ in cells})
    alphas = sorted({alpha for _, alpha in cells})
    for index, level in enumerate(levels):
        color, means = f"C{index}", []
        for place, alpha in enumerate(alphas):
            found = values(cells[level, alpha], name)
            axes.plot([place] * len(found), found, "o", color=color, ms=3, alpha=0.5)
            means.append(statistics.mean(found))
        axes.plot(range(len(alphas)), means, color=color, label=f"level {level}")
    axes.set_xticks(range(len(alphas)), [f"{alpha:g}" for alpha in alphas])
    axes.set(xlabel="alpha", title=title)
    axes.grid(alpha=0.3)


def draw(cells: Cells, path: Path) -> None:
    """Both errors at the end of training and the test error, against alpha."""
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    panels = {**ENDS, "test RMSE": RMSE}
    for axes, (title, name) in zip(figure.subplots(1, len(panels)), panels.items()):
        draw_panel(axes, cells, name, title)
        if name != RMSE:
            axes.set_yscale("log")
    figure.axes[0].legend()
    save_figure(figure, path, 110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, help="run or sweep directories")
    parser.add_argument("--figure", type=Path, help="draw into this file")
    arguments = parser.parse_args()
    cells = by_level_and_alpha(arguments.folders)
    print(table(cells))
    if arguments.figure:
        draw(cells, arguments.figure)


if __name__ == "__main__":
    main()
