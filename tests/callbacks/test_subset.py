import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from src.callbacks.subset import spread_test_subset, validation_subset
from tests.helpers.tiny import TinyData, TinyModule, TinyNetwork, lightning_warnings
from tests.helpers.windows import loader

pytestmark = lightning_warnings


def subset_of(make_trainer, data, num_samples):
    """The subset as a callback sees it when training starts."""
    trainer = make_trainer([], max_epochs=1, limit_val_batches=0, logger=False)
    seen = {}

    class Module(TinyModule):
        def on_train_start(self):
            seen["rng"] = torch.get_rng_state()
            seen["subset"] = validation_subset(trainer, num_samples)
            seen["unchanged"] = torch.equal(torch.get_rng_state(), seen["rng"])
            seen["training"] = trainer.training

    trainer.fit(Module(TinyNetwork()), datamodule=data)
    assert seen["unchanged"]
    assert seen["training"]
    return seen["subset"]


class OfLoader(TinyData):
    def __init__(self, make_loader):
        super().__init__()
        self.make_loader = make_loader

    def val_dataloader(self):
        return self.make_loader(self.val)


class Stream(IterableDataset):
    def __init__(self, dataset):
        self.dataset = dataset

    def __iter__(self):
        return iter(self.dataset)


LOADERS = {
    "plain": lambda d: DataLoader(d, batch_size=4),
    "shuffled": lambda d: DataLoader(d, batch_size=4, shuffle=True),
    "sampler": lambda d: DataLoader(d, batch_size=4, sampler=range(9, -1, -1)),
    "batch sampler": lambda d: DataLoader(d, batch_sampler=[[3, 2], [1, 0]]),
    "stream": lambda d: DataLoader(Stream(d), batch_size=4),
    "several": lambda d: [DataLoader(d, batch_size=3), DataLoader(d)],
    "by name": lambda d: {"a": DataLoader(d, batch_size=3), "b": DataLoader(d)},
    "own": lambda d: OwnLoader(d),
}


class OwnLoader:
    """Any iterable of batches."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __iter__(self):
        images, labels = self.dataset.tensors
        return iter([[images[:7], labels[:7]], [images[7:], labels[7:]]])


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize("num_samples", [1, 7, 99])
def test_first_samples_in_their_own_order(make_trainer, name, num_samples):
    data = OfLoader(LOADERS[name])
    subset = subset_of(make_trainer, data, num_samples)
    for part, expected in enumerate(data.val.tensors):
        got = torch.cat([batch[part] for batch in subset])
        assert torch.equal(got, expected[:num_samples])


@pytest.mark.parametrize("loader", [None, [], {}])
def test_no_loader(make_trainer, loader):
    assert subset_of(make_trainer, OfLoader(lambda _: loader), 5) == []


def test_an_empty_data_set(make_trainer):
    data = OfLoader(lambda d: DataLoader(torch.utils.data.Subset(d, []), batch_size=4))
    assert subset_of(make_trainer, data, 5) == []


def test_hooks_see_a_trainer_that_validates(make_trainer):
    """Augmentation of training batches, in a hook, spares the subset."""

    class Augmenting(TinyData):
        def on_after_batch_transfer(self, batch, dataloader_idx):
            images, labels = batch
            return (images + 100 if self.trainer.training else images + 1), labels

    data = Augmenting()
    subset = subset_of(make_trainer, data, 10)
    assert torch.equal(torch.cat([batch[0] for batch in subset]), data.val.tensors[0] + 1)


@pytest.mark.parametrize("num_samples", [1, 5, 99])
def test_batches_that_are_one_tensor(make_trainer, num_samples):
    data = OfLoader(lambda d: loader(d.tensors[0], 4))
    subset = subset_of(make_trainer, data, num_samples)
    assert torch.equal(torch.cat(subset), data.val.tensors[0][:num_samples])


def spread_of(make_trainer, loaders, num_samples):
    """The subset as a callback sees it when testing ends."""
    seen = []

    class Module(TinyModule):
        def test_step(self, batch, batch_idx, dataloader_idx=0):
            pass

        def on_test_end(self):
            seen.extend(spread_test_subset(self.trainer, num_samples))

    make_trainer([], logger=False).test(Module(TinyNetwork()), loaders, verbose=False)
    return seen


@pytest.mark.parametrize(
    ("num_samples", "expected"), [(1, [0]), (2, [0, 9]), (4, [0, 3, 6, 9]), (99, list(range(10)))]
)
def test_samples_at_equal_distances_over_the_first_test_set(make_trainer, num_samples, expected):
    windows = torch.arange(10.0)[:, None]
    loaders = [loader(windows, 4), loader(windows + 100, 4)]
    got = torch.cat(spread_of(make_trainer, loaders, num_samples))
    assert got.flatten().tolist() == expected


def test_other_test_loaders_give_their_first_samples(make_trainer):
    (got,) = spread_of(make_trainer, OwnLoader(TinyData().val), 3)
    assert torch.equal(got[0], TinyData().val.tensors[0][:3])


def test_no_test_loader(make_trainer):
    assert spread_test_subset(make_trainer([]), 3) == []
