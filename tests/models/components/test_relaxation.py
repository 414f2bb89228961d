import pytest
import torch

from src.models.components.relaxation import (
    mean_neighbour_difference,
    pairwise_differences,
    relative_to_mean,
)


def test_pairwise_differences_equal_the_loops():
    weights = torch.randn(2, 3, 4)
    differences = pairwise_differences(weights)
    for g in range(4):
        for h in range(4):
            expected = (weights[..., g] - weights[..., h]).abs()
            assert torch.equal(differences[..., g, h], expected)


@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 2, 1, 4), (1, 2)])
def test_neighbours_equal_the_loops(shape):
    maps = torch.randn(shape, dtype=torch.float64)
    height, width = shape[-2:]
    differences = []
    for y in range(height):
        for x in range(width):
            for v, u in ((y + 1, x), (y, x + 1)):
                if v < height and u < width:
                    differences.append((maps[..., y, x] - maps[..., v, u]).abs())
    expected = torch.stack(differences).mean()
    assert torch.allclose(mean_neighbour_difference(maps), expected)


def test_a_single_pixel_has_no_neighbours():
    assert mean_neighbour_difference(torch.randn(3, 1, 1)) == 0


def test_relative_to_mean():
    assert relative_to_mean(torch.tensor(3.0), torch.tensor([1.0, -2.0])) == 2
    assert relative_to_mean(torch.tensor(0.0), torch.zeros(2)) == 0
