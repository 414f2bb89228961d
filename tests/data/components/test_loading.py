from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DistributedSampler

from src.data.components.datasets import ImageDataset
from src.data.components.loading import InMemoryDataModule

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
    """What a data module asks of a trainer of two processes."""

    def __init__(self, rank, overfit_batches=0):
        broadcast = {"broadcast": lambda drawn: 42}
        strategy = SimpleNamespace(root_device=torch.device("cpu"), **broadcast)
        super().__init__(
            world_size=2, global_rank=rank, overfit_batches=overfit_batches, strategy=strategy
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
