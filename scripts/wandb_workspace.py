"""Save the project's W&B dashboard, which is written here as code, as a workspace of W&B.

python scripts/wandb_workspace.py --entity <user or team> [--group-by KEY] [--dry-run]

Loss, score, dynamics and relaxed weights, by run and by group of runs. Needs
`pip install -e ".[wandb]"` and an API key; with --dry-run no key: what would be saved is printed
as JSON. The request that saves it is tested against a server of our own, not against W&B's.
"""

import argparse
import contextlib
import json
import os
import warnings
from typing import TYPE_CHECKING, Any

import rootutils

rootutils.setup_root(__file__, indicator=".project-root", pythonpath=True, dotenv=True)

from src.loggers.wandb_run import done_within, finish_wandb, start_wandb, why_unreachable  # noqa: E402

if TYPE_CHECKING:
    from wandb_workspaces.reports.v2 import Config, LinePlot, Metric
    from wandb_workspaces.workspaces import Section, Workspace

# Axes; written out, as to import what defines them takes seconds.
STEP = "trainer/global_step"
EPOCHS_TRAINED = "epochs_trained"

LOSS = ("train/loss", "val/loss", "train/penalty")
SCORE = ("val/acc", "val/rmse")  # along training
TESTED = ("test/acc", "test/rmse")  # once
DYNAMICS = (
    "equivariance_error",
    "equivariance_error_floor",
    "lie_derivative",
    "lie_derivative_relative",
    "sharpness",
    "sharpness_relative",
    "sharpness_worst_case",
    "hessian_max",
    "hessian_min",
    "hessian_trace",
)
RELAXED = "dynamics/relaxed_weight_error"
OPTIMISATION = ("grad_norm", "update_ratio", "learning_rate", "step_time")
PICTURES = ("images/relaxed_weights", "images/kernels")

NETWORK = "model.net._target_"
ATTRIBUTES = {"group": "Group", "sweep": "Sweep", "job_type": "JobType"}  # of runs, beside config
SECONDS = 4.0  # what a server is given to answer, and then to save


def build_workspace(entity: str, project: str, name: str, group_by: str) -> "Workspace":
    """The workspace: what is shown, and how runs are grouped.

    Args:
        entity: user or team.
        project: whose runs are shown.
        name: of the workspace.
        group_by: `group`, `sweep` or `job_type` of the runs, or a key of their config, as in
            `model.net._target_` or `model.alpha`; `none`: every run by itself.

    Raises:
        SystemExit: without the package wandb-workspaces.
    """
    ws, wr, expr = _import_packages()
    key = _group_key(wr, group_by)
    groups = [] if key is None else [getattr(expr, type(key).__name__)(key.name)]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=[_open_section(ws, *section) for section in _sections(wr, key)],
        settings=ws.WorkspaceSettings(x_axis=STEP, max_runs=50),
        runset_settings=ws.RunsetSettings(groupby=groups),
        auto_generate_panels=False,
    )


