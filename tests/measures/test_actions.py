import pytest
from torch import nn

from src.measures.actions import group_of
from src.models.components.gcnn import GroupConv, make_group


class Own(nn.Module):
    def __init__(self, group):
        super().__init__()
        self.conv = nn.Sequential(nn.Linear(1, 1), GroupConv(1, 1, 3, "d4"))
        if group is not None:
            self.group = group


@pytest.mark.parametrize(("group", "name"), [("c8", "c8"), (make_group("c8"), "c8"), (None, "d4")])
def test_the_group_of_a_network_is_its_own_or_that_of_its_layers(group, name):
    assert group_of(Own(group)).name == name
    assert group_of(nn.Sequential(nn.Conv2d(1, 1, 3, groups=1), nn.ReLU())) is None
