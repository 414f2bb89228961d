"""The notebooks run from top to bottom in a folder of their own, and are stored without output."""

import re

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# What must hold at the end, and the number of figures.
EXPECTED = {
    "1-equivariance-tour": (
        "assert 0.1 < turned.abs().max() and (of_turned - turned).abs().max() < 1e-5\n"
        "assert at_start < 1e-5 and apart > 0.1\n"
        "assert weights[0] == 0 and errors[0] < 1e-5 and errors == sorted(errors)",
        8,
    ),
    "2-your-own-study": (
        "assert [len(row.finished) for row in rows] == [len(seeds)] * len(thetas)\n"
        "assert max(accuracy[0]) < 0.85 and min(accuracy[1]) > 0.9\n"
        "assert errors.per_element[2] < 0.2 * errors.per_element[1]",
        4,
    ),
}


def test_all_notebooks_are_known():
    assert [path.stem for path in NOTEBOOKS] == list(EXPECTED)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_they_hold_no_output_and_no_path(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(c.execution_count is None and not c.outputs and not c.metadata for c in code)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert not re.search(r"(?<![\w.<)])/[a-z]+/|[A-Z]:\\\\", path.read_text(encoding="utf-8"))
    assert all(cell.source.count("\n") < 40 for cell in code)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_they_run(path, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("PROJECT_ROOT")
    claims, num_figures = EXPECTED[path.stem]
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(claims))
    place = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=place).execute()
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == num_figures
    assert not [o for o in outputs if o.output_type == "stream" and o.name == "stderr"]
