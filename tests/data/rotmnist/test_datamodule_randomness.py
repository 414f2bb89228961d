"""The random parts of the data module: order of batches and augmentation."""

import math
from types import SimpleNamespace

import torch
from torch.utils.data import DistributedSampler

from src.data.rotmnist.datamodule import RotatedMNISTDataModule
from src.data.rotmnist.rotation import rotate_images


def labels_of_epoch(data, epoch):
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return torch.cat([labels for _, labels in loader]).tolist()


def test_the_training_order_is_a_function_of_seed_and_epoch(bundled, make_data):
    torch.manual_seed(1)
    first = [labels_of_epoch(bundled, epoch) for epoch in range(3)]
    torch.manual_seed(2)
    assert labels_of_epoch(bundled, 1) == first[1]
    assert labels_of_epoch(make_data(seed=0), 2) == first[2]
    others = [labels_of_epoch(make_data(seed=1), epoch) for epoch in range(2)]
    orders = [*first, *others]
    assert all(a != b for i, a in enumerate(orders) for b in orders[:i])


def test_the_seed_none_draws_an_order(make_data):
    first, second = (labels_of_epoch(make_data(seed=None), 0) for _ in range(2))
    assert first != second


def test_validation_and_test_are_not_shuffled(bundled):
    for loader in (bundled.val_dataloader(), bundled.test_dataloader()):
        assert torch.equal(torch.cat([labels for _, labels in loader]), loader.dataset.labels)


def test_iterating_leaves_the_global_random_state_alone(bundled):
    before = torch.get_rng_state()
    for loader in (bundled.train_dataloader(), bundled.val_dataloader()):
        next(iter(loader))
    assert torch.equal(torch.get_rng_state(), before)


def test_processes_that_train_together_share_out_the_epoch(make_data):
    parts = []
    for rank in range(2):
        data = make_data()
        data.trainer = FakeTrainer(rank)
        loader = data.train_dataloader()
        loader.sampler.set_epoch(3)
        assert isinstance(loader.sampler, DistributedSampler)
        parts.append(set(loader.sampler))
    assert [len(part) for part in parts] == [1750, 1750]
    assert not parts[0] & parts[1]


def test_processes_without_a_seed_agree_on_one(bundled_dir, make_data):
    data = RotatedMNISTDataModule(bundled_dir, seed=None)
    data.trainer = FakeTrainer(1, broadcast=lambda drawn: 42)
    data.setup()
    alone = make_data(seed=42)
    alone.trainer = FakeTrainer(1)
    assert list(data.train_dataloader().sampler) == list(alone.train_dataloader().sampler)


def test_the_last_batch_is_kept(make_data):
    sizes = [len(labels) for _, labels in make_data(batch_size=999).train_dataloader()]
    assert sizes == [999, 999, 999, 503]


def test_workers_make_the_same_batches(bundled, make_data):
    data = make_data(num_workers=1)
    for (images, labels), (expected, expected_labels) in zip(
        data.val_dataloader(), bundled.val_dataloader(), strict=True
    ):
        assert torch.equal(images, expected)
        assert torch.equal(labels, expected_labels)


class FakeTrainer(SimpleNamespace):
    """What the data module asks of a trainer of two processes."""

    def __init__(self, rank, broadcast=None):
        strategy = SimpleNamespace(root_device=torch.device("cpu"), broadcast=broadcast)
        super().__init__(
            world_size=2,
            global_rank=rank,
            overfit_batches=0,
            training=True,
            testing=False,
            strategy=strategy,
        )


def test_augmentation_rotates_before_normalising(make_data):
    data = make_data(augment=True)
    images = next(iter(data.val_dataloader()))[0][:4]
    augmented = data.augmented(images, epoch=0)
    pixels, turned = (x * data.std + data.mean for x in (images, augmented))
    assert turned[:, 0, 0, 0].abs().max() < 1e-5  # what turns into view is black
    circle = torch.arange(0, 2 * math.pi, 0.005)
    candidates = torch.stack([rotate_images(pixels, angle.expand(4)) for angle in circle])
    nearest = (candidates - turned).abs().amax((-3, -2, -1)).min(dim=0).values
    assert nearest.max() < 0.05


def test_augmentation_is_a_function_of_seed_epoch_and_rank(make_data):
    images = torch.rand(8, 1, 28, 28, generator=torch.Generator().manual_seed(0))

    def two_batches(seed, epoch, rank=0):
        data = make_data(seed=seed, augment=True)
        data.trainer = FakeTrainer(rank)
        return torch.stack([data.augmented(images, epoch) for _ in range(2)])

    torch.manual_seed(1)
    first = two_batches(0, 0)
    torch.manual_seed(2)
    assert torch.equal(two_batches(0, 0), first)
    assert not torch.equal(first[0], first[1])
    for other in (two_batches(1, 0), two_batches(0, 1), two_batches(0, 0, rank=1)):
        assert not torch.allclose(other, first, atol=0.01)


def test_augmentation_leaves_the_global_random_state_alone(make_data):
    data = make_data(augment=True)
    before = torch.get_rng_state()
    data.augmented(torch.rand(8, 1, 28, 28, generator=torch.Generator()), 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_without_a_trainer_batches_pass_the_hook_unchanged(make_data):
    data = make_data(augment=True)
    batch = next(iter(data.train_dataloader()))
    assert data.on_after_batch_transfer(batch, 0) is batch
