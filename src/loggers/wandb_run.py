"""Start and end a W&B run: online with a key and a server, else offline; no prompt, no hang.

wandb itself is imported when a run starts, so that runs without it do not pay for it.
"""

import http.client
import logging
import os
import secrets
import shlex
import shutil
import ssl
import string
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.loggers.wandb_offline import find_wandb_files, is_waiting

if TYPE_CHECKING:
    from wandb import Run, Settings

log = logging.getLogger(__name__)

ONLINE = ("online", "run", "shared")  # values of WANDB_MODE
OFFLINE = "W&B: this run is kept offline, because %s."
AGENTS = ("id", "project", "entity")  # of a run of a sweep: wandb takes them from its agent
CLOSING_SECONDS = 10.0  # what wandb's process is given to end


def start_run(arguments: dict[str, Any], run_id: str | None, timeouts: dict[str, float]) -> "Run":
    """Start a run, after ending the process's previous one.

    It is online where W&B's mode, key and server allow, else offline or disabled. While offline
    parts of a continued run wait for `wandb sync` it is offline, so that all parts are uploaded
    in their order.

    A new run that the agent of a W&B sweep has started (WANDB_SWEEP_ID) is the one that the agent
    announced: it has the agent's id (WANDB_RUN_ID), project and entity. A continued run keeps its
    own id there too.

    Args:
        arguments: of `wandb.init`: `dir`, `project`, `name`, ...
        run_id: of the run to continue, or None for a new one.
        timeouts: `init_timeout` and `finish_timeout`, in seconds.

    Raises:
        ValueError: when W&B refuses a setting, as in WANDB_MODE=of.
    """
    # wandb would report errors and usage to its makers, also from offline runs.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb
    import wandb.apis.public  # wandb.init would import it too, half a second slower

    finish_wandb()
    waiting = run_id is not None and any(
        is_waiting(file) for file in find_wandb_files(arguments["dir"], run_id)
    )
    wandb_settings = start_wandb(in_sweep=run_id is None)
    mode = _choose_mode(wandb_settings, waiting, timeouts["init_timeout"])
    settings = wandb.Settings(
        **timeouts,
        finish_timeout_raises=True,
        console="off",
        quiet=True,
        save_code=False,
        # What a kill may lose; the default of 15 s is several epochs of a small network.
        x_transaction_log_flush_interval=1.0,
    )
    begin = {**arguments, "id": run_id or _new_id(), "settings": settings}
    begin["resume"] = "allow" if run_id else None
    if wandb_settings.sweep_id:
        begin |= dict.fromkeys(AGENTS)
    run = _start_online({**begin, "mode": mode}) if mode in ONLINE else None
    if run is None:
        run = wandb.init(**begin, mode="disabled" if mode == "disabled" else "offline")
    wandb.termsetup(wandb.Settings(show_info=False), None)  # its warnings from here on
    return run


def finish_wandb(exit_code: int = 0) -> None:
    """End this process's W&B run, if there is one, and all that wandb set up in the process.

    Takes no longer than the run's `finish_timeout` and a few seconds, and says so when data are
    left to upload. The next run of the process starts wandb afresh.

    Args:
        exit_code: 0 for a run that succeeded.
    """
    wandb = sys.modules.get("wandb")
    if wandb is None:
        return
    run = wandb.run
    if run is not None:
        seconds = run.settings.finish_timeout + CLOSING_SECONDS
        if not done_within(seconds, lambda: _finish(run, exit_code)):
            log.warning("W&B did not end the run; what it wrote is kept in %s", run.sync_dir)
            wandb.run = None
    done_within(CLOSING_SECONDS, wandb.teardown)


def _finish(run: "Run", exit_code: int) -> None:
    directory, stored_here = Path(run.sync_dir), run.offline
    try:
        run.finish(exit_code=exit_code)
    except TimeoutError:
        command = f"wandb sync --include-online {shlex.quote(str(directory))}"
        log.warning("W&B: the upload did not end in time. Upload the rest with: %s", command)
        return
    if stored_here:
        command = f"wandb sync {shlex.quote(str(directory.parent))}"
        log.info("W&B: upload this run with: %s", command)


def _start_online(arguments: dict[str, Any]) -> "Run | None":
    """A run on the server, or None, without traces, when the server does not start it."""
    import wandb

    folder = Path(arguments["dir"]) / "wandb"
    before = set(folder.glob("run-*"))
    try:
        run = wandb.init(**arguments)
        log.info("W&B: %s", run.url)
        return run
    except (wandb.Error, TimeoutError) as error:
        log.warning(OFFLINE, f"the server did not start it ({_one_line(error)})")
    # An offline start in the same wandb process would wait for the server too.
    done_within(CLOSING_SECONDS, wandb.teardown)
    for leftover in set(folder.glob("run-*")) - before:
        shutil.rmtree(leftover, ignore_errors=True)
    start_wandb(in_sweep=arguments["id"] is None)
    return None


def start_wandb(in_sweep: bool = True) -> "Settings":
    """Start wandb silently, and return its settings: defaults, files, environment.

    Args:
        in_sweep: whether a sweep that the environment names (WANDB_SWEEP_ID) counts.

    Raises:
        ValueError: when W&B refuses a setting.
    """
    import wandb

    silent = wandb.Settings(silent=True, relogin=False, force=False)
    wandb.termsetup(silent, None)
    try:
        settings = wandb.setup(silent).settings
    except ValueError as error:
        raise ValueError(
            f"W&B refuses one of its settings; got: {_one_line(error)}. Correct or unset the "
            "WANDB_... variable of that name (in the environment or .env), or use logger=csv."
        ) from error
    if not in_sweep:
        settings.sweep_id = None  # or else wandb.init would not take another id
    return settings


def _choose_mode(settings: "Settings", waiting: bool, seconds: float) -> str:
    """The mode that is asked for, or `offline` where online is not possible."""
    import wandb

    if settings.mode == "disabled":
        return settings.mode
    if settings.mode not in ONLINE:
        log.info(OFFLINE, "WANDB_MODE or `wandb offline` says so")
        return "offline"
    try:
        if not wandb.login(prompt=False, verify=False):
            log.info(OFFLINE, "no API key is configured (WANDB_API_KEY, .env or `wandb login`)")
            return "offline"
    except wandb.Error as error:
        log.warning(OFFLINE, f"its API key cannot be used ({_one_line(error)})")
        return "offline"
    if waiting:
        log.info(OFFLINE, "an earlier part of it is not uploaded yet")
        return "offline"
    problem = None
    if not (settings.http_proxy or settings.https_proxy):
        problem = why_unreachable(settings.base_url, seconds / 2)
    if problem is not None:
        log.warning(OFFLINE, f"{settings.base_url} cannot be reached ({problem})")
        return "offline"
    return settings.mode


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
        except (OSError, http.client.HTTPException) as error:
            cause = getattr(error, "reason", error)
            if not isinstance(cause, ssl.SSLError):  # wandb has certificates of its own
                problems.insert(0, _one_line(cause))
                return
        problems.clear()

    done_within(seconds, ask)
    return problems[0] if problems else None


def done_within(seconds: float, action: Callable[[], Any]) -> bool:
    """Whether `action` succeeded in time; one that takes longer is left to a daemon thread."""
    done = threading.Event()

    def attempt() -> None:
        try:
            action()
            done.set()
        except Exception:
            logging.getLogger("file_only").exception("W&B failed.")

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(seconds)
    return done.is_set()


def _new_id() -> str:
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(8))


def _one_line(error: object) -> str:
    return " ".join(str(error).split()).rstrip(".")
