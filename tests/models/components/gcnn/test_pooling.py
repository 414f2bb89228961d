import pytest
import torch

from src.models.components.gcnn import GroupPool, SpatialPool
from tests.helpers.equivariance import assert_equivariant


@pytest.mark.parametrize(
    ("mode", "over_group", "over_windows"), [("max", 3.0, 5.0), ("mean", 1.5, 2.5)]
)
def test_values_and_equivariance(mode, over_group, over_windows):
    x = torch.arange(4.0).view(1, 1, 4, 1, 1).expand(2, 3, 4, 5, 6)
    assert torch.equal(GroupPool(mode)(x), torch.full((2, 3, 5, 6), over_group))
    window = torch.tensor([[0.0, 1.0], [4.0, 5.0]]).view(1, 1, 1, 2, 2)
    assert SpatialPool(2, mode)(window).item() == over_windows
    x = torch.randn(2, 3, 8, 6, 4)
    assert_equivariant(GroupPool(mode), x, "d4", "regular", "scalar")
    assert_equivariant(SpatialPool(2, mode), x, "d4", "regular")


@pytest.mark.parametrize("pool", [GroupPool, SpatialPool])
def test_bad_modes_and_inputs_are_refused(pool):
    with pytest.raises(ValueError, match="`mode` must be one of max, mean; got 'sum'"):
        pool(mode="sum")
    with pytest.raises(ValueError, match=r"must have the shape \[B, C, \|G\|, H, W\].*; got"):
        pool()(torch.randn(2, 3, 8, 8))
