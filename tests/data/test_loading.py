from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DistributedSampler

from src.data.datasets import ImageDataset
from src.data.loading import InMemoryDataModule

DATASET = ImageDataset(torch.arange(10.0).view(10, 1, 1, 1), torch.arange(10))


class Numbers(InMemoryDataModule):
    """Ten numbers."""

    def setup(self, stage=None):
        """Start the order anew."""
        self._start_streams()

    def train_dataloader(self):
        """Shuffled."""
        return self._train_loader(DATASET)

    def val_dataloader(self):
        """In order."""
        return self._loader(DATASET)


class TwoProcesses(SimpleNamespace):
    """What a data module asks of a trainer of two processes, or of more."""

    def __init__(self, rank, overfit_batches=0, testing=False, world_size=2):
        broadcast = {"broadcast": lambda drawn: 42}
        strategy = SimpleNamespace(root_device=torch.device("cpu"), **broadcast)
        super().__init__(
            world_size=world_size,
            global_rank=rank,
            overfit_batches=overfit_batches,
            testing=testing,
            strategy=strategy,
        )


def order(seed, epoch, trainer=None):
    data = Numbers(4, 0, seed)
    data.trainer = trainer
    data.setup()
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return torch.cat([labels for _, labels in loader]).tolist()


def test_the_order_is_a_function_of_seed_and_epoch():
    assert order(0, 1) == order(0, 1)
    assert sorted(order(0, 1)) == list(range(10))
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4


def test_processes_share_out_an_epoch_and_agree_on_a_seed():
    parts = [order(None, 3, TwoProcesses(rank)) for rank in range(2)]
    assert sorted(parts[0] + parts[1]) == list(range(10))
    assert parts == [order(42, 3, TwoProcesses(rank)) for rank in range(2)]


def batches(loader):
    loader.sampler.set_epoch(3)
    return [set(labels.tolist()) for _, labels in loader]


def loader_of(split, batch_size, trainer=None):
    data = Numbers(batch_size, 0, seed=5)
    data.trainer = trainer
    data.setup()
    return getattr(data, f"{split}_dataloader")()


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_a_step_of_two_processes_is_one_of_twice_the_batch_size(batch_size):
    parts = [batches(loader_of("train", batch_size, TwoProcesses(rank))) for rank in range(2)]
    together = [one | other for one, other in zip(*parts, strict=True)]
    assert together == batches(loader_of("train", 2 * batch_size))


@pytest.mark.parametrize("world_size", [2, 3, 4, 10])
@pytest.mark.parametrize("split", ["train", "val"])
def test_processes_evaluate_every_sample_once(split, world_size):
    seen = []
    for rank in range(world_size):
        trainer = TwoProcesses(rank, testing=True, world_size=world_size)
        seen += [n for _, labels in loader_of(split, 2, trainer) for n in labels.tolist()]
    assert sorted(seen) == list(range(10))


def test_more_processes_than_samples_to_evaluate():
    with pytest.raises(ValueError, match="sample for every process; got 10 samples for 11"):
        loader_of("val", 2, TwoProcesses(10, world_size=11))


def test_without_a_seed_an_order_is_drawn():
    assert len({tuple(order(None, 0)) for _ in range(5)}) > 1


def test_overfitting_repeats_the_same_batches():
    data = Numbers(4, 0, 0)
    data.trainer = TwoProcesses(0, overfit_batches=1)
    data.setup()
    assert not isinstance(data.train_dataloader().sampler, DistributedSampler)


def test_iterating_leaves_the_global_random_state_alone():
    data = Numbers(4, 0, 0)
    data.setup()
    before = torch.get_rng_state()
    for loader in (data.train_dataloader(), data.val_dataloader()):
        list(loader)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 0, 0), "`batch_size` must be an integer of at least 1; got 0"),
        ((1, -1, 0), "`num_workers` must be an integer of at least 0; got -1"),
        ((1, 0, -1), "`seed` must be an integer of at least 0; got -1"),
    ],
)
def test_wrong_options_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Numbers(*arguments)
