"""Start and end a W&B run: online with a key and a server, else offline; no prompt, no hang.

wandb itself is imported when a run starts, so that runs without it do not pay for it.
"""

import logging
import os
import shlex
import shutil
import ssl
import sys
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.errors import UserError
from src.loggers.deadlines import done_within, within

if TYPE_CHECKING:
    from wandb import Run, Settings

log = logging.getLogger(__name__)

ONLINE = ("online", "run", "shared")  # values of WANDB_MODE
OFFLINE = "W&B: this run is kept offline, because %s."
MISSING = "W&B: nothing of this run goes there, because %s. Its directory holds everything."
STARTING_SECONDS = 45.0  # what wandb's process is given to start, besides `init_timeout`
CLOSING_SECONDS = 10.0  # what it is given to end
HANGING: list[str] = []  # a reason, once a call of wandb did not return: another one would wait too


def find_parts(directory: str | Path, run_id: str) -> list[Path]:
    """The `.wandb` files of a W&B run in a run directory: one for each time it was started."""
    return list(Path(directory).glob(f"wandb/*run-*/run-{run_id}.wandb"))


def is_waiting(part: Path) -> bool:
    """Whether a `.wandb` file is of an offline run and waits for `wandb sync`."""
    offline = part.parent.name.startswith("offline-")
    return offline and not part.with_suffix(".wandb.synced").exists()


def start_run(
    arguments: dict[str, Any], run_id: str | None, timeouts: dict[str, float]
) -> "Run | None":
    """Start a run, after ending the process's previous one; None where wandb fails or hangs.

    It is offline when `WANDB_MODE` or `wandb offline` says so, without a key that can be used
    (`WANDB_API_KEY`, `.env`, a login), when the server cannot be reached, and while parts of a
    continued run wait for `wandb sync`, so that all parts are uploaded in their order.

    A new run that the agent of a W&B sweep has started (WANDB_SWEEP_ID) has the agent's id
    (WANDB_RUN_ID), project and entity. A continued run keeps its own id there too.

    Args:
        arguments: options of `wandb.init`: `dir`, `project`, `name`, ...
        run_id: id of the run to continue, or None for a new one.
        timeouts: `init_timeout` and `finish_timeout`, in seconds.

    Raises:
        UserError: names a setting that W&B refuses.
    """
    seconds = timeouts["init_timeout"] + STARTING_SECONDS
    try:
        if not HANGING:
            return within(seconds, lambda: _start_run(arguments, run_id, timeouts))
    except UserError:
        raise
    except TimeoutError:
        HANGING.append(f"it did not start within {seconds:.0f} s")
    except Exception as error:
        logging.getLogger("file_only").exception("W&B failed.")
        log.warning(MISSING, f"it did not start ({_one_line(error)})")
        return None
    log.warning(MISSING, HANGING[0])
    return None


def _start_run(arguments: dict[str, Any], run_id: str | None, timeouts: dict[str, float]) -> "Run":
    # wandb would report errors and usage to its makers, also from offline runs.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb
    import wandb.apis.public  # wandb.init would import it too, half a second slower
    from wandb.sdk.lib.runid import generate_id

    finish_wandb()
    waiting = run_id is not None and any(map(is_waiting, find_parts(arguments["dir"], run_id)))
    found = start_wandb(in_sweep=run_id is None)
    mode = found.mode
    if mode != "disabled" and (why := _why_offline(found, waiting, timeouts["init_timeout"])):
        level, reason = why
        log.log(level, OFFLINE, reason)
        mode = "offline"
    settings = wandb.Settings(
        **timeouts,
        finish_timeout_raises=True,
        console="off",
        quiet=True,
        save_code=False,
        # What a kill may lose; the default of 15 s is several epochs of a small network.
        x_transaction_log_flush_interval=0.1,
    )
    begin = {**arguments, "id": run_id or generate_id(), "settings": settings}
    begin["resume"] = "allow" if run_id else None
    if found.sweep_id:
        begin |= {"id": None, "project": None, "entity": None}  # wandb takes the agent's
    if mode in ONLINE:
        folder = Path(arguments["dir"]) / "wandb"
        before = set(folder.glob("run-*"))
        try:
            run = wandb.init(**begin, mode=mode)
            log.info("W&B: %s", run.url)
        except (wandb.Error, TimeoutError) as error:
            log.warning(OFFLINE, f"the server did not start it ({_one_line(error)})")
            # An offline start in the same wandb process would wait for the server too.
            done_within(CLOSING_SECONDS, wandb.teardown)
            for leftover in set(folder.glob("run-*")) - before:
                shutil.rmtree(leftover, ignore_errors=True)
            start_wandb(in_sweep=begin["id"] is None)
            mode = "offline"
    if mode not in ONLINE:
        run = wandb.init(**begin, mode=mode)
    wandb.termsetup(wandb.Settings(show_info=False), None)  # its warnings from here on
    return run


