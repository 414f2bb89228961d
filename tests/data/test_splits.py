import pytest
import torch

from src.data import splits
from src.data.rotation import rotate_images


def test_class_balanced_indices_share_out_every_class_shuffled_and_fixed():
    labels = torch.arange(400) // 100
    sizes = {"train": 240, "val": 40, "test": 120}
    first = splits.class_balanced_indices(labels, sizes)
    assert torch.cat(list(first.values())).sort().values.tolist() == [*range(400)]
    torch.manual_seed(1)
    again = splits.class_balanced_indices(labels, sizes)
    for split, size in sizes.items():
        assert labels[first[split]].bincount().tolist() == [size // 4] * 4
        assert torch.equal(first[split], again[split])
        assert labels[first[split]].diff().abs().float().mean() > 0.9


def test_held_out_indices_are_fixed_and_disjoint():
    rest, held_out = splits.held_out_indices(60, 5)
    assert (len(rest), len(held_out)) == (55, 5)
    assert torch.cat([rest, held_out]).sort().values.tolist() == [*range(60)]
    assert torch.equal(splits.held_out_indices(60, 5)[1], held_out)
    assert held_out.tolist() != [*range(5)]


def test_drawn_indices_are_fixed_and_none_is_drawn_twice():
    sizes = {"train": 10, "val": 3, "test": 40}
    for seed in (0, 1):
        torch.manual_seed(seed)
        drawn = splits.drawn_indices(60, sizes)
        assert drawn["val"].tolist() == [7, 32, 59]
    assert {split: len(rows) for split, rows in drawn.items()} == sizes
    assert len({*torch.cat(list(drawn.values())).tolist()} & {*range(60)}) == 53


def test_balanced_subsets_are_fixed_nested_and_sorted():
    labels = torch.tensor([0] * 50 + [2] * 30 + [1] * 40)
    subsets = [splits.balanced_subset(labels, count, 3) for count in (3, 30, 60, 90)]
    for subset, larger in zip(subsets, [*subsets[1:], torch.arange(120)]):
        assert labels[subset].bincount().tolist() == [len(subset) // 3] * 3
        assert {*subset.tolist()} < {*larger.tolist()}
        assert torch.equal(subset, subset.sort().values)
    torch.manual_seed(1)
    assert splits.balanced_subset(labels, 3, 3).tolist() == subsets[0].tolist() == [27, 74, 109]


@pytest.mark.parametrize(
    ("count", "num_classes", "got"),
    [
        (20, 3, "3 classes, .*got 20. Use a multiple of 3 up to 90"),
        (93, 3, "got 93, where there are 30 of class 2. Use a multiple of 3 up to 90"),
        (90, 2, "got 90, where there are 40 of class 1. Use a multiple of 2 up to 80"),
        (4, 4, "got 4, where there are 0 of class 3. .* or data.num_train=null"),
    ],
)
def test_subsets_without_equal_shares_are_refused(count, num_classes, got):
    labels = torch.tensor([0] * 50 + [2] * 30 + [1] * 40)
    labels = labels[labels < num_classes]
    with pytest.raises(ValueError, match=rf"`num_train` must take equally many .*{got}"):
        splits.balanced_subset(labels, count, num_classes)


def test_fixed_angles_differ_between_splits_and_are_the_same_in_every_version():
    for seed in (0, 1):
        torch.manual_seed(seed)
        expected = torch.tensor([2.735421, 3.66285, 4.511492])
        torch.testing.assert_close(splits.fixed_angles("train", 3), expected)
    assert len({tuple(splits.fixed_angles(split, 100).tolist()) for split in splits.SPLITS}) == 3
    for count in (3, 2100):  # in one chunk, and in several
        images = torch.rand(count, 1, 6, 6, generator=torch.Generator().manual_seed(0))
        turned = rotate_images(images, splits.fixed_angles("val", count))
        assert torch.equal(splits.rotate_once(images, "val"), turned)
        turned = rotate_images(images, splits.fixed_angles("val", count, 30))
        assert torch.equal(splits.rotate_once(images, "val", 30), turned)
        assert torch.equal(splits.rotate_once(images, "val", 0), images)
