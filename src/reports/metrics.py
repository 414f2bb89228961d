"""What a run reached: one value per metric, and which metrics are shown."""

import math
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from src.errors import UserError
from src.reports.reading import StoredRun

DYNAMICS, MEASURES, START = "dynamics", "measures", "start"
STEMS = ("test", "val", "train", START, DYNAMICS, MEASURES)  # in the order in which they are shown
SHOWN = ("test/*", "val/*", "start/*", "dynamics/*", "measures/*")
ALONG = ("test/*", "val/*", "dynamics/*", "train/*")  # training
AGAINST = ("test/*", "val/*", "dynamics/*_error", "measures/*")  # a number that was swept
# Of the machine, of the schedule, of the data, or how well another metric is known: in tables, but
# neither compared between rows nor drawn against a key.
NOT_COMPARED = ("*/step_time", "*/learning_rate", "*_standard_error", "*_true")
# What forecasts are like, beside how good they are: in the long tables alone.
DETAILS = ("*/energy", "*/divergence", "*/spectrum_error/*", "*_true")
BASELINES = ("*/rmse_persistence", "*/rmse_linear")  # have rows of their own, see `baselines`
SKILL = ("test/skill/*", "test/*/skill/*")  # per step ahead


def final_metrics(run: StoredRun) -> dict[str, float]:
    """Values at the end of a run; NaN where they are NaN or infinite.

    - ``test/*``: of the best checkpoint where the run kept one, else of the final weights.
    - ``val/*``: at that same epoch.
    - ``train/*``, ``dynamics/*``: at the last epoch.
    - ``start/*``: the dynamics before the first step.
    - ``measures/*``: what ``src/measure.py`` found of ``best.ckpt``, or else ``last.ckpt``.
    """
    last = (run.summary.get("last") or {}).get("metrics", {})
    best = (run.summary.get("best") or {}).get("metrics") or last
    values = {name: value for name, value in last.items() if not name.startswith("val/")}
    values |= {name: value for name, value in best.items() if name.startswith("val/")}
    values |= run.summary.get("test") or {}
    for name, value in (run.summary.get("start") or {}).items():
        values[f"{START}/{name.removeprefix(f'{DYNAMICS}/')}"] = value
    for entry in run.measures.values():
        values |= {f"{MEASURES}/{name}": value for name, value in entry["values"].items()}
    return {
        name: value if isinstance(value, int | float) and math.isfinite(value) else math.nan
        for name, value in values.items()
    }


def choose(
    names: Iterable[str], patterns: Sequence[str] | None, default: Sequence[str]
) -> list[str]:
    """Choose the names that match patterns with ``*``, sorted by split, set and alphabet.

    Without patterns those of `default` count, and left out are parts of other metrics, such as
    those of single layers and of single steps ahead, and errors of forecasts that know nothing.
    """
    names = set(names)
    found = {n for n in names if any(fnmatchcase(n, p) for p in patterns or default)}
    if patterns is None:
        found = {n for n in found if not any(n.startswith(f"{parent}/") for parent in names)}
        found = set(without(found, BASELINES))
    order = {stem: place for place, stem in enumerate(STEMS)}
    stem = {name: order.get(name.partition("/")[0], len(STEMS)) for name in found}
    return sorted(found, key=lambda n: (stem[n], n.count("/"), n))


def without(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """The names that match none of the patterns."""
    return [n for n in names if not any(fnmatchcase(n, pattern) for pattern in patterns)]


def compared(names: Iterable[str]) -> list[str]:
    """The names of metrics whose differences between rows say something of what was trained."""
    return without(names, NOT_COMPARED)


def check_patterns(names: Iterable[str], patterns: Sequence[str] | None) -> None:
    """Refuse patterns that no metric matches.

    Raises:
        UserError: for the first of them.
    """
    known = sorted(names)
    for pattern in patterns or ():
        if not any(fnmatchcase(name, pattern) for name in known):
            near = get_close_matches(pattern, known) or known[:8]
            raise UserError(
                "`--metrics` must name metrics that a finished run has, or patterns such as "
                f"'test/*'; got {pattern!r}. Use {', '.join(near) or 'runs that have finished'}."
            )


def families(names: Iterable[str]) -> dict[str, list[str]]:
    """Names by what they are: results, dynamics (at start and end), measures of checkpoints."""
    family_of = {START: DYNAMICS, DYNAMICS: DYNAMICS, MEASURES: MEASURES}
    found: dict[str, list[str]] = {"results": [], DYNAMICS: [], MEASURES: []}
    for name in names:
        found[family_of.get(name.partition("/")[0], "results")].append(name)
    return {family: members for family, members in found.items() if members}
