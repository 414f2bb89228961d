"""Test error of forecasts by network and level of the data, over seeds, as Markdown tables.

python scripts/smoke_table.py logs/train/multiruns/<sweep> [more folders]
"""

import argparse
from collections import defaultdict
from pathlib import Path

import rootutils

ROOT = rootutils.setup_root(__file__, indicator=".project-root", pythonpath=True, dotenv=False)

from scripts.results_table import find_runs, spread  # noqa: E402
from src.reports.reading import StoredRun  # noqa: E402

RMSE, PERSISTENCE = "test/rmse", "test/rmse_persistence"
ERROR = "dynamics/equivariance_error"

Cells = dict[tuple[str, int], list[StoredRun]]


def by_level(folders: list[Path]) -> Cells:
    """Finished runs on the levels of the smoke set, by network and level."""
    cells = defaultdict(list)
    for network, runs in find_runs(folders, RMSE).items():
        for run in runs:
            if "level" in run.config["data"]:
                cells[network, run.config["data"]["level"]].append(run)
    if not cells:
        raise SystemExit("These runs are not on data=smoke_level. Use scripts/results_table.py.")
    return cells


def rmse_table(cells: Cells) -> str:
    """Test RMSE, mean and sample standard deviation, one column per level."""
    levels = sorted({level for _, level in cells})
    lines = _head(["network", "parameters", "seeds", *(f"level {level}" for level in levels)])
    for network in _networks(cells):
        runs = [run for (name, _), group in cells.items() if name == network for run in group]
        errors = [_spread(cells.get((network, level), []), RMSE) for level in levels]
        lines.append(_line([network, _parameters(runs), _seeds(runs), *errors]))
    repeated = [
        f"{next(run.summary['test'][PERSISTENCE] for run in _of_level(cells, level)):.3f}"
        for level in levels
    ]
    lines.append(_line(["last frame repeated", "0", "-", *repeated]))
    return "\n".join(lines)


def error_table(cells: Cells) -> str:
    """Equivariance error before the first step (largest) and at the end, per level."""
    levels = sorted({level for _, level in cells})
    lines = _head(["network", "start", *(f"end, level {level}" for level in levels)])
    for network in _networks(cells):
        runs = [run for (name, _), group in cells.items() if name == network for run in group]
        start = max(run.summary["start"][ERROR] for run in runs)
        ends = [
            [run.summary["last"]["metrics"][ERROR] for run in cells.get((network, level), [])]
            for level in levels
        ]
        texts = ["-" if not e else f"{sum(e) / len(e):.2g}" for e in ends]
        lines.append(_line([network, f"{start:.2g}", *texts]))
    return "\n".join(lines)


def _networks(cells: Cells) -> list[str]:
    return list(dict.fromkeys(network for network, _ in cells))


def _of_level(cells: Cells, level: int) -> list[StoredRun]:
    return [run for (_, found), group in cells.items() if found == level for run in group]


def _parameters(runs: list[StoredRun]) -> str:
    return ", ".join(sorted({f"{run.summary['num_parameters']:,}" for run in runs}))


def _seeds(runs: list[StoredRun]) -> str:
    return ", ".join(str(seed) for seed in sorted({run.seed for run in runs}))


def _spread(runs: list[StoredRun], metric: str) -> str:
    return spread([run.summary["test"][metric] for run in runs], 3) if runs else "-"


def _head(columns: list[str]) -> list[str]:
    return [_line(columns), "|---" * len(columns) + "|"]


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, help="run or sweep directories")
    cells = by_level(parser.parse_args().folders)
    print(f"{rmse_table(cells)}\n\n{error_table(cells)}")


if __name__ == "__main__":
    main()
