"""Save the project's W&B dashboard, which is written here as code, as a workspace of W&B.

python scripts/wandb_workspace.py --entity <user or team> [--group-by KEY] [--dry-run]

Loss, score, dynamics and relaxed weights, by run and by group of runs. Needs
`pip install -e ".[wandb]"` and an API key; with --dry-run no key: what would be saved is printed
as JSON. The request that saves it is tested against a server of our own, not against W&B's.
"""

import argparse
import contextlib
import os
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import rootutils

rootutils.setup_root(__file__, indicator=".project-root", pythonpath=True, dotenv=True)

from src.loggers.wandb_run import done_within, finish_wandb, start_wandb  # noqa: E402

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Workspace

# Axes; written out, as to import what defines them takes seconds.
STEP, EPOCHS_TRAINED = "trainer/global_step", "epochs_trained"
RELAXED = "dynamics/relaxed_weight_error"
OF_LAYERS = (RELAXED, "dynamics/theta", "dynamics/multiplier")
DYNAMICS = ("equivariance_error", "lie_derivative")
DYNAMICS += ("lie_derivative_relative", "sharpness", "sharpness_curvature", "sharpness_worst_case")
DYNAMICS += ("hessian_max", "hessian_min", "hessian_trace")
DYNAMICS += ("departure", "departure_gradient", "projected_loss", "projected_loss_change")
OPTIMISATION = ("grad_norm", "update_ratio", "first_step", "learning_rate", "step_time")
NETWORK = "model.net._target_"
ATTRIBUTES = {"group": "Group", "sweep": "Sweep", "job_type": "JobType"}  # of runs, beside config
SECONDS = 4.0  # what a server is given to save it


def build_workspace(entity: str, project: str, name: str, group_by: str) -> "Workspace":
    """The workspace of an entity's project, with runs grouped by an attribute or a config key."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the package's own, of pydantic
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
        from wandb_workspaces import expr

    key = wr.Metric(ATTRIBUTES[group_by]) if group_by in ATTRIBUTES else wr.Config(group_by)
    bars, groups = {"groupby": key, "groupby_aggfunc": "mean"}, []
    if group_by == "none":
        bars = grouped = {}
    else:  # the mean of a group of runs, and the range from the smallest to the largest
        grouped = {**bars, "groupby_rangefunc": "minmax"}
        groups = [getattr(expr, type(key).__name__)(key.name)]

    def lines(names: Sequence[str], x: str = EPOCHS_TRAINED) -> list[Any]:
        return [wr.LinePlot(title=name, x=x, y=[name], **grouped) for name in names]

    alone = {"groupby": "None", "aggregate": False}  # not even grouped as the table of runs is
    each_run = wr.LinePlot(title=f"{RELAXED}, per run", x=EPOCHS_TRAINED, y=[RELAXED], **alone)
    layers = [{"title": f"{name}, per layer", "metric_regex": f"{name}/.*"} for name in OF_LAYERS]
    each_layer = [wr.LinePlot(x=EPOCHS_TRAINED, **layer, **grouped) for layer in layers]
    images = ("images/relaxed_weights", "images/kernels")
    pictures = [wr.MediaBrowser(title=name, media_keys=[name]) for name in images]
    tested = [wr.BarPlot(title=n, metrics=[n], **bars) for n in ("test/acc", "test/rmse")]
    sections = {
        "Loss": lines(["train/loss", "val/loss", "val/loss_reestimated", "train/penalty"], STEP),
        "Score": [*lines(["val/acc_reestimated", "val/rmse_reestimated"], STEP), *tested],
        "Dynamics": lines([f"dynamics/{name}" for name in DYNAMICS]),
        "Relaxed weights": [*lines([RELAXED]), each_run, *each_layer, *pictures],
        "Optimisation": lines([f"dynamics/{name}" for name in OPTIMISATION]),
    }
    return ws.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=[ws.Section(name=n, panels=p, is_open=True) for n, p in sections.items()],
        settings=ws.WorkspaceSettings(x_axis=STEP, max_runs=50),
        runset_settings=ws.RunsetSettings(groupby=groups),
        auto_generate_panels=False,
    )


def save(workspace: "Workspace") -> str:
    """Save the workspace as a new one, within seconds, and return its address."""
    import wandb

    url = start_wandb().base_url
    key = False
    with contextlib.suppress(wandb.Error):  # a malformed one
        key = wandb.login(prompt=False, verify=False)
    if not key:
        raise SystemExit("Saving needs a W&B API key. Set WANDB_API_KEY, or run `wandb login`.")
    problems = [f"no answer within {SECONDS:.0f} s"]

    def send() -> None:
        try:
            workspace.entity = workspace.entity or wandb.Api().default_entity
            workspace.save()
            problems.clear()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is reported
            problems.insert(0, " ".join(str(error).split()))

    done_within(SECONDS, send)
    if problems:
        raise SystemExit(f"{url} must accept the workspace; got: {problems[0]}. Check --entity.")
    return workspace.url


def main() -> None:
    """Print the workspace, or save it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add, environment = parser.add_argument, os.environ
    add("--entity", default=environment.get("WANDB_ENTITY", ""), help="user or team")
    add(
        "--project",
        default=environment.get("WANDB_PROJECT", "relaxed-symmetry"),
        help="%(default)s",
    )
    add("--name", default="Training dynamics", help="%(default)s")
    grouping = "group, sweep, job_type, none, or a key of the config; %(default)s"
    add("--group-by", default=NETWORK, help=grouping)
    add("--dry-run", action="store_true", help="print it as JSON")
    options = parser.parse_args()
    workspace = build_workspace(options.entity, options.project, options.name, options.group_by)
    try:
        shown = workspace._model.model_dump_json(indent=2, by_alias=True, exclude_none=True)
        print(shown if options.dry_run else save(workspace))
    finally:
        finish_wandb()


if __name__ == "__main__":
    main()
