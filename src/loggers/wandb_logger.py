"""Weights & Biases as a logger of a run: its name, its group, its id, and how it is continued."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from src.files import WANDB_FILE, write_json
from src.loggers.wandb_offline import find_wandb_files, read_history
from src.loggers.wandb_run import finish_wandb, start_run

if TYPE_CHECKING:
    from wandb import Run

STEP = "trainer/global_step"  # Lightning's name of the x axis
NAME_LENGTH = 128  # W&B's limit
UNTELLING = ("paths.", "extras.", "logger", "launcher", "tags", "resume", "sweep.")
# overrides left out of names


class WandbRunLogger(WandbLogger):
    """Logs a run to W&B, or to its directory for a later `wandb sync`.

    The run is offline when `WANDB_MODE` or `wandb offline` says so, when no key is configured
    (`WANDB_API_KEY`, `.env`, a login), when the key is no good, and when the server cannot be
    reached. It starts with the first thing logged and ends with `finish`. All metrics have
    `trainer/global_step` on the x axis.

    A run that is started again with the same `save_dir` continues under the same id, kept in
    `wandb_run.json`, and does not log again what it has logged. While parts of it wait for
    `wandb sync` it stays offline, so that the parts are uploaded in their order.

    Args:
        save_dir: the run directory; W&B's files go to `<save_dir>/wandb`.
        project: W&B project.
        entity: W&B user or team; None: the key's default.
        name: of the run; None: its overrides (`seed=1,model.alpha=0.1`), or its directory.
        group: of the run; None: the directory of the sweep in a multirun, else no group.
        job_type: of the run.
        tags: of the run.
        notes: of the run.
        server_timeout: seconds that the server is given to start a run.
        finish_timeout: seconds that an online run is given to finish its upload.
    """

    def __init__(
        self,
        save_dir: str,
        project: str,
        entity: str | None = None,
        name: str | None = None,
        group: str | None = None,
        job_type: str | None = None,
        tags: list[str] | None = None,
        notes: str | None = None,
        server_timeout: float = 10.0,
        finish_timeout: float = 20.0,
    ) -> None:
        super().__init__(save_dir=save_dir, project=project)
        self._identity = read_identity(Path(save_dir))
        self._id = self._identity.get("id")
        self._arguments = {
            "dir": save_dir,
            "project": project,
            "entity": entity,
            "name": name or self._identity.get("name") or _default_name(save_dir),
            "group": group or self._identity.get("group", _sweep_name()),
            "job_type": job_type,
            "tags": tags,
            "notes": notes,
        }
        self._timeouts = {"init_timeout": server_timeout, "finish_timeout": finish_timeout}
        self._last_steps: dict[str, int] = {}
        self._exit_code = 0

    @property
    def experiment(self) -> "Run":
        """The W&B run, which the first access starts; in processes of rank > 0 a dummy."""
        attached = getattr(self, "_attach_id", None) is not None
        if self._experiment is None and not attached and rank_zero_only.rank == 0:
            self._experiment = self._start()
        return super().experiment

    def _start(self) -> "Run":
        directory = Path(self._arguments["dir"])
        run = start_run(self._arguments, self._id, self._timeouts)
        define_x_axis(run)
        if run.disabled:
            return run
        self._last_steps = _continue_history(run, directory) if self._id else {}
        self._id = run.id
        identity = {"id": run.id, **{key: self._arguments[key] for key in ("name", "group")}}
        write_json(directory / WANDB_FILE, identity)
        return run

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any]) -> None:
        """Log the config, except what it has from a sweep: W&B would warn of it, however equal."""
        known = dict(self.experiment.config)
        new = {key: v for key, v in params.items() if key not in known or known[key] != v}
        super().log_hyperparams(new)

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Log metrics, except those that an earlier start of the run logged at this step."""
        _ = self.experiment  # knows what earlier starts logged
        if step is not None:
            metrics = {k: v for k, v in metrics.items() if step > self._last_steps.get(k, -1)}
        if metrics:
            super().log_metrics(metrics, step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Note how training or testing ended, which W&B will show as the run's state."""
        super().finalize(status)
        self._exit_code = 0 if status == "success" else 1

    @rank_zero_only
    def finish(self) -> None:
        """End the run, if one was started, and tell where it is."""
        if self._experiment is not None:
            finish_wandb(self._exit_code)


def define_x_axis(run: "Run") -> None:
    """Put the number of optimizer steps on the x axis of all metrics."""
    run.define_metric(STEP)
    run.define_metric("*", step_metric=STEP, step_sync=True)


def read_identity(directory: Path) -> dict[str, Any]:
    """Id, name and group of the W&B run of a run directory; empty where there is none."""
    path = directory / WANDB_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _continue_history(run: "Run", directory: Path) -> dict[str, int]:
    """Let a continued run count on from its rows; by metric, the last step that it has logged.

    What an online run did not send before it was killed is not among them.
    """
    last: dict[str, int] = {}
    rows = 0
    for file in find_wandb_files(directory, run.id):
        for row in read_history(file):
            if run.offline or row["_step"] < run.starting_step:
                rows = max(rows, row["_step"] + 1)
                last.update({key: max(last.get(key, -1), row[STEP]) for key in row if STEP in row})
    if run.offline and rows:
        run.log({}, step=rows, commit=False)
    return last


def _sweep_name() -> str | None:
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return None
    return Path(HydraConfig.get().sweep.dir).name


def _default_name(save_dir: str) -> str:
    typed = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    telling = [text for text in typed if not text.lstrip("+~").startswith(UNTELLING)]
    return (",".join(telling) or Path(save_dir).name)[:NAME_LENGTH]
