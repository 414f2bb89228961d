import pytest
from torch import nn

from src.models.components.widths import count_parameters, resolve_widths


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
