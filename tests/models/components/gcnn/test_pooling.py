import pytest
import torch

from src.models.components.gcnn import GroupPool, SpatialPool
from tests.helpers.equivariance import assert_equivariant


def windows_from_border_to_border(x, size, mode):
    """Slow twin: each window cut out by itself."""
    lengths = [size + n % size for n in x.shape[-2:]]
    rows, columns = ([size * i for i in range(n // size)] for n in x.shape[-2:])
    reduce = torch.amax if mode == "max" else torch.mean
    pooled = [
        reduce(x[..., r : r + lengths[0], c : c + lengths[1]], (-2, -1))
        for r in rows
        for c in columns
    ]
    return torch.stack(pooled, -1).unflatten(-1, (len(rows), len(columns)))


@pytest.mark.parametrize("mode", ["max", "mean"])
def test_pooling_over_the_group(mode):
    x = torch.randn(2, 3, 8, 6, 4)
    expected = x.max(2).values if mode == "max" else x.sum(2) / 8
    torch.testing.assert_close(GroupPool(mode)(x), expected)
    assert_equivariant(GroupPool(mode), x, "d4", "regular", "scalar")


@pytest.mark.parametrize("mode", ["max", "mean"])
@pytest.mark.parametrize(("size", "plane"), [(2, (8, 6)), (2, (7, 7)), (2, (5, 8)), (3, (7, 11))])
def test_pooling_over_the_plane_keeps_quarter_turns_at_any_size(size, plane, mode):
    pool, image, maps = (
        SpatialPool(size, mode),
        torch.randn(2, 3, *plane),
        torch.randn(2, 3, 8, *plane),
    )
    for x in (image, maps):
        torch.testing.assert_close(pool(x), windows_from_border_to_border(x, size, mode))
    assert_equivariant(pool, image, "d4", "scalar", "scalar")
    assert_equivariant(pool, maps, "d4", "regular")
    odd_step = [n - n % size for n in plane]  # what windows without the last rows would see
    assert (tuple(odd_step) == plane) == torch.equal(
        pool(image), pool(image[..., : odd_step[0], : odd_step[1]])
    )


def test_bad_modes_and_inputs_are_refused():
    for pool in (GroupPool, SpatialPool):
        with pytest.raises(ValueError, match="`mode` must be one of max, mean; got 'sum'"):
            pool(mode="sum")
    with pytest.raises(ValueError, match=r"must have the shape \[B, C, \|G\|, H, W\].*; got"):
        GroupPool()(torch.randn(2, 3, 8, 8))
    with pytest.raises(RuntimeError, match=r"input size: \(3x8x1\).*Output size is too small"):
        SpatialPool()(torch.randn(2, 3, 8, 1))
