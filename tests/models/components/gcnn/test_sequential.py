import pytest
import torch

from src.models.components.gcnn import GroupBatchNorm, GroupConv, LiftingConv
from src.models.components.gcnn.sequential import GroupSequential


def test_layers_that_fit_together_run():
    layers = GroupSequential(
        LiftingConv(1, 3, 3, "c4"), GroupBatchNorm(3), GroupConv(3, 2, 3, "c4")
    )
    assert layers(torch.randn(2, 1, 8, 8)).shape == (2, 2, 4, 8, 8)


def test_groups_of_equal_order_are_told_apart():
    with pytest.raises(
        ValueError, match=r"must have one group; got .* of c8 before .* of d4. Give"
    ):
        GroupSequential(LiftingConv(1, 3, 3, "c8"), GroupConv(3, 2, 3, "d4"))


def test_channels_must_match():
    with pytest.raises(
        ValueError, match=r"as many channels as the one before.*got 3.*`in_channels` = 4"
    ):
        GroupSequential(LiftingConv(1, 3, 3, "c8"), GroupBatchNorm(3), GroupConv(4, 2, 3, "c8"))
