"""Show what W&B wrote to a run's disk: names, keys of config and history, and images.

python scripts/read_wandb.py <run directory or .wandb file>
"""

import argparse
import sys

import rootutils

rootutils.setup_root(__file__, indicator=".project-root", pythonpath=True, dotenv=False)

from src.loggers.wandb_offline import WandbRun, find_wandb_files, read_wandb_file  # noqa: E402


def describe(run: WandbRun) -> str:
    """A run as text: one line per key, with the number of values and the last one."""
    state = "killed" if run.exit_code is None else f"ended with {run.exit_code}"
    lines = [
        f"{run.path}",
        f"run {run.id}, name {run.name}, group {run.group or '-'}, {run.job_type or '-'}, {state}",
        f"config keys: {', '.join(sorted(run.config))}",
        f"history keys ({len(run.history)} rows): values, last value",
    ]
    images = run.images()
    pictures = {image.key for image in images}
    for key in run.keys:
        values = run.values(key)
        last = "image" if key in pictures else f"{values[-1]:.6g}"
        lines.append(f"  {key}: {len(values)}, {last}")
    lines.append(f"images ({len(images)}): key, step, file")
    for image in images:
        caption = f' "{image.caption}"' if image.caption else ""
        lines.append(f"  {image.key}, {image.step}, {image.path.name}{caption}")
    return "\n".join(lines)


def main() -> None:
    """Print every start of the run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", help="run directory or .wandb file")
    path = parser.parse_args().path
    files = find_wandb_files(path)
    if not files:
        sys.exit(f"A run that logged to W&B has wandb/*/run-<id>.wandb; got none in {path}.")
    print("\n\n".join(describe(read_wandb_file(file)) for file in files))


if __name__ == "__main__":
    main()
