import re
from pathlib import Path

import pytest

from src.data.smoke.storage import StoredSet
from tests.helpers.fake_plumes import tiny_overrides, use_fake_simulation

pytestmark = pytest.mark.slow


def last_line(run):
    return run.log.splitlines()[-1]


@pytest.mark.parametrize("name", ["translation", "rotation", "scale", "level"])
def test_every_set_can_be_generated_and_one_that_is_there_is_found(
    run_entry_point, refused, tmp_path, monkeypatch, name
):
    """By simulations that take no time; a damaged file is refused."""
    fake = use_fake_simulation(monkeypatch)
    typed = ("generate", f"paths.data_dir={tmp_path / 'data'}", *tiny_overrides(name))
    run = run_entry_point(*typed)
    summary, path = run.summary, Path(run.summary["file"])
    stored = StoredSet.open(path)
    assert [*summary["shape"][:1], 22, 2, 16, 16] == list(stored.frames.shape)
    expected = ("finished", stored.versions, list(stored.frames.shape), [])
    assert tuple(summary[n] for n in ("status", "versions", "shape", "pictures")) == expected
    if name != "level":
        assert summary["equivariance_error"] is None
        assert last_line(run).endswith("not one plume turned to the four sides.")
        return
    assert re.search(r"Equivariance error of the data: \d\.\d{3}$", last_line(run))
    assert last_line(run).endswith(f" {summary['equivariance_error']:.3f}")

    fake.steps = 0
    again = run_entry_point(*typed, "plot=true")
    assert fake.steps == 0
    pictures = [str(path.with_suffix(suffix)) for suffix in (".png", ".gif")]
    own = {"pictures": pictures, "wall_time_s": again.summary["wall_time_s"]}
    assert again.summary == summary | own
    for picture in pictures:
        assert f"Picture: {picture}" in again.log
        assert Path(picture).read_bytes()[:4] in (b"\x89PNG", b"GIF8")
    path.write_bytes(path.read_bytes()[:-100])
    assert "is damaged" in refused(*typed)[0]


def test_a_published_figure_is_reproduced(run_entry_point, tmp_path):
    """Level 1 of Wang, Walters and Yu 2022, from four simulations."""
    run = run_entry_point(
        *("generate", "data=smoke_level", "data.level=1", "data.layout=staggered_cropped"),
        f"paths.data_dir={tmp_path}",
        *("data.num_steps=59", "data.starts.train=5", "data.starts.val=1", "data.starts.future=1"),
    )
    assert last_line(run).endswith(" 0.170")
    assert run.summary["max_divergence"] < 1e-5
