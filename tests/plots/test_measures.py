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
OVER_GROUP = {"group": "c2", "differences": [[0.0, 0.1], [0.1, 0.0]]}
LAYER = {"symmetric_fraction": 0.99, "over_group": OVER_GROUP}
DETAILS = {
    "equivariance_error": {"group": "c4", "angles": ANGLES},
    "lie_derivative": {},
    "sharpness": {"absolute": CURVE, "filter": CURVE | {"standard_errors": [None, None]}},
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
