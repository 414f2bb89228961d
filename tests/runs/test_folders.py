from pathlib import Path

import pytest

from src.files import check_writable
from tests.conftest import QUICK, QUIET, runner


@pytest.mark.parametrize("sweep", [(), ("-m", "seed=0,1")])
@pytest.mark.parametrize("place", ["/proc/nowhere", f"{__file__}/below"])
def test_a_run_that_has_no_place_ends_with_one_message(capsys, sweep, place):
    with pytest.raises(SystemExit) as ended:
        runner(Path(place))("train", *sweep, *QUICK, QUIET)
    [line] = capsys.readouterr().err.splitlines()
    assert f"at `paths.log_dir`={place}. Use paths.log_dir=<a place" in line
    assert ended.value.code == 1


def test_the_check_does_not_make_the_folder(tmp_path):
    """A command that is refused later would leave it."""
    check_writable(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
