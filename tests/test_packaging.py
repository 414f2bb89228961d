import shutil
import subprocess
import sys
import tomllib

import pytest

from tests.conftest import ROOT

BUILD = "from setuptools import build_meta as b; print(b.build_editable('out'))"
USE = "import site; site.addsitedir({!r}); import src.checks, src.runs as r; print(*r.__path__)"


@pytest.mark.slow
def test_an_editable_install_makes_the_project_importable_from_any_folder(tmp_path):
    pytest.importorskip("setuptools", "77")
    clone, installed, elsewhere = (tmp_path / name for name in ("clone", "installed", "elsewhere"))
    for path in (clone, elsewhere):
        path.mkdir()
    shutil.copytree(ROOT / "src", clone / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, clone)

    def python(code, folder, *flags):
        command = [sys.executable, *flags, "-W", "ignore", "-c", code]
        return subprocess.check_output(command, cwd=folder, text=True, stderr=subprocess.STDOUT)

    wheel = clone / "out" / python(BUILD, clone).split()[-1]
    shutil.unpack_archive(wheel, installed, "zip")
    found = python(USE.format(str(installed)), elsewhere, "-S")  # without what is installed here
    assert found.split() == [str(clone / "src" / "runs")]


def test_the_versions_of_python_that_hydra_can_do_are_asked_for():
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert asked == ">=3.11,<3.14"
    assert "3.11 to 3.13" in (ROOT / "README.md").read_text()
