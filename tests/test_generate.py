import re
import subprocess
import sys
from pathlib import Path

import pytest

from src.data.smoke.storage import StoredSet
from tests.helpers.fake_plumes import tiny_overrides, use_fake_simulation

ROOT = Path(__file__).resolve().parents[1]
SETS = ("translation", "rotation", "scale", "level")
UNDEFINED = "not defined: the plumes are not one plume turned to the four sides."


@pytest.fixture
def generate(run_entry_point, tmp_path, monkeypatch):
    """Run `src/generate.py` on simulations that take no time."""
    use_fake_simulation(monkeypatch)
    return lambda *arguments: run_entry_point(
        "generate", f"paths.data_dir={tmp_path / 'data'}", *arguments
    )


def last_line(run):
    return run.log.splitlines()[-1]


@pytest.mark.parametrize("name", SETS)
def test_every_set_can_be_generated(generate, name):
    run = generate(*tiny_overrides(name))
    summary = run.summary
    assert summary["status"] == "finished"
    stored = StoredSet.open(Path(summary["file"]))
    assert list(stored.velocities.shape) == summary["shape"]
    assert summary["shape"][1:] == [22, 2, 16, 16]
    assert summary["versions"] == stored.versions
    assert summary["pictures"] == []
    assert (summary["equivariance_error"] is None) == (name != "level")


def test_the_last_line_ends_in_the_equivariance_error(generate):
    run = generate(*tiny_overrides("level"))
    assert re.search(r"Equivariance error of the data: \d\.\d{3}$", last_line(run))
    assert last_line(run).endswith(f" {run.summary['equivariance_error']:.3f}")


def test_the_last_line_says_when_there_is_none(generate):
    assert last_line(generate(*tiny_overrides("rotation"))).endswith(UNDEFINED)


def test_a_set_that_is_there_is_found(generate, monkeypatch):
    first = generate(*tiny_overrides("level"))
    fake = use_fake_simulation(monkeypatch)
    second = generate(*tiny_overrides("level"))
    assert fake.steps == 0
    assert second.summary["file"] == first.summary["file"]
    assert second.summary["equivariance_error"] == first.summary["equivariance_error"]


@pytest.mark.slow
def test_pictures_lie_beside_the_file(generate):
    run = generate(*tiny_overrides("level"), "plot=true")
    stem = run.summary["file"].removesuffix(".b2nd")
    assert run.summary["pictures"] == [f"{stem}.png", f"{stem}.gif"]
    for picture in run.summary["pictures"]:
        assert f"Picture: {picture}" in run.log
        with open(picture, "rb") as file:
            assert file.read(4) in (b"\x89PNG", b"GIF8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data=smoke_level", "data.level=10"], "`level` must be an integer from 0 to 9; got 10"),
        (["data=smoke_level", "data.layout=faces"], "`layout` must be one of centered, stagg"),
        (["data=smoke_level", "data.num_steps=50"], "which need 82. Raise data.num_steps by 42"),
        (
            ["data=rotmnist"],
            "`data` must be a set of smoke plumes, which can be generated; got Rot",
        ),
    ],
)
def test_errors_are_one_message(generate, capsys, arguments, message):
    with pytest.raises(SystemExit) as exit_:
        generate(*arguments)
    assert exit_.value.code == 1
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told


def test_a_damaged_file_is_one_message(generate, capsys):
    path = Path(generate(*tiny_overrides("level")).summary["file"])
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(SystemExit) as exit_:
        generate(*tiny_overrides("level"))
    assert exit_.value.code == 1
    assert "is damaged" in capsys.readouterr().err


@pytest.mark.slow
def test_the_help_needs_no_heavy_imports():
    code = (
        "import sys; sys.argv = ['src/generate.py', '--help']; import src.generate as g\n"
        "try: g.main()\n"
        "finally: assert not {'torch', 'phi', 'lightning', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "smoke_level" in done.stdout
    assert "plot: false" in done.stdout


@pytest.mark.slow
def test_a_published_figure_is_reproduced(run_entry_point, tmp_path):
    """Level 1 of Wang, Walters and Yu 2022, from four simulations."""
    run = run_entry_point(
        *("generate", "data=smoke_level", "data.level=1", "data.layout=staggered_cropped"),
        f"paths.data_dir={tmp_path}",
        *("data.num_steps=59", "data.starts.train=5", "data.starts.val=1", "data.starts.future=1"),
    )
    assert last_line(run).endswith(" 0.170")
    assert run.summary["max_divergence"] < 1e-5
