import numpy as np
import pytest
import torch

from src.data.images import ImageDataModule

GENERATOR = np.random.default_rng(0)


class Letters(ImageDataModule):
    """100 coloured images of 26 classes, in arrays of bytes, without parts of their own."""

    num_classes, image_shape = 26, (3, 8, 8)

    def __init__(self, parts=(("train", 100),), dtype=np.uint8, **options):
        super().__init__(**options)
        self.parts = {
            name: (
                GENERATOR.integers(256, size=(count, *self.image_shape)).astype(dtype),
                np.arange(count) % self.num_classes,
            )
            for name, count in parts
        }

    def read_parts(self):
        return self.parts


class Flows(Letters):
    num_classes, image_shape, input_kind = 5, (4, 8, 8), "vector"


def set_up(data):
    data.prepare_data()
    data.setup()
    return {
        name: getattr(data, f"{name}_dataloader")().dataset for name in ("train", "val", "test")
    }


@pytest.mark.parametrize(
    ("parts", "sizes"),
    [
        ([("train", 100)], [81, 9, 10]),
        ([("train", 100), ("test", 30)], [90, 10, 30]),
        ([("train", 60), ("val", 30), ("test", 50)], [60, 30, 50]),
    ],
)
def test_parts_that_are_missing_are_held_out_of_the_training_images(parts, sizes):
    data = Letters(parts)
    sets = set_up(data)
    assert [len(part) for part in sets.values()] == sizes
    images = torch.cat([part.images for part in sets.values()]) * data.std + data.mean
    given = np.concatenate([images for images, _ in data.parts.values()])
    rows = {image.tobytes() for image in (images * 255).round().numpy().astype(np.uint8)}
    assert rows == {image.tobytes() for image in given}
    again = Letters(parts, seed=1)
    again.parts = data.parts
    for name, part in set_up(again).items():
        assert torch.equal(part.images, sets[name].images), "the parts do not depend on the seed"
    images, labels = next(iter(data.train_dataloader()))
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
    assert sets["train"].images.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    assert sets["train"].images.mean().item() == pytest.approx(0, abs=1e-5)


def test_vector_fields_keep_their_directions_and_turn_with_their_vectors():
    data = Flows(dtype=np.float64, augment=True)
    images = set_up(data)["train"].images
    assert data.mean == 0
    assert images.square().mean().item() == pytest.approx(1, abs=1e-5)
    turned = data.augmented(torch.ones(64, 4, 8, 8), epoch=0)[..., 3:5, 3:5]
    assert torch.atan2(turned[:, 0], turned[:, 1]).std() > 1
    lengths = turned.unflatten(1, (2, 2)).norm(dim=2)
    torch.testing.assert_close(lengths, torch.full_like(lengths, 2**0.5))


@pytest.mark.parametrize("parts", [[("train", 60)], [("train", 60), ("val", 9), ("test", 12)]])
def test_a_subset_changes_the_training_images_and_their_statistics_alone(parts):
    whole = Flows(parts, np.float64)
    everything, rows = set_up(whole), []
    for num_train in (10, 40):
        data = Flows(num_train=num_train)
        data.parts = whole.parts
        sets = set_up(data)
        assert sets["train"].labels.bincount().tolist() == [num_train // 5] * 5
        assert sets["train"].images.square().mean().item() == pytest.approx(1, abs=1e-5)
        images = {name: part.images * data.std for name, part in sets.items()}
        for name in ("val", "test"):
            torch.testing.assert_close(images[name], everything[name].images * whole.std)
        rows.append({tuple(image.flatten().round().tolist()) for image in images["train"]})
    assert len(rows[0]) == 10 and rows[0] < rows[1]


class Brighter(Letters):
    def augmentation(self, images, generator):
        return images * (1 + torch.rand(len(images), 1, 1, 1, generator=generator))


def test_another_augmentation_sees_black_as_zero():
    data = Brighter(augment=True)
    images = set_up(data)["val"].images
    changed = data.augmented(images, epoch=0)
    factors = (changed * data.std + data.mean) / (images * data.std + data.mean).clamp_min(1e-3)
    bright = factors.flatten(1).quantile(0.5, 1)
    assert 1 < bright.min() < bright.max() < 2
    assert not torch.equal(data.augmented(images, epoch=1), changed)


def test_a_training_sample_is_augmented_and_the_same_in_every_call():
    """Different images, in whole batches; training goes on with its own numbers."""
    plain, data, other = (Brighter(augment=a, batch_size=16) for a in (False, True, True))
    data.parts = other.parts = plain.parts
    train, _, _ = (set_up(d)["train"] for d in (plain, data, other))
    before = torch.get_rng_state()
    stored, sample, again = (d.sample_training(50) for d in (plain, data, data))
    other_seed, one_batch = data.sample_training(50, seed=1), data.sample_training(10)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(*(d.augmented(train.images, epoch=0) for d in (data, other)))
    assert [len(images) for images, _ in (*sample, *one_batch)] == [16, 16, 16, 10]
    assert all(map(torch.equal, sample[0], again[0]))
    assert not torch.equal(sample[0][1], other_seed[0][1])
    (images, labels), (changed, same) = (map(torch.cat, zip(*found)) for found in (stored, sample))
    rows = (images[:, None] == train.images).flatten(2).all(2)
    assert (rows.sum(1) == 1).all() and (rows.sum(0) <= 1).all()
    assert torch.equal(train.labels[rows.int().argmax(1)], labels) and torch.equal(labels, same)
    norms = [(x * plain.std + plain.mean).flatten(1).norm(dim=1) for x in (images, changed)]
    assert 1 < (norms[1] / norms[0]).min() < 1.5 < (norms[1] / norms[0]).max() < 2


@pytest.mark.parametrize(
    ("change", "got"),
    [
        ({"num_classes": 25}, r"labels from 0 to 24; got images .* labels from 0 to 25"),
        ({"image_shape": (1, 8, 8)}, r"\[N, 1, 8, 8\].*got images \[100, 3, 8, 8\]"),
        ({"parts": {"train": (np.zeros((3, 3, 8, 8)), [0, 1])}}, r"\[3, 3, 8, 8\] and 2 labels"),
        ({"parts": {"train": (np.zeros((1, 3, 8, 8)), [-1])}}, "labels from -1 to -1"),
    ],
)
def test_images_that_are_not_as_promised_are_refused(change, got):
    data = Letters()
    vars(data).update(change)
    with pytest.raises(ValueError, match=rf"the train images of Letters must be .*{got}.*Change"):
        data.setup()
