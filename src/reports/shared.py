"""What runs have in common: counts, code and machine, and the settings that all of them share."""

from collections import Counter
from collections.abc import Callable, Sequence

from src.reports.grouping import Group
from src.reports.naming import Settings, as_text, canonical
from src.reports.reading import StoredRun
from src.reports.unfinished import Unfinished
from src.runs.console import duration

MOST_LISTED = 4  # different texts of one fact
# Parts of the config that a reader asks for first, and keys that stand under a name of their own.
PARTS = {"Data": "data", "Network": "model.net", "Optimizer": "model.optimizer"}
PARTS |= {"Schedule": "model.scheduler"}
KEYS = {
    "Epochs": "trainer.max_epochs",
    "Steps": "trainer.max_steps",
    "Batch size": "data.batch_size",
}
NO_FACTS = ("_partial_", "data_dir", "num_workers", "batch_size")
LONGEST = 60  # characters of a value in a fact


def facts_of_runs(groups: Sequence[Group], unfinished: Sequence[Unfinished]) -> dict[str, str]:
    """How many runs, of which code, when, on what."""
    runs = [run for group in groups for run in group.runs]
    ended = Counter(entry.status for entry in unfinished)
    ended["pruned"] = sum(run.status == "pruned" for run in runs)
    counts = [f"{sum(len(group.finished) for group in groups)} finished"]
    counts += [f"{number} {status}" for status, number in sorted(ended.items()) if number]
    started = sorted(run.environment["started"] for run in runs if "started" in run.environment)
    facts = {
        "Runs": ", ".join(counts),
        "Started": " to ".join(dict.fromkeys((started[0], started[-1]))) if started else "",
        "Time of all runs": duration(sum(run.summary.get("wall_time_s") or 0.0 for run in runs)),
    }
    described: dict[str, Callable[[StoredRun], str]] = {
        "Code": code_of,
        "Machine": _machine,
        "Threads": threads_of,
        "Versions": _versions,
    }
    for name, describe in described.items():
        counted = Counter(map(describe, runs)).most_common()
        texts = [f"{text} ({n} runs)" if len(counted) > 1 else text for text, n in counted]
        more = [f"{len(texts) - MOST_LISTED} others"] if len(texts) > MOST_LISTED else []
        facts[name] = "; ".join([*texts[:MOST_LISTED], *more])
    return facts


def shared_settings(groups: Sequence[Group]) -> Settings:
    """Values of the keys that all rows have, where they are equal."""
    if not groups:
        return {}
    first, *others = [{k: canonical(v) for k, v in g.config.items()} for g in groups]
    config = groups[0].config.items()
    return {k: v for k, v in config if all(other.get(k) == first[k] for other in others)}


def shared_facts(shared: Settings) -> dict[str, str]:
    """The data, network, optimizer, schedule, epochs and batch size that all rows share."""
    facts = {}
    for name, part in PARTS.items():
        below = {k[len(part) + 1 :]: v for k, v in shared.items() if k.startswith(f"{part}.")}
        target = str(below.pop("_target_", "")).rpartition(".")[2]
        values = [
            f"{key}={as_text(value)}"
            for key, value in below.items()
            if value is not None and key.rpartition(".")[2] not in NO_FACTS
        ]
        values = [text for text in values if len(text) <= LONGEST and "_target_" not in text]
        facts[name] = f"{target}: {', '.join(values)}".strip(": ")
    facts |= {name: as_text(shared[k]) for name, k in KEYS.items() if shared.get(k) is not None}
    return {name: text for name, text in facts.items() if text}


def code_of(run: StoredRun) -> str:
    """The commit that a run was made with, and whether the code was changed since."""
    git = run.environment.get("git") or {}
    return f"commit {git.get('commit')}{', with changes' if git.get('dirty') else ''}"


def threads_of(run: StoredRun) -> str:
    """How many threads a run computed with."""
    return str((run.environment.get("devices") or {}).get("torch_threads", "not known"))


def _machine(run: StoredRun) -> str:
    devices = run.environment.get("devices") or {}
    return ", ".join(
        [*devices.get("cuda", []), f"{devices.get('cpu')}, {devices.get('cpu_count')} cores"]
    )


def _versions(run: StoredRun) -> str:
    libraries = run.environment.get("libraries") or {}
    shown = [f"{name} {libraries.get(name)}" for name in ("torch", "lightning", "numpy")]
    return f"Python {run.environment.get('python')}, {', '.join(shown)}"
