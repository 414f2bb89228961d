import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from src.data.samples import first_loader, first_samples, spread_samples


def loader(size=10, **options):
    numbers = torch.arange(size)
    return DataLoader(TensorDataset(numbers, -numbers), **{"batch_size": 4, **options})


def numbers(batches):
    return torch.cat([batch[0] for batch in batches]).tolist()


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("num_samples", [1, 4, 7, 99])
def test_first_samples_in_the_data_sets_order(num_samples, shuffle):
    batches = first_samples(loader(shuffle=shuffle), num_samples)
    assert numbers(batches) == list(range(min(num_samples, 10)))
    assert all(torch.equal(a, -b) for a, b in batches)
    assert max(len(batch[0]) for batch in batches) <= 4


@pytest.mark.parametrize(("num_samples", "expected"), [(1, [0]), (2, [0, 9]), (4, [0, 3, 6, 9])])
def test_spread_samples(num_samples, expected):
    assert numbers(spread_samples(loader(), num_samples)) == expected


def test_any_iterable_of_batches_gives_its_first_and_of_several_loaders_the_first_counts():
    batches = [torch.arange(3), torch.arange(3, 6)]
    for read in (first_samples, spread_samples):
        assert torch.cat(read(batches, 4)).tolist() == [0, 1, 2, 3]
    loaders = ([1, 2], {"a": 3, "b": 4}, [], None)
    assert list(map(first_loader, loaders)) == [1, 3, None, None]
