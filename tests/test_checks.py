import pytest

from src.checks import check_choice, check_integer, checked_folder


def test_good_values_pass(tmp_path):
    check_integer("n", 3, minimum=3)
    check_choice("kind", "a", ("a", "b"))
    assert checked_folder(str(tmp_path)) == tmp_path
    assert checked_folder(tmp_path / "new") == tmp_path / "new"


@pytest.mark.parametrize(("value", "error"), [(2, ValueError), (3.0, TypeError), (True, TypeError)])
def test_integers(value, error):
    with pytest.raises(error, match=rf"`n` must be .* at least 3; got {value}. Use data.n=4"):
        check_integer("n", value, minimum=3)


@pytest.mark.parametrize(("value", "error"), [("c", ValueError), (1, TypeError), (None, TypeError)])
def test_choices(value, error):
    with pytest.raises(error, match=r"`kind` must be one of a, b; got .*. Use data.kind=a"):
        check_choice("kind", value, ("a", "b"))


def test_folders(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"`data_dir` must be the path of a folder; got .*file"):
        checked_folder(tmp_path / "file")
    with pytest.raises(TypeError, match=r"`data_dir` must .*; got 3. Use paths.data_dir=data"):
        checked_folder(3)
