import pytest
import torch

from src.models.components.gcnn import kernel_transform, make_group
from src.models.components.gcnn.harmonics import degrees_of_freedom, sample_harmonics


@pytest.mark.parametrize(("name", "kernel_size"), [("c3", 1), ("c8", 3), ("d4", 5), ("d8", 7)])
def test_a_representation_on_its_range(name, kernel_size):
    transform = kernel_transform(name, kernel_size, "harmonic")
    products = torch.einsum("gij,hjk->ghik", transform, transform)
    assert torch.allclose(products, transform[make_group(name).cayley], atol=1e-12)
    assert torch.linalg.matrix_rank(transform[0]) == degrees_of_freedom(kernel_size)
    assert torch.allclose(transform[0], transform[0].T, atol=1e-12)  # an orthogonal projection


def test_a_kernel_turns_exactly_by_an_eighth():
    """cos(m (theta - pi / 4)) on a ring is what an eighth turn makes of cos(m theta)."""
    axis = torch.arange(5, dtype=torch.float64) - 2
    row, column = torch.meshgrid(axis, axis, indexing="ij")
    basis = sample_harmonics(torch.stack([column.flatten(), row.flatten()], -1), 2)
    transform = kernel_transform("c8", 5, "harmonic")[1]
    ring, cos, sin = basis[:, 1], basis[:, 2], basis[:, 3]
    assert torch.allclose(transform @ ring, ring, atol=1e-12)
    half = 0.5**0.5  # counter-clockwise on the display: (column, row) -> row decreases
    assert torch.allclose(transform @ cos, half * (cos - sin), atol=1e-12)