def finish_wandb(exit_code: int = 0) -> None:
    """End this process's W&B run, if there is one, and all that wandb set up in the process.

    Takes no longer than the run's `finish_timeout` and a few seconds, and logs how to upload what
    is left. An exit code of 0 means success.
    """
    wandb = sys.modules.get("wandb")
    if wandb is None or HANGING:
        return
    run = wandb.run

    def finish() -> None:
        directory, offline = Path(run.sync_dir), run.offline
        try:
            run.finish(exit_code=exit_code)
        except TimeoutError:
            command = f"wandb sync --include-online {shlex.quote(str(directory))}"
            log.warning("W&B: the upload did not end in time. Upload the rest with: %s", command)
            return
        if offline:
            command = f"wandb sync {shlex.quote(str(directory.parent))}"
            log.info("W&B: upload this run with: %s", command)

    if run is not None and not done_within(run.settings.finish_timeout + CLOSING_SECONDS, finish):
        log.warning("W&B did not end the run; what it wrote is kept in %s", run.sync_dir)
        wandb.run = None
    done_within(CLOSING_SECONDS, wandb.teardown)


def start_wandb(in_sweep: bool = True) -> "Settings":
    """Start wandb silently, and return its settings: defaults, files, environment.

    Without `in_sweep`, a sweep that the environment names (WANDB_SWEEP_ID) does not count.

    Raises:
        UserError: names a setting that W&B refuses.
    """
    import wandb

    with suppress(ImportError):  # reporting on itself, wandb 0.31 hangs where it does not start
        from wandb.analytics.opentelemetry import opentelemetry_proxy

        opentelemetry_proxy.disable()

    silent = wandb.Settings(silent=True, relogin=False, force=False)
    wandb.termsetup(silent, None)
    try:
        settings = wandb.setup(silent).settings
    except ValueError as error:
        raise UserError(
            f"W&B refuses one of its settings; got: {_one_line(error)}. Correct or unset the "
            "WANDB_... variable of that name (in the environment or .env), or use logger=csv."
        ) from error
    if not in_sweep:
        settings.sweep_id = None  # or else wandb.init would not take another id
    return settings


def _why_offline(settings: "Settings", waiting: bool, seconds: float) -> tuple[int, str] | None:
    """Level and text of the reason why a run has to be offline; None where it need not."""
    import wandb

    if settings.mode not in ONLINE:
        return logging.INFO, "WANDB_MODE or `wandb offline` says so"
    try:
        if not wandb.login(prompt=False, verify=False):
            return logging.INFO, "no API key is configured (WANDB_API_KEY, .env or `wandb login`)"
    except wandb.Error as error:
        return logging.WARNING, f"its API key cannot be used ({_one_line(error)})"
    if waiting:
        return logging.INFO, "an earlier part of it is not uploaded yet"
    if settings.http_proxy or settings.https_proxy:
        return None
    problem = why_unreachable(settings.base_url, seconds / 2)
    return problem and (logging.WARNING, f"{settings.base_url} cannot be reached ({problem})")


def why_unreachable(url: str, seconds: float) -> str | None:
    """Why no server answers at `url`, or None when one does, whatever it answers.

    wandb itself would keep trying, also where the name cannot be resolved.
    """
    problems = [f"no answer within {seconds:.0f} s"]

    def ask() -> None:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{url}/graphql", data=b"{}", headers=headers)
        try:
            urllib.request.urlopen(request, timeout=seconds).close()
        except urllib.error.HTTPError as answer:
            answer.close()
        except OSError as error:
            cause = getattr(error, "reason", error)
            if not isinstance(cause, ssl.SSLError):  # wandb has certificates of its own
                problems[0] = _one_line(cause)
                return
        problems.clear()

    done_within(seconds, ask)
    return problems[0] if problems else None


def _one_line(error: object) -> str:
    return " ".join(str(error).split()).rstrip(".")
