import pytest
import torch

from src.models.components.gcnn import GroupPool, SpatialPool
from tests.helpers.equivariance import assert_equivariant


@pytest.mark.parametrize(("mode", "expected"), [("max", 3.0), ("mean", 1.5)])
def test_group_pool_is_over_the_group(mode, expected):
    x = torch.arange(4.0).view(1, 1, 4, 1, 1).expand(2, 3, 4, 5, 6)
    y = GroupPool(mode)(x)
    assert y.shape == (2, 3, 5, 6)
    assert (y == expected).all()


@pytest.mark.parametrize("mode", ["max", "mean"])
def test_poolings_are_equivariant(mode):
    x = torch.randn(2, 3, 8, 6, 4)
    assert_equivariant(GroupPool(mode), x, "d4", "regular", "scalar")
    assert_equivariant(SpatialPool(2, mode), x, "d4", "regular")


@pytest.mark.parametrize(("mode", "expected"), [("max", 5.0), ("mean", 2.5)])
def test_spatial_pool_is_over_windows(mode, expected):
    x = torch.tensor([[0.0, 1.0], [4.0, 5.0]]).view(1, 1, 1, 2, 2)
    assert SpatialPool(2, mode)(x).item() == expected


def test_unknown_mode():
    with pytest.raises(ValueError, match="`mode` must be one of max, mean; got 'sum'"):
        GroupPool("sum")


@pytest.mark.parametrize("pool", [GroupPool(), SpatialPool()])
def test_wrong_number_of_dimensions(pool):
    with pytest.raises(ValueError, match=r"must have the shape \[B, C, \|G\|, H, W\]; got"):
        pool(torch.randn(2, 3, 8, 8))
