"""The page: one HTML file with everything in it, from a template."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from src.reports.figures import Picture
from src.reports.grouping import Group
from src.reports.naming import Settings, as_text
from src.reports.shared import code_of, facts_of_runs, shared_facts, threads_of
from src.reports.tables import Table
from src.reports.unfinished import Unfinished


@dataclass
class Section:
    """A part of the page."""

    anchor: str
    title: str
    text: str = ""
    tables: list[Table] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)


@dataclass
class Study:
    """Runs of one task on one data set: rows, what they share, and what is shown of them."""

    title: str
    groups: list[Group]
    shared: Settings
    sections: list[Section]

    @property
    def facts(self) -> dict[str, str]:
        """What a reader asks for first of what all rows share."""
        return shared_facts(self.shared)

    @property
    def settings(self) -> dict[str, str]:
        """All that all rows share, as text."""
        return {key: as_text(value) for key, value in self.shared.items()}


def render(title: str, studies: Sequence[Study], unfinished: Sequence[Unfinished]) -> str:
    """The page as text."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True)
    environment.filters["breakable"] = _breakable
    groups = [group for study in studies for group in study.groups]
    return environment.get_template("template.html.j2").render(
        title=title,
        facts=facts_of_runs(groups, unfinished),
        warnings=_warnings(studies),
        studies=studies,
        unfinished=unfinished,
    )


def _breakable(text: str, marks: str = "/_.") -> Markup:
    """The text with places where a line may end: in long names, after one of the marks."""
    return Markup(re.sub(rf"([{marks}])(?=[a-zA-Z_]{{3}})", r"\1<wbr>", str(escape(text))))


def _warnings(studies: Sequence[Study]) -> list[str]:
    """What a reader must know before trusting the numbers."""
    groups = [group for study in studies for group in study.groups]
    runs = [run for group in groups for run in group.runs]
    used = [run for group in groups for run in group.finished.values()]
    repeated = [str(r.directory) for r in runs if r.status == "finished" and r not in used]
    warnings = []
    if len(set(map(code_of, used))) > 1:
        warnings.append("The runs were made by different versions of the code.")
    for study in studies:
        threads = {threads_of(run) for group in study.groups for run in group.finished.values()}
        if len(threads) > 1:
            warnings.append(
                f"Runs of {study.title} differ in their number of threads "
                f"({', '.join(sorted(threads))}): on a CPU that alone changes the results."
            )
    if repeated:
        listed = ", ".join(repeated)
        warnings.append(f"Left out, because a later run has the same config and seed: {listed}.")
    if any(run.status in ("failed", "killed", "interrupted") for run in runs):
        warnings.append(
            "Not every run has finished. If the cause lies in the network, e.g. in its divergence, "
            "the means below are of those that it spared."
        )
    return warnings
