"""The page: one HTML file with everything in it, from a template."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jinja2

from src.reports.figures import Picture
from src.reports.grouping import Group
from src.reports.reading import StoredRun
from src.reports.tables import Table
from src.reports.unfinished import Unfinished
from src.runs.console import duration


@dataclass
class Section:
    """A part of the page."""

    anchor: str
    title: str
    text: str = ""
    tables: list[Table] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)


def render(
    title: str,
    groups: Sequence[Group],
    unfinished: Sequence[Unfinished],
    sections: Sequence[Section],
) -> str:
    """The page as text."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True)
    return environment.get_template("template.html.j2").render(
        title=title,
        facts=_facts(groups, unfinished),
        warnings=_warnings(groups),
        sections=sections,
        unfinished=unfinished,
    )


def _facts(groups: Sequence[Group], unfinished: Sequence[Unfinished]) -> dict[str, str]:
    """What was run: how many runs, of which code, when, on what."""
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
    for name, described in (("Code", _code), ("Machine", _machine), ("Versions", _versions)):
        counted = Counter(map(described, runs))
        facts[name] = "; ".join(f"{text} ({number} runs)" for text, number in counted.items())
    return facts


def _code(run: StoredRun) -> str:
    git = run.environment.get("git") or {}
    return f"commit {git.get('commit')}{', with changes' if git.get('dirty') else ''}"


def _machine(run: StoredRun) -> str:
    devices = run.environment.get("devices") or {}
    cpu = f"{devices.get('cpu')}, {devices.get('cpu_count')} cores"
    threads = f"{devices.get('torch_threads')} used by torch"
    return ", ".join([*devices.get("cuda", []), cpu, threads])


def _versions(run: StoredRun) -> str:
    libraries = run.environment.get("libraries") or {}
    shown = [f"{name} {libraries.get(name)}" for name in ("torch", "lightning", "numpy")]
    return f"Python {run.environment.get('python')}, {', '.join(shown)}"


def _warnings(groups: Sequence[Group]) -> list[str]:
    """What a reader must know before trusting the numbers."""
    runs = [run for group in groups for run in group.runs]
    used = [run for group in groups for run in group.finished.values()]
    repeated = [str(r.directory) for r in runs if r.status == "finished" and r not in used]
    warnings = []
    if len(set(map(_code, used))) > 1:
        warnings.append("The runs were made by different versions of the code.")
    if repeated:
        listed = ", ".join(repeated)
        warnings.append(f"Left out, because a later run has the same config and seed: {listed}.")
    if any(run.status in ("failed", "killed", "interrupted") for run in runs):
        warnings.append(
            "Not every run has finished. If the cause lies in the network, e.g. in its divergence, "
            "the means below are of those that it spared."
        )
    return warnings
