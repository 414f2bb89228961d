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
