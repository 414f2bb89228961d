import pytest
import torch

from src.data.smoke.augmentation import group_on_grid, turn_at_random, turn_windows
from src.models.components.gcnn.actions import transform_image, transform_vector_field


@pytest.mark.parametrize("channels", [2, 3])
@pytest.mark.parametrize("name", ["c1", "c2", "c4", "d1", "d4"])
def test_each_window_is_turned_by_its_own_element(name, channels):
    """Frame by frame: the slow twin. The density, a third channel, has no direction."""
    group = group_on_grid(name)
    windows = torch.randn(11, 3, channels, 6, 6, generator=torch.Generator().manual_seed(0))
    elements = torch.arange(11) * 3 % group.order
    before = windows.clone()
    turned = turn_windows(windows, group, elements)
    for window, own, element in zip(windows, turned, elements.tolist(), strict=True):
        for frame, other in zip(window, own, strict=True):
            turned_vectors = transform_vector_field(frame[None, :2], group, element)[0]
            assert torch.equal(other[:2], turned_vectors)
            assert torch.equal(other[2:], transform_image(frame[2:], group, element))
    assert torch.equal(windows, before), "the batch is left alone"


def test_a_quarter_turn_turns_pictures_and_vectors():
    """Counter-clockwise: a vector to the right becomes one upwards on the displayed picture."""
    windows = torch.zeros(1, 1, 2, 3, 3)
    windows[0, 0, 0, 1, 2] = 1  # at the right edge, along columns
    turned = turn_windows(windows, group_on_grid("c4"), torch.tensor([1]))
    expected = torch.zeros(2, 3, 3)
    expected[1, 0, 1] = -1  # at the upper edge, against the rows
    assert torch.equal(turned[0, 0], expected)


def test_elements_are_drawn_uniformly():
    group = group_on_grid("d4")
    window = torch.randn(1, 1, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    copies = window.expand(800, -1, -1, -1, -1)
    drawn = turn_at_random(copies, group, torch.Generator().manual_seed(1))
    each = turn_windows(window.expand(8, -1, -1, -1, -1), group, torch.arange(8))
    counts = (drawn[:, None] == each).flatten(2).all(2).sum(0)
    assert counts.sum() == 800 and counts.min() > 70


@pytest.mark.parametrize("name", ["c8", "c3", "d8"])
def test_groups_that_do_not_act_on_the_grid_are_refused(name):
    message = f"`augment` must be none, or a group whose .* grid .*got '{name}'. Use data.augment="
    with pytest.raises(ValueError, match=message):
        group_on_grid(name)
    assert group_on_grid("none") is None
