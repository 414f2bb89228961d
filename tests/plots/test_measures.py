import numpy as np
import pytest

from src.measures import Reading
from src.plots.measures import DRAWERS, draw
from src.plots.style import save_figure
from tests.plots.test_landscape import LANDSCAPE

LAYERS = {"": 1.0, "/blocks.0": 0.1, "/blocks.1": 0.2, "/head": 0.3}
ANGLES = {"degrees": [0, 180], "errors": [0, 0.1]}
CURVE = {"radii": [0.1, 0.2], "from_gradient": [0.01, 0.02], "from_trace": [0.001, 0.004]}
CURVE |= {"absolute": [0.01, 0.05], "absolute_standard_errors": [0.001, 0.002]}
CURVE |= {"symmetric": [-0.001, 0.005], "symmetric_standard_errors": [0.002, 0.001]}
TRACES = {"": 3.0, "_by_kind/norm": 3.0}
TRACES |= {"_standard_error": 0.1, "_by_kind_standard_error/norm": 0.1}
TRACES = {f"gauss_newton_trace{end}": value for end, value in TRACES.items()}
NO_ERRORS = {f"{kind}_standard_errors": [None, None] for kind in ("absolute", "symmetric")}
DENSITY = {"grid": [-1.0, 0.0, 2.0], "density": [0.1, 1.0, 0.2], "density_error": [0.2, 0.1, 0]}
END = {"eigenvalues": [2.0, 1.0], "residuals": [0.0, 0.0], "converged": True}
ENDS = {"largest": END, "smallest": END | {"eigenvalues": []}}
DEPARTURES = {"kernel_departures": [1.0, 2.0, 3.0], "element_departures": [0.0, 2.5, 2.5]}
LAYER = {"departure": 2.16, "over_group": {"group": "c3", **DEPARTURES}}
DETAILS = {
    "equivariance_error": {"group": "c4", "angles": ANGLES},
    "lie_derivative": {},
    "sharpness": {
        "absolute": CURVE,
        "filter": CURVE | {"absolute": [1.0, 9.0]} | NO_ERRORS,
    },
    "hessian": {"density": DENSITY, "ends": ENDS, "kind": "gauss_newton"},
    "landscape": LANDSCAPE,
    "projection": {},
    "symmetry": {"layers": {"blocks.0": LAYER, "blocks.1": LAYER | {"over_group": None}}},
}

X = tuple(LAYERS.items())[1:]  # of layers
CASE = DETAILS["equivariance_error"]
TURNS = {"lie_derivative": 5.0, "lie_derivative_translation_x": 1.0}


@pytest.mark.parametrize("measure", DRAWERS)
def test_every_measure_has_a_figure(measure, tmp_path):
    layered = {"projection": "departure_gradient"}.get(measure, measure)
    values = {f"{layered}{layer}": value for layer, value in LAYERS.items()}
    values |= TRACES if measure == "hessian" else {}
    figure = draw(measure, Reading(values, DETAILS[measure]), "a network")
    save_figure(figure, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert "a network" in figure.get_suptitle()


@pytest.mark.parametrize("measure", [*[m for m in DRAWERS if m != "landscape"], "another measure"])
def test_without_anything_to_draw_there_is_none(measure):
    assert draw(measure, Reading({measure: 1.0}, {"group": "c4"}), "a network") is None


def test_panels_of_one_unit_have_one_scale():
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


def test_departures_of_elements_have_one_scale_and_the_layer_its_own():
    figure = draw("symmetry", Reading({}, DETAILS["symmetry"]), "a network")
    kernels, elements = figure.axes[:2]
    assert [list(axes.images[0].get_array()[0]) for axes in (kernels, elements)] == [
        *DEPARTURES.values()
    ]
    assert kernels.images[0].get_clim() == elements.images[0].get_clim() == (0, 3)
    rows = [label.get_text() for label in kernels.get_yticklabels()]
    assert rows == ["blocks.0  2.2 %"], "layers over positions have no elements"
    for axes in (kernels, elements):
        assert [label.get_text() for label in axes.get_xticklabels()] == ["0°", "120°", "240°"]


def test_departures_of_layers_of_several_groups_share_the_axis_of_elements():
    of_two = {kind: numbers[:2] for kind, numbers in DEPARTURES.items()}
    layers = {"0": LAYER, "1": LAYER | {"over_group": {"group": "c2", **of_two}}}
    axes = draw("symmetry", Reading({}, {"layers": layers}), "a network").axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1", "2"]
    assert np.isnan(axes.images[0].get_array().filled(np.nan)).tolist()[1] == [False, False, True]
