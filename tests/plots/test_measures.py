import numpy as np
import pytest

from src.measures import Reading
from src.plots.measures import DRAWERS, draw
from src.plots.style import save_figure

LAYERS = {"": 1.0, "/blocks.0": 0.1, "/blocks.1": 0.2, "/head": 0.3}
ANGLES = {"degrees": [0, 180], "errors": [0, 0.1], "floors": [0, 0.2]}
CURVE = {"radii": [0.1, 0.2], "changes": [0.01, 0.05], "standard_errors": [0.001, 0.002]}
DENSITY = {"grid": [-1.0, 0.0, 2.0], "density": [0.1, 1.0, 0.2]}
END = {"eigenvalues": [2.0, 1.0], "residuals": [0.0, 0.0], "converged": True}
ENDS = {"largest": END, "smallest": END | {"eigenvalues": []}}
LOSSES = [[0.1, 2.0], [1.0, None], [1e20, 0.5]]
OVER_GROUP = {"group": "c3", "differences": [[0, 0.1, 0.2], [0.1, 0, 0.3], [0.2, 0.3, 0]]}
LAYER = {"symmetric_fraction": 0.99, "over_group": OVER_GROUP}
DETAILS = {
    "equivariance_error": {"group": "c4", "angles": ANGLES},
    "lie_derivative": {},
    "sharpness": {
        "absolute": CURVE,
        "filter": CURVE | {"changes": [1.0, 9.0], "standard_errors": [None, None]},
    },
    "hessian": {"density": DENSITY, "ends": ENDS},
    "landscape": {
        "plane": {"a": [0.0, 1.0, 2.0], "b": [0.0, 1.0], "losses": LOSSES},
        "coordinates": [[2.0, 1.0], [1.0, 0.5], [0.0, 0.0]],
        "explained_variance": [0.9, 0.1],
        "epochs_trained": [0.0, 1.0, 2.0],
        "path_losses": [2.0, 1.0, 0.1],
        "line": {"positions": [0.0, 1.0], "losses": [2.0, 0.1]},
    },
    "symmetry": {"layers": {"blocks.0": LAYER, "blocks.1": LAYER | {"over_group": None}}},
}

X = tuple(LAYERS.items())[1:]  # of layers
CASE = DETAILS["equivariance_error"]
TURNS = {"lie_derivative": 5.0, "lie_derivative_translation_x": 1.0}


@pytest.mark.parametrize("measure", DRAWERS)
def test_every_measure_has_a_figure(measure, tmp_path):
    layered = measure in ("equivariance_error", "lie_derivative")
    values = {f"{measure}{layer}": value for layer, value in LAYERS.items()} if layered else {}
    figure = draw(measure, Reading(values, DETAILS[measure]), "a network")
    save_figure(figure, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert "a network" in figure.get_suptitle()


@pytest.mark.parametrize("measure", [*[m for m in DRAWERS if m != "landscape"], "another measure"])
def test_without_anything_to_draw_there_is_none(measure):
    assert draw(measure, Reading({measure: 1.0}, {"group": "c4"}), "a network") is None


def test_panels_of_one_unit_have_one_scale_and_no_floor_of_another():
    values = {f"{name}{layer}": size * value for name, size in TURNS.items() for layer, value in X}
    readings = {
        "equivariance_error": Reading({f"equivariance_error{n}": v for n, v in X}, CASE),
        "lie_derivative": Reading(values, {}),
        "sharpness": Reading({}, DETAILS["sharpness"]),
    }
    for measure, reading in readings.items():
        figure = draw(measure, reading, "a network")
        assert len(figure.axes) >= 2
        assert len({axes.get_ylim() for axes in figure.axes}) == 1, measure
    figure = draw("equivariance_error", readings["equivariance_error"], "a network")
    assert [list(line.get_ydata()) for line in figure.axes[0].lines] == [[0, 0.1, 0]]


def test_each_difference_between_elements_stands_once():
    figure = draw("symmetry", Reading({}, DETAILS["symmetry"]), "a network")
    axes = figure.axes[0]
    shown = np.ma.masked_invalid(axes.images[0].get_array())
    assert sorted(shown.compressed()) == [0.1, 0.2, 0.3]
    labels = [label.get_text() for label in (*axes.get_yticklabels(), *axes.get_xticklabels())]
    assert labels == ["120°", "240°", "0°", "120°"]
    assert (shown[0, 0], shown[1, 0], shown[1, 1]) == (0.1, 0.2, 0.3)


def test_a_landscape_has_two_labels_and_no_number_in_a_cell():
    figure = draw("landscape", Reading({}, DETAILS["landscape"]), "a network")
    assert [text.get_text() for text in figure.axes[0].texts] == ["epoch 0", "epoch 2"]
