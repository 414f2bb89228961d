import re

from src.data.smoke.plumes import scale_plumes
from src.data.smoke.progress import Progress
from tests.helpers.fake_plumes import tiny_settings

PLUMES = scale_plumes((1, 2), inflow=(8, 3), radius=2, buoyancy=0.1, resolution=16)


def test_work_is_measured_in_cells(capsys):
    """The second plume has four times as many cells: after the first, a fifth is done."""
    with Progress(tiny_settings(plumes=tuple(PLUMES)), [[0], [1]]) as progress:
        progress.start([0], 0)
        for _ in range(60):
            progress.advance()
        assert progress._bar.n / progress._bar.total == 0.2
        progress.start([1], 0)
    assert re.search(r"step 0 of 60, simulation 2 of 2.* 20%.* left", capsys.readouterr().err)


def test_what_was_done_before_counts(capsys):
    with Progress(tiny_settings(), [[0, 1, 2, 3]]) as progress:
        progress.start([0, 1, 2, 3], 30)
        progress.advance()
    assert re.search(r"step 31 of 60, simulations 1 to 4 of 4.* 5[12]%", capsys.readouterr().err)