def _import_packages() -> tuple[Any, Any, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the package's own, of pydantic
            import wandb_workspaces.reports.v2 as wr
            import wandb_workspaces.workspaces as ws
            from wandb_workspaces import expr
    except ModuleNotFoundError as error:
        raise SystemExit(
            f"The dashboard is built with the package wandb-workspaces; got: {error}. Install it "
            'with: pip install -e ".[wandb]"'
        ) from None
    return ws, wr, expr


def _group_key(wr: Any, group_by: str) -> "Config | Metric | None":
    if group_by == "none":
        return None
    return wr.Metric(ATTRIBUTES[group_by]) if group_by in ATTRIBUTES else wr.Config(group_by)


def _open_section(ws: Any, name: str, panels: list[Any]) -> "Section":
    return ws.Section(name=name, panels=panels, is_open=True)


def _sections(wr: Any, key: "Config | Metric | None") -> list[tuple[str, list[Any]]]:
    def lines(name: str, x: str = EPOCHS_TRAINED) -> "LinePlot":
        return wr.LinePlot(title=name, x=x, y=[name], **_grouped(key))

    def dynamics(names: tuple[str, ...]) -> list[Any]:
        return [lines(f"dynamics/{name}") for name in names]

    tested = [
        wr.BarPlot(title=name, metrics=[name], groupby=key, groupby_aggfunc=key and "mean")
        for name in TESTED
    ]
    each_layer = wr.LinePlot(
        title=f"{RELAXED}, per layer",
        x=EPOCHS_TRAINED,
        metric_regex=f"{RELAXED}/.*",
        **_grouped(key),
    )
    each_run = wr.LinePlot(
        title=f"{RELAXED}, per run",
        x=EPOCHS_TRAINED,
        y=[RELAXED],
        groupby="None",  # not even as the table of runs is
        aggregate=False,
    )
    pictures = [wr.MediaBrowser(title=name, media_keys=[name]) for name in PICTURES]
    return [
        ("Loss", [lines(name, STEP) for name in LOSS]),
        ("Score", [lines(name, STEP) for name in SCORE] + tested),
        ("Dynamics", dynamics(DYNAMICS)),
        ("Relaxed weights", [lines(RELAXED), each_run, each_layer, *pictures]),
        ("Optimisation", dynamics(OPTIMISATION)),
    ]


def _grouped(key: "Config | Metric | None") -> dict[str, Any]:
    """Of a group of runs the mean, and the range from the smallest to the largest."""
    if key is None:
        return {}
    return {"groupby": key, "groupby_aggfunc": "mean", "groupby_rangefunc": "minmax"}


def describe(workspace: "Workspace") -> dict[str, Any]:
    """What is sent to the server."""
    return json.loads(workspace._model.model_dump_json(by_alias=True, exclude_none=True))


def save(workspace: "Workspace") -> str:
    """Save the workspace as a new one, within seconds, and return its address.

    Raises:
        SystemExit: when there is no key, no answer, or a refusal.
    """
    import wandb

    settings = start_wandb()
    _check_server(settings)
    failures: list[Exception] = []
    addresses: list[str] = []

    def send() -> None:
        try:
            workspace.entity = workspace.entity or wandb.Api().default_entity
            workspace.save()
            addresses.append(workspace.url)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told
            failures.append(error)

    done_within(SECONDS, send)
    if not addresses:
        reason = str(failures[0]) if failures else f"no answer within {SECONDS:.0f} s"
        reason = " ".join(reason.split())
        raise SystemExit(
            f"{settings.base_url} must accept the workspace; got: {reason}. Check --entity, "
            "--project and the key, or look at the workspace with --dry-run."
        )
    return addresses[0]


def _check_server(settings: Any) -> None:
    import wandb

    key = False
    with contextlib.suppress(wandb.Error):  # a malformed one
        key = wandb.login(prompt=False, verify=False)
    if not key:
        raise SystemExit(
            "Saving a workspace needs a W&B API key; got none that can be used. Set WANDB_API_KEY "
            "(environment or .env), or run `wandb login`; --dry-run needs no key."
        )
    problem = why_unreachable(settings.base_url, SECONDS)
    if problem is not None:
        raise SystemExit(
            f"{settings.base_url} must be reachable to save a workspace; got: {problem}. Try again "
            "later; --dry-run needs no server."
        )


def main() -> None:
    """Print the workspace, or save it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = os.environ.get("WANDB_PROJECT", "relaxed-symmetry")
    parser.add_argument("--entity", default=os.environ.get("WANDB_ENTITY", ""))
    parser.add_argument("--project", default=default, help="%(default)s")
    parser.add_argument("--name", default="Training dynamics", help="%(default)s")
    grouping = "group, sweep, job_type, none, or a key of the config; %(default)s"
    parser.add_argument("--group-by", default=NETWORK, help=grouping)
    parser.add_argument("--dry-run", action="store_true", help="print it as JSON")
    options = parser.parse_args()
    workspace = build_workspace(options.entity, options.project, options.name, options.group_by)
    if options.dry_run:
        print(json.dumps(describe(workspace), indent=2))
        return
    try:
        print(save(workspace))
    finally:
        finish_wandb()


if __name__ == "__main__":
    main()
