import pytest

from src.measures import Reading
from src.plots.measures import DRAWERS, draw
from src.plots.style import save_figure

LAYERS = {"blocks.0": 0.1, "blocks.1": 0.2, "head": 0.3}


def layered(name):
    return {name: 1.0} | {f"{name}/{layer}": value for layer, value in LAYERS.items()}


def curve(errors):
    return {"radii": [0.1, 0.2], "changes": [0.01, 0.05], "standard_errors": errors}


END = {"eigenvalues": [2.0, 1.0], "residuals": [0.0, 0.0], "converged": True}
MAP = [[0.0, 0.1], [0.1, 0.0]]
READINGS = {
    "equivariance_error": Reading(
        layered("equivariance_error"),
        {
            "group": "c4",
            "angles": {"degrees": [0, 180], "errors": [0, 0.1], "floors": [0, 0.2]},
        },
    ),
    "lie_derivative": Reading(layered("lie_derivative")),
    "sharpness": Reading({}, {"absolute": curve([0.001, 0.002]), "filter": curve([None, None])}),
    "hessian": Reading(
        {},
        {
            "density": {"grid": [-1.0, 0.0, 2.0], "density": [0.1, 1.0, 0.2]},
            "ends": {"largest": END, "smallest": {**END, "eigenvalues": []}},
        },
    ),
    "landscape": Reading(
        {},
        {
            "plane": {
                "a": [0.0, 1.0, 2.0],
                "b": [0.0, 1.0],
                "losses": [[0.1, 2.0], [1.0, None], [1e20, 0.5]],
            },
            "coordinates": [[2.0, 1.0], [1.0, 0.5], [0.0, 0.0]],
            "explained_variance": [0.9, 0.1],
            "epochs_trained": [0.0, 1.0, 2.0],
            "path_losses": [2.0, 1.0, 0.1],
            "line": {"positions": [0.0, 1.0], "losses": [2.0, 0.1]},
        },
    ),
    "symmetry": Reading(
        {},
        {
            "layers": {
                "blocks.0": {
                    "symmetric_fraction": 0.99,
                    "over_group": {"group": "c2", "differences": MAP},
                },
                "blocks.1": {"symmetric_fraction": 0.5, "over_group": None},
            }
        },
    ),
}


@pytest.mark.parametrize("measure", DRAWERS)
def test_every_measure_has_a_figure(measure, tmp_path):
    figure = draw(measure, READINGS[measure], "a network")
    save_figure(figure, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert "a network" in figure.get_suptitle()


@pytest.mark.parametrize("measure", ["equivariance_error", "lie_derivative", "sharpness"])
def test_without_anything_to_draw_there_is_none(measure):
    assert draw(measure, Reading({measure: 1.0}, {"group": "c4"}), "a network") is None


def test_a_network_without_relaxed_layers_has_no_map():
    reading = Reading({}, {"reason": "CNN has no relaxed layer"})
    assert draw("symmetry", reading, "a network") is None
    assert draw("another measure", reading, "a network") is None
