import pytest
import torch
from torch.utils.data import DataLoader

from src.data.datasets import ImageDataset, keep_batch


@pytest.fixture
def dataset():
    generator = torch.Generator().manual_seed(0)
    return ImageDataset(torch.rand(11, 1, 3, 3, generator=generator), torch.arange(11) % 10)


@pytest.mark.parametrize("batch_size", [1, 4, 20])
def test_batches_equal_those_of_default_collation(dataset, batch_size):
    one_by_one = [dataset[i] for i in range(len(dataset))]
    expected = DataLoader(one_by_one, batch_size=batch_size)
    batches = DataLoader(dataset, batch_size=batch_size, collate_fn=keep_batch)
    assert len(batches) == len(expected)
    for (images, labels), (expected_images, expected_labels) in zip(batches, expected):
        assert torch.equal(images, expected_images)
        assert torch.equal(labels, expected_labels)
        assert labels.dtype == torch.int64


def test_a_batch_is_indexed_at_once(dataset, monkeypatch):
    def fail(self, index):
        raise AssertionError("a sample was read on its own")

    monkeypatch.setattr(ImageDataset, "__getitem__", fail)
    assert len(list(DataLoader(dataset, batch_size=4, collate_fn=keep_batch))) == 3


def test_a_batch_is_a_copy(dataset):
    images, labels = dataset.__getitems__([3, 1])
    images.zero_()
    labels.zero_()
    assert dataset.images[3].min() > 0
    assert dataset.labels[3] == 3


def test_images_and_labels_must_match():
    with pytest.raises(ValueError, match="one label; got 3 images and 2 labels"):
        ImageDataset(torch.zeros(3, 1, 2, 2), torch.zeros(2))
