from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader

from src.data.loading import ImageDataset, InMemoryDataModule, keep_batch

DATASET = ImageDataset(torch.arange(10.0).view(10, 1, 1, 1), torch.arange(10))


@pytest.mark.parametrize("batch_size", [1, 4, 20])
def test_a_batch_is_indexed_at_once_and_equals_default_collation(batch_size, monkeypatch):
    expected = list(DataLoader([DATASET[i] for i in range(10)], batch_size=batch_size))
    monkeypatch.setattr(ImageDataset, "__getitem__", None)
    batches = DataLoader(DATASET, batch_size=batch_size, collate_fn=keep_batch)
    for batch, expected_batch in zip(batches, expected, strict=True):
        assert all(map(torch.equal, batch, expected_batch))
        batch[0].fill_(-1)
    assert DATASET.images.min() == 0, "a batch is a copy"


def fake_trainer(rank, overfit_batches=0, testing=False, world_size=2):
    """What a data module asks of a trainer of several processes."""
    return SimpleNamespace(
        world_size=world_size,
        global_rank=rank,
        overfit_batches=overfit_batches,
        testing=testing,
        strategy=SimpleNamespace(root_device=torch.device("cpu"), broadcast=lambda drawn: 42),
    )


def batches(split="train", batch_size=4, seed=5, epoch=3, trainer=None, num_workers=0):
    """Labels of each batch of ten numbers."""
    data = InMemoryDataModule(batch_size, num_workers, seed)
    data.trainer, data._datasets = trainer, {"train": DATASET, "val": DATASET}
    data._start_streams()
    loader = getattr(data, f"{split}_dataloader")()
    if hasattr(loader.sampler, "set_epoch"):
        loader.sampler.set_epoch(epoch)
    return [labels.tolist() for _, labels in loader]


def order(**options):
    return [number for batch in batches(**options) for number in batch]


def test_the_order_is_a_function_of_seed_and_epoch():
    before = torch.get_rng_state()
    orders = [order(seed=seed, epoch=epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert torch.equal(torch.get_rng_state(), before), "the global random state is left alone"
    torch.manual_seed(99)
    assert order(seed=0, epoch=1) == orders[1]
    assert len(set(map(tuple, orders))) == 4
    assert all(sorted(one) == list(range(10)) for one in orders)
    assert len({tuple(order(seed=None)) for _ in range(5)}) > 1, "without a seed one is drawn"


def test_the_last_batch_is_kept_and_workers_make_the_same_batches():
    in_order = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert batches("val") == in_order
    assert batches(trainer=fake_trainer(0, overfit_batches=1)) == in_order
    assert list(map(len, batches("train"))) == [4, 4, 2]
    assert batches(num_workers=1) == batches()


def test_processes_share_out_an_epoch_and_agree_on_a_seed():
    parts = [order(seed=None, trainer=fake_trainer(rank)) for rank in range(2)]
    assert sorted(parts[0] + parts[1]) == list(range(10))
    assert parts == [order(seed=42, trainer=fake_trainer(rank)) for rank in range(2)]
    for size in (1, 2, 3):  # a step of two processes is one of twice the batch size
        parts = [batches(batch_size=size, trainer=fake_trainer(rank)) for rank in range(2)]
        together = [{*one, *other} for one, other in zip(*parts, strict=True)]
        assert together == list(map(set, batches(batch_size=2 * size)))


@pytest.mark.parametrize("world_size", [2, 3, 10])
@pytest.mark.parametrize("split", ["train", "val"])
def test_processes_evaluate_every_sample_once(split, world_size):
    seen = []
    for rank in range(world_size):
        trainer = fake_trainer(rank, testing=True, world_size=world_size)
        seen += order(split=split, trainer=trainer)
    assert sorted(seen) == list(range(10))
    with pytest.raises(ValueError, match="sample for every process; got 10 samples for 11"):
        order(split=split, trainer=fake_trainer(10, testing=True, world_size=11))


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
        InMemoryDataModule(*arguments)
    with pytest.raises(RuntimeError, match=r"loaded before a loader.*Call prepare_data\(\)"):
        InMemoryDataModule(4, 0, 0).train_dataloader()
