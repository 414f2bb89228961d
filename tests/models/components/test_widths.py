import pytest
import torch
from torch import nn

from src.models.components.widths import count_parameters, resolve_widths, with_num_parameters


def count(widths):  # of 9 weights per pair of channels
    return sum(9 * i * o for i, o in zip([1, *widths], widths))


def test_trainable_parameters_are_counted():
    network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    assert count_parameters(network) == 9 + 4
    network[0].weight.requires_grad_(False)
    assert count_parameters(network) == 3 + 4


@pytest.mark.parametrize("target", [None, 2_000, 58_000, 1_000_000])
def test_widths_of_a_number_of_parameters_keep_their_proportions(target):
    widths = resolve_widths([1, 2, 2, 4], 4, target, count)
    assert widths == [1, 2, 2, 4] or count(widths) == pytest.approx(target, rel=0.03)
    assert widths[3] / widths[0] == pytest.approx(4, rel=0.2)
    assert resolve_widths(4, 3, None, count) == [4, 4, 4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 3, None), "`hidden_channels` must be an integer of at least 1; got 0"),
        (([1, 2], 3, None), "one number or one per hidden layer; got 2 for 3. Give 3"),
        ((4, 3, 0), "`num_parameters` must be an integer of at least 1; got 0"),
        ((4, 3, 50), "must be met within 3%; widths .* Ask for more"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        resolve_widths(*arguments, count)


class Branches(nn.Module):
    """No chain: two branches of different widths that meet again."""

    def __init__(self, width):
        super().__init__()
        a, b = (max(1, round(width * channels)) for channels in (3, 7))
        self.branches = nn.ModuleList([nn.Conv2d(2, a, 3), nn.Conv2d(2, b, 5)])
        self.head = nn.Linear(a * b, 4)


@pytest.mark.parametrize("target", [1_000, 58_000, 3_000_000])
def test_a_width_is_searched_for_a_network_of_any_shape(target):
    torch.manual_seed(0)
    network = with_num_parameters(Branches, target)
    assert count_parameters(network) == pytest.approx(target, rel=0.03)
    torch.manual_seed(0)
    first = network.branches[0]
    assert torch.equal(nn.Conv2d(2, first.out_channels, 3).weight, first.weight), "no random number"


@pytest.mark.parametrize(
    ("make", "target", "message"),
    [
        (Branches, 100, r"met within 3%.*got 100, between \d+ and \d+ of neighbouring widths"),
        (lambda width: nn.Linear(1, 1), 58_000, "got 58000, between 2 and 2"),
        (Branches, 0.5, "`num_parameters` must be an integer of at least 1; got 0.5"),
    ],
)
def test_numbers_of_parameters_that_no_width_gives(make, target, message):
    with pytest.raises(ValueError, match=message):
        with_num_parameters(make, target)
