import pytest
import torch

from src.data.rotmnist.rotation import rotate_images
from src.data.rotmnist.splits import (
    SPLITS,
    class_balanced_indices,
    fixed_angles,
    held_out_indices,
    rotate_once,
)


def test_class_balanced_indices_share_out_every_class():
    labels = torch.arange(40) % 4
    sizes = {"train": 24, "val": 4, "test": 12}
    indices = class_balanced_indices(labels, sizes)
    assert torch.cat([indices[split] for split in SPLITS]).sort().values.tolist() == [*range(40)]
    for split, size in sizes.items():
        assert labels[indices[split]].bincount().tolist() == [size // 4] * 4


def test_class_balanced_indices_are_shuffled_and_fixed():
    labels = torch.arange(1000) // 100
    sizes = {"train": 700, "val": 100, "test": 200}
    first = class_balanced_indices(labels, sizes)
    torch.manual_seed(1)
    again = class_balanced_indices(labels, sizes)
    for split in SPLITS:
        assert torch.equal(first[split], again[split])
        assert labels[first[split]].diff().abs().float().mean() > 1


def test_held_out_indices_are_fixed_and_disjoint():
    rest, held_out = held_out_indices(60, 5)
    assert (len(rest), len(held_out)) == (55, 5)
    assert torch.cat([rest, held_out]).sort().values.tolist() == [*range(60)]
    assert torch.equal(held_out_indices(60, 5)[1], held_out)
    assert held_out.tolist() != [*range(5)]


def test_fixed_angles_differ_between_splits_and_ignore_the_random_state():
    torch.manual_seed(0)
    first = {split: fixed_angles(split, 100) for split in SPLITS}
    torch.manual_seed(1)
    for split in SPLITS:
        assert torch.equal(fixed_angles(split, 100), first[split])
    assert not torch.equal(first["train"], first["val"])
    assert not torch.equal(first["val"], first["test"])


def test_fixed_angles_are_the_same_in_every_version():
    expected = torch.tensor([2.735421, 3.66285, 4.511492])
    torch.testing.assert_close(fixed_angles("train", 3), expected)


@pytest.mark.parametrize("count", [3, 2100])
def test_rotate_once_turns_each_image_by_its_fixed_angle(count):
    images = torch.rand(count, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    expected = rotate_images(images, fixed_angles("val", count))
    assert torch.equal(rotate_once(images, "val"), expected)
