import pytest

from src.measures import Reading
from src.plots.landscape import draw_landscape

LANDSCAPE = {
    "plane": {"a": [0.0, 1, 2], "b": [0.0, 1], "losses": [[0.1, 2.0], [1.0, None], [1e20, 0.5]]},
    "random_planes": [{"a": [-1.0, 1], "b": [-1.0, 1], "losses": [[0.5, 2.0], [1.0, 3.0]]}],
    "coordinates": [[2.0, 1.0], [1.0, 0.5], [0.01, 0.01], [0.0, 0.0]],
    "explained_variance": [0.9, 0.1],
    "epochs_trained": [0.0, 1.0, 2.0, 3.0],
    "path_losses": [2.0, 1.0, 0.2, 0.1],
    "line": {"positions": [0.0, 1.0], "losses": [2.0, 0.1]},
}
PARTS = {"plane": 1, "random_planes": 1, "line": 1}


def drawn(*without):
    details = {part: value for part, value in LANDSCAPE.items() if part not in without}
    return draw_landscape(Reading({}, {"random_planes": []} | details), "a network")


def test_start_end_and_epochs_are_named_where_there_is_room():
    plane, random, line, bar = drawn().axes
    assert [t.get_text() for t in plane.texts] == ["start, epoch 0", "end, epoch 3", "epoch 1"]
    assert "(90.0 % of the variance)" in plane.get_xlabel()
    assert [t.get_text() for t in random.texts] == ["end of training"]
    assert "norms of the filters" in random.get_xlabel()
    labels = [text.get_text() for text in line.get_legend().texts]
    assert labels == ["start, epoch 0: loss 2", "end, epoch 3: loss 0.1"]
    assert bar.get_ylabel() == "training loss, log colours; above 20 alike"


@pytest.mark.parametrize("without", [["plane"], ["plane", "line"], ["random_planes"]])
def test_what_was_not_measured_has_no_panel(without):
    bar = {"plane", "random_planes"} - {*without} != set()
    assert len(drawn(*without).axes) == len(PARTS) - len(without) + bar
    assert drawn(*PARTS) is None
