"""What a run reached: one value per metric, and which metrics are shown."""

from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from src.errors import UserError
from src.files import BEST, LAST
from src.reports.reading import StoredRun, is_finite

DYNAMICS, MEASURES = "dynamics", "measures"
SHOWN = ("test/*", "val/*", "dynamics/*", "measures/*")
ALONG = (*SHOWN, "train/*")

Metrics = dict[str, float | None]


def final_metrics(run: StoredRun) -> Metrics:
    """Values at the end of a run; None where they are NaN or infinite.

    - ``test/*``: of the best checkpoint where the run kept one, else of the final weights.
    - ``val/*``: at that same epoch.
    - ``train/*``, ``dynamics/*``: at the last epoch.
    - ``measures/*``: what ``src/measure.py`` found of ``best.ckpt``, or else ``last.ckpt``.
    """
    last = (run.summary.get("last") or {}).get("metrics", {})
    best = (run.summary.get("best") or {}).get("metrics") or last
    values = {name: value for name, value in last.items() if not name.startswith("val/")}
    values |= {name: value for name, value in best.items() if name.startswith("val/")}
    values |= run.summary.get("test") or {}
    measured = {f"{MEASURES}/{name}": v for name, v in measured_values(run).items()}
    return {
        name: float(value) if is_finite(value) else None
        for name, value in {**values, **measured}.items()
    }


def measured_checkpoint(run: StoredRun) -> dict[str, Any]:
    """Entries of ``measures.json`` by measure, of the best checkpoint or else the last one."""
    found = run.measures.get(BEST) or run.measures.get(LAST) or {}
    return found.get("measures", {})


def measured_values(run: StoredRun) -> Metrics:
    """Figures of the measured checkpoint by name."""
    entries = measured_checkpoint(run).values()
    return {name: value for entry in entries for name, value in entry["values"].items()}


def choose(
    names: Iterable[str], patterns: Sequence[str] | None, default: Sequence[str]
) -> list[str]:
    """Names that are shown, by split and alphabet.

    Args:
        names: all there are.
        patterns: names, or patterns with ``*``; None: those of `default`, without parts of other
            metrics, such as those of single layers and of single steps ahead.
        default: patterns.
    """
    names = set(names)
    if patterns is None:
        found = {name for name in _matching(names, default) if not _is_part(name, names)}
    else:
        found = _matching(names, patterns)
    return sorted(found, key=_order)


def check_patterns(names: Iterable[str], patterns: Sequence[str] | None) -> None:
    """Refuse patterns that no metric matches.

    Raises:
        UserError: for the first of them.
    """
    known = sorted(names)
    for pattern in patterns or ():
        if not _matching(known, [pattern]):
            near = get_close_matches(pattern, known, n=3, cutoff=0.5) or known[:8]
            raise UserError(
                "`--metrics` must name metrics that a finished run has, or patterns such as "
                f"'test/*'; got {pattern!r}. Use {', '.join(near) or 'runs that have finished'}."
            )


def families(names: Iterable[str]) -> dict[str, list[str]]:
    """Names by what they are: results, dynamics, measures of checkpoints."""
    kinds: dict[str, Callable[[str], bool]] = {
        "results": lambda stem: stem not in (DYNAMICS, MEASURES),
        "dynamics": lambda stem: stem == DYNAMICS,
        "measures": lambda stem: stem == MEASURES,
    }
    names = list(names)
    found = {kind: [n for n in names if is_of(n.split("/")[0])] for kind, is_of in kinds.items()}
    return {kind: members for kind, members in found.items() if members}


def _matching(names: Iterable[str], patterns: Sequence[str]) -> set[str]:
    return {name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)}


def _is_part(name: str, names: set[str]) -> bool:
    """Whether it is a part of another metric, as `test/rmse/01` is of `test/rmse`."""
    parts = name.split("/")
    return any("/".join(parts[:length]) in names for length in range(1, len(parts)))


def _order(name: str) -> tuple[int, str]:
    stems = ("test", "val", "train", DYNAMICS, MEASURES)
    stem = name.split("/")[0]
    return stems.index(stem) if stem in stems else len(stems), name
