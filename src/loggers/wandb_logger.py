"""Weights & Biases as a logger of a run: its name, its group, its id, and how it is continued."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import DummyExperiment
from lightning.pytorch.utilities import rank_zero_only

from src.files import WANDB_FILE, WANDB_ROWS, write_json, write_text
from src.loggers.wandb_run import finish_wandb, start_run

if TYPE_CHECKING:
    from wandb import Run

STEP = "trainer/global_step"  # Lightning's name of the x axis
NAME_LENGTH = 128  # W&B's limit
LEFT_OUT = ("paths.", "extras.", "logger", "launcher", "tags", "resume", "sweep.")  # of names


class WandbRunLogger(WandbLogger):
    """Logs a run to W&B, or to its directory for a later `wandb sync`.

    The run starts with the first thing logged (see `start_run` for when it is offline) and ends
    with `finish`. All metrics have `trainer/global_step` on the x axis.

    A run that is started again with the same `save_dir` continues under the same id, kept in
    `wandb_run.json`. It goes back to a checkpoint, W&B's history does not. So that this has no row
    twice and none missing,

    - `wandb_rows.jsonl` lists step and metrics of every row, in W&B's order, and a metric is
      logged only at steps after the last one that an earlier start listed;
    - of an online run only the rows that the server has stay listed (a kill can lose others);
    - an offline part numbers its rows from where the parts before it ended.

    Args:
        save_dir: the run directory; W&B's files go to `<save_dir>/wandb`.
        project: W&B project.
        name: name of the run; None: its overrides (`seed=1,model.alpha=0.1`), or its directory.
        group: group of the run; None: the directory of the sweep in a multirun, else no group.
        server_timeout: seconds that the server is given to start a run.
        finish_timeout: seconds that an online run is given to finish its upload.
        options: other options of `wandb.init`: `entity`, `job_type`, `tags`, `notes`.
    """

    def __init__(
        self,
        save_dir: str,
        project: str,
        name: str | None = None,
        group: str | None = None,
        server_timeout: float = 10.0,
        finish_timeout: float = 20.0,
        **options: Any,
    ) -> None:
        super().__init__(save_dir=save_dir, project=project)
        known = read_identity(Path(save_dir))
        hydra = HydraConfig.get() if HydraConfig.initialized() else None
        typed = hydra.overrides.task if hydra else []
        typed = [text for text in typed if not text.lstrip("+~").startswith(LEFT_OUT)]
        default_name = (",".join(typed) or Path(save_dir).name)[:NAME_LENGTH]
        sweep = Path(hydra.sweep.dir).name if hydra and hydra.mode == RunMode.MULTIRUN else None
        self._id = known.get("id")
        self._arguments = {
            **options,
            "dir": save_dir,
            "project": project,
            "name": name or known.get("name") or default_name,
            "group": group or known.get("group", sweep),
        }
        self._timeouts = {"init_timeout": server_timeout, "finish_timeout": finish_timeout}
        self._rows = Path(save_dir) / WANDB_ROWS
        self._last_steps: dict[str, int] = {}
        self._exit_code = 0
        self.lost = False  # whether W&B did not start: such a logger is of no use

    @property
    def experiment(self) -> "Run":
        """The W&B run, which the first access starts; a dummy if `lost` or of rank > 0."""
        if self._experiment is None and rank_zero_only.rank == 0:
            run = None if self.lost else start_run(self._arguments, self._id, self._timeouts)
            if run is None:
                self.lost = True
                return DummyExperiment()
            define_x_axis(run)
            if not run.disabled:
                self._continue_rows(run)
                self._id = run.id
                identity = {**self._arguments, "id": run.id, "project": run.project}
                del identity["dir"]  # run directories may be moved
                write_json(self._rows.with_name(WANDB_FILE), identity)
            self._experiment = run
        return super().experiment

    def _continue_rows(self, run: "Run") -> None:
        """Note by metric the last step that earlier starts logged; count on from their rows."""
        text = self._rows.read_text(encoding="utf-8") if self._id and self._rows.is_file() else ""
        rows = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
        if run.offline and rows:
            run.log({}, step=len(rows), commit=False)
        elif not run.offline:
            rows = rows[: run.starting_step]
        write_text(self._rows, "".join(rows))
        for step, *names in map(json.loads, rows):
            for name in names if step is not None else ():
                self._last_steps[name] = max(step, self._last_steps.get(name, -1))

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any]) -> None:
        """Log the config, except what it has from a sweep: W&B would warn of it, however equal."""
        run = self.experiment
        if self.lost:
            return
        known = dict(run.config)
        new = {key: v for key, v in params.items() if key not in known or known[key] != v}
        super().log_hyperparams(new)

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Log metrics, except those that an earlier start of the run logged at this step."""
        disabled = self.experiment.disabled  # and starts the run, which reads the steps
        if self.lost:
            return
        if step is not None:
            metrics = {k: v for k, v in metrics.items() if step > self._last_steps.get(k, -1)}
        if metrics:
            super().log_metrics(metrics, step)
            if not disabled:
                with self._rows.open("a", encoding="utf-8") as file:
                    file.write(json.dumps([step, *metrics]) + "\n")

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Keep the state, success or failure, that W&B will show for the run."""
        super().finalize(status)
        self._exit_code = 0 if status == "success" else 1

    @rank_zero_only
    def finish(self) -> None:
        """End the run, if one was started."""
        if self._experiment is not None:
            finish_wandb(self._exit_code)


def define_x_axis(run: "Run") -> None:
    """Put the number of optimizer steps on the x axis of all metrics."""
    run.define_metric(STEP)
    run.define_metric("*", step_metric=STEP, step_sync=True)


def read_identity(directory: Path) -> dict[str, Any]:
    """Id, project, name, group, ... of a run directory's W&B run; empty where there is none."""
    path = directory / WANDB_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
