import hashlib

import numpy as np
import torch

from src.data.rotmnist.parsing import LabelledImages, parse_amat, parse_csv, parse_idx
from src.data.rotmnist.sources import BUNDLED
from src.data.rotmnist.splits import SPLITS


def paths(published):
    return [published.folder / file.name for file in published.source.files]


def test_amat_keeps_the_order_of_rows_and_pixels(published_amat):
    splits = parse_amat(paths(published_amat), published_amat.source.sizes)
    images, labels = published_amat.arrays["train_valid"]
    parts = {"train": (images[:10], labels[:10]), "val": (images[10:], labels[10:])}
    parts["test"] = published_amat.arrays["test"]
    assert set(splits) == set(SPLITS)
    for split, (expected_images, expected_labels) in parts.items():
        assert splits[split].images.dtype == torch.float32
        np.testing.assert_allclose(splits[split].images, expected_images, rtol=1e-7)
        np.testing.assert_array_equal(splits[split].labels, expected_labels)


def test_idx_holds_validation_out_of_training_and_leaves_test_alone(published_idx):
    splits = parse_idx(paths(published_idx), published_idx.source.sizes)
    assert {split: len(digits.labels) for split, digits in splits.items()} == {
        "train": 20,
        "val": 4,
        "test": 6,
    }
    images, labels = published_idx.arrays["t10k"]
    np.testing.assert_array_equal(splits["test"].images, images)
    np.testing.assert_array_equal(splits["test"].labels, labels)
    merged = LabelledImages(*(torch.cat(parts) for parts in zip(splits["train"], splits["val"])))
    assert rows_of(merged) == rows_of(published_idx.arrays["train"])


def test_csv_gives_the_bundled_digits_once_each():
    files = [BUNDLED.folder(None) / file.name for file in BUNDLED.files]
    splits = parse_csv(files, BUNDLED.sizes)
    rows = [rows_of(digits) for digits in splits.values()]
    assert [len(part) for part in rows] == [3500, 500, 1000]
    assert len(set().union(*rows)) == 5000


def test_the_bundled_splits_are_the_same_in_every_version():
    files = [BUNDLED.folder(None) / file.name for file in BUNDLED.files]
    content = hashlib.md5()
    for digits in parse_csv(files, BUNDLED.sizes).values():
        content.update(digits.images.numpy().tobytes())
        content.update(digits.labels.numpy().tobytes())
    assert content.hexdigest() == "9ba4bfcfbe25c9b4dcd855c6dac80111"


def rows_of(digits):
    """The set of (pixels, label), whatever their order."""
    return {(np.asarray(image).tobytes(), int(label)) for image, label in zip(*digits)}
