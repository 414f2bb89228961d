"""The page: one HTML file with everything in it, from a template."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2

from src.reports.grouping import Group
from src.reports.jobs import Unfinished, repetition
from src.reports.pictures import Picture
from src.reports.reading import StoredRun
from src.reports.tables import Table
from src.runs.console import duration

TEMPLATE = "template.html.j2"
UNKNOWN = "not recorded"
LOST = ("failed", "killed", "interrupted")


@dataclass
class Section:
    """A part of the page.

    Attributes:
        anchor: name to link to.
        title: heading.
        text: paragraphs before the rest.
        tables: in their order.
        folded: tables that are shown when asked for.
        pictures: in their order.
    """

    anchor: str
    title: str
    text: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    folded: list[Table] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)


@dataclass
class Content:
    """Everything that the page shows.

    Attributes:
        title: of the page.
        facts: what was run, by name.
        warnings: what a reader must know before trusting the numbers.
        sections: results and figures.
        unfinished: runs and jobs that did not reach their end.
        repetitions: what `repetitions` returns.
    """

    title: str
    facts: dict[str, list[str]]
    warnings: list[str]
    sections: list[Section]
    unfinished: list[Unfinished]
    repetitions: list[dict[str, str]]


def render(content: Content) -> str:
    """The page as text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE).render(content=content)


def facts(groups: Sequence[Group], unfinished: Sequence[Unfinished]) -> dict[str, list[str]]:
    """What was run: how many runs, of which code, when, on what."""
    runs = [run for group in groups for run in group.runs]
    ended = Counter(entry.status for entry in unfinished)
    number = sum(len(group.finished) for group in groups)
    pruned = sum(run.status == "pruned" for run in runs)
    counted = [f"{number} finished", *(f"{n} {status}" for status, n in sorted(ended.items()))]
    counted += [f"{pruned} pruned"] if pruned else []
    times = [run.summary.get("wall_time_s") or 0.0 for run in runs]
    return {
        "Runs": [", ".join(counted)],
        "Seeds": [", ".join(map(str, sorted({s for group in groups for s in group.finished})))],
        "Code": _counted(_commit(run) for run in runs),
        "Started": _span([run.environment.get("started") for run in runs]),
        "Time of all runs": [duration(sum(times))],
        "Machine": _counted(_machine(run) for run in runs),
        "Versions": _counted(_versions(run) for run in runs),
    }


def warnings(
    groups: Sequence[Group], others: int, circumstances: dict[str, list[str]]
) -> list[str]:
    """What a reader must know before trusting the numbers.

    Args:
        groups: rows.
        others: how many runs were found that trained nothing.
        circumstances: `differing_circumstances` of the runs.
    """
    runs = [run for group in groups for run in group.finished.values()]
    states = [run.environment.get("git") or {} for run in runs]
    commits = {state.get("commit") for state in states}
    said = []
    if len(commits - {None}) > 1:
        said.append("The runs were made by different commits of the code.")
    if any(state.get("dirty") for state in states):
        said.append(
            "Some runs were made by code that differed from its commit; their commands may not "
            "repeat them."
        )
    if None in commits:
        said.append("The commit of some runs is not recorded.")
    if repeated := [run for group in groups for run in group.repeated]:
        listed = ", ".join(str(run.directory) for run in repeated)
        said.append(f"Left out, because a later run has the same config and seed: {listed}.")
    if any(run.status in LOST for group in groups for run in group.runs):
        said.append(
            "Not every run has finished. If the cause lies in the network, e.g. in its divergence, "
            "the means below are of those that it spared."
        )
    if any(len(group.finished) == 1 for group in groups):
        said.append("Where a row has one finished run, nothing tells how much seeds matter.")
    said += [
        f"Runs of one row may differ in {key} ({', '.join(values)}), which is taken to change no "
        "more than last digits. Name it in --group-by to tell them apart."
        for key, values in circumstances.items()
    ]
    if others:
        said.append(f"{others} runs that trained nothing (evaluations, measures) are left out.")
    return said


def repetitions(groups: Sequence[Group]) -> list[dict[str, str]]:
    """For every run of every row, its code and the command that repeats it."""
    return [
        {
            "label": group.label,
            "seed": str(run.seed),
            "status": run.status,
            "directory": str(run.directory),
            "commit": (run.environment.get("git") or {}).get("commit") or UNKNOWN,
            "command": repetition(run) or UNKNOWN,
        }
        for group in groups
        for run in group.runs
    ]


def _counted(texts: Any) -> list[str]:
    counts = Counter(texts)
    if len(counts) == 1:
        return list(counts)
    return [f"{text} ({number} runs)" for text, number in counts.items()]


def _span(times: Sequence[str | None]) -> list[str]:
    known = sorted(time for time in times if time)
    if not known:
        return [UNKNOWN]
    return [known[0]] if known[0] == known[-1] else [f"{known[0]} to {known[-1]}"]


def _commit(run: StoredRun) -> str:
    state = run.environment.get("git") or {}
    if not state.get("commit"):
        return f"commit {UNKNOWN}"
    return f"commit {state['commit'][:10]}{', with changes' if state.get('dirty') else ''}"


def _machine(run: StoredRun) -> str:
    devices = run.environment.get("devices") or {}
    if not devices:
        return UNKNOWN
    parts = [*devices.get("cuda", []), f"{devices.get('cpu')}, {devices.get('cpu_count')} cores"]
    threads = devices.get("torch_threads")
    return "; ".join(parts) + (f", {threads} used by torch" if threads else "")


def _versions(run: StoredRun) -> str:
    libraries = run.environment.get("libraries") or {}
    if not libraries:
        return UNKNOWN
    shown = [f"{name} {libraries.get(name)}" for name in ("torch", "lightning", "numpy")]
    return f"Python {run.environment.get('python')}, {', '.join(shown)}"
