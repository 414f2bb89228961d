import pytest

from src.models.components.gcnn import GroupBatchNorm, GroupConv, LiftingConv
from src.models.components.gcnn.sequential import GroupSequential


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (GroupConv(3, 2, 3, "d4"), r"must have one group; got .* of c8 before .* of d4. Give"),
        (GroupConv(4, 2, 3, "c8"), r"as many channels as the one before.*got 3.*in_channels. = 4"),
    ],
)
def test_neighbours_must_agree(second, message):
    with pytest.raises(ValueError, match=message):
        GroupSequential(LiftingConv(1, 3, 3, "c8"), GroupBatchNorm(3), second)
