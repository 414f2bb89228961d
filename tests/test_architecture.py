"""Imports run downwards: no module imports one of a higher floor, and there is no circle."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

ENTRY_POINTS = tuple(
    f"src.{n}"
    for n in ("train", "eval", "measure", "search", "export", "generate", "predict", "report")
)
# From the ground up; a module stands on the floor whose name is the longest start of its own.
FLOORS = (
    ("src.checks", "src.errors", "src.files", "src.locks", "src.seeding"),
    ("src.models.components.gcnn",),
    ("src.models.components",),
    ("src.data",),
    ("src.measures",),
    ("src.models",),
    ("src.loggers",),
    ("src.plots",),
    ("src.callbacks",),
    ("src.runs",),
    ("src.sweeps",),
    ("src.searches",),
    ("src.reports",),
    ENTRY_POINTS,
)
FLOOR_OF = {name: floor for floor, names in enumerate(FLOORS) for name in names}


def floor_of(module: str) -> int:
    """Number of a module's floor; `src` itself, an empty package, is below all."""
    above = [name for name in FLOOR_OF if f"{module}.".startswith(f"{name}.")]
    assert above or module == "src", f"{module} has no floor; add it to FLOORS"
    return FLOOR_OF[max(above, key=len)] if above else -1


def imports_of(module: str, source: str, modules: set[str]) -> set[str]:
    """Modules of this project that a source imports, anywhere in it, also for types alone."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively; name the whole module"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in modules else node.module for name in names}
    return found & modules


def problems(sources: dict[str, str]) -> list[str]:
    """Imports that run up, and a circle if there is one, of sources by module."""
    modules = set(sources)
    imports = {module: imports_of(module, text, modules) for module, text in sources.items()}
    found = [
        f"{module} imports {other}, which stands higher"
        for module, others in imports.items()
        for other in sorted(others)
        if floor_of(other) > floor_of(module)
    ]
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        found.append(f"circle: {' -> '.join(error.args[1])}")
    return found


@pytest.fixture(scope="module")
def sources() -> dict[str, str]:
    """The text of every module below src, by name."""
    files = (ROOT / "src").rglob("*.py")
    names = {f: ".".join(f.relative_to(ROOT).with_suffix("").parts) for f in files}
    return {n.removesuffix(".__init__"): f.read_text(encoding="utf-8") for f, n in names.items()}


def test_imports_run_downwards(sources):
    assert not problems(sources)


@pytest.mark.parametrize(
    ("module", "line", "problem"),
    [
        ("src.checks", "from src.runs.run import Run", "imports src.runs.run, which"),
        (
            "src.measures.context",
            "import src.callbacks.probe",
            "imports src.callbacks.probe, which",
        ),
        (
            "src.data.samples",
            "if 1:\n    from src.plots import style",
            "imports src.plots.style",
        ),
        ("src.models.components.gcnn.groups", "import src.models.components.cnns", ""),
        ("src.files", "from src.seeding import seed_run", ""),
        ("src.errors", "from src.files import LOCK\n", ""),
    ],
)
def test_a_planted_import_is_found(sources, module, line, problem):
    found = problems({**sources, module: f"{sources[module]}\n{line}\n"})
    assert (len(found) > 0) == bool(problem)
    assert not found or problem in found[0]


def test_a_planted_circle_is_found(sources):
    planted = {
        "src.files": f"{sources['src.files']}\nimport src.checks",
        "src.checks": f"{sources['src.checks']}\nfrom src.files import LOCK",
    }
    (found,) = problems({**sources, **planted})
    assert found.startswith("circle: ") and "src.files" in found and "src.checks" in found


def test_entry_points_are_short(sources):
    assert {name for name in ENTRY_POINTS if sources[name].count("\n") > 80} == set()
