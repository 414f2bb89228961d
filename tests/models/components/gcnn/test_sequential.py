import pytest

from src.models.components.gcnn import GroupBatchNorm, GroupConv, LiftingConv
from src.models.components.gcnn.restriction import Restriction
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


def test_a_restriction_changes_group_and_channels():
    between = LiftingConv(1, 3, 3, "c8"), Restriction("c8", "c4")
    GroupSequential(*between, GroupConv(6, 2, 3, "c4"), Restriction("c4", "c2"))
    for second, message in (
        (GroupConv(3, 2, 3, "c4"), "got 6 channels from LiftingConv and `in_channels` = 3"),
        (GroupConv(6, 2, 3, "c8"), "got LiftingConv of c4 before GroupConv of c8"),
        (Restriction("d4", "c4"), "got LiftingConv of c4 before Restriction of d4"),
    ):
        with pytest.raises(ValueError, match=message):
            GroupSequential(*between, second)
