import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, Subset

from src.callbacks.subset import fixed_subset
from tests.helpers.tiny import TinyData, TinyModule, TinyNetwork
from tests.helpers.windows import loader


class Data(TinyData):
    def __init__(self, make_loader):
        super().__init__()
        self.make_loader = make_loader

    def train_dataloader(self):
        return DataLoader(self.train, batch_size=4, shuffle=True)

    def val_dataloader(self):
        return self.make_loader(self.val)

    def on_after_batch_transfer(self, batch, dataloader_idx):
        training = self.trainer.training and not isinstance(batch, torch.Tensor)
        return (batch[0] + 100, batch[1]) if training else batch


class Taking(TinyModule):
    """Takes a subset as a callback does when training starts or a test is over."""

    def __init__(self, split, num_samples):
        super().__init__(TinyNetwork())
        self.asked = split, num_samples

    def on_train_start(self):
        before, stage = torch.get_rng_state(), self.trainer.state.stage
        self.subset = fixed_subset(self.trainer, *self.asked)
        assert torch.equal(torch.get_rng_state(), before)
        assert self.trainer.state.stage == stage

    on_test_end = on_train_start

    def test_step(self, batch, batch_idx, dataloader_idx=0):
        pass


class Stream(IterableDataset):
    def __iter__(self):
        return iter(TinyData().val)


LOADERS = {
    "shuffled": lambda d: DataLoader(d, batch_size=4, shuffle=True),
    "batch sampler": lambda d: DataLoader(d, batch_sampler=[[3, 2], [1, 0]]),
    "stream": lambda d: DataLoader(Stream(), batch_size=4),
    "several": lambda d: [DataLoader(d, batch_size=3), DataLoader(d)],
    "none": lambda d: None,
    "empty": lambda d: DataLoader(Subset(d, []), batch_size=4),
    "one tensor": lambda d: loader(d.tensors[0], 4),
}


CASES = [("val", 7, name, range(7)) for name in LOADERS]
CASES += [("train", 5, "shuffled", [0, 3, 6, 8, 11]), ("train", 99, "shuffled", range(12))]


@pytest.mark.parametrize(("split", "num", "name", "indices"), CASES)
def test_first_validation_or_spread_training_samples_as_stored(
    make_trainer, split, num, name, indices
):
    data, module = Data(LOADERS[name]), Taking(split, num)
    trainer = make_trainer([], max_epochs=1, logger=False, limit_val_batches=0)
    trainer.fit(module, datamodule=data)
    num_parts = {"none": 0, "empty": 0, "one tensor": 1}.get(name, 2)
    batches = [[b] if name == "one tensor" else b for b in module.subset]
    shown = [torch.cat(part) for part in zip(*batches)]
    expected = [part[list(indices)] for part in getattr(data, split).tensors[:num_parts]]
    assert len(shown) == num_parts and all(map(torch.equal, shown, expected))


@pytest.mark.filterwarnings("ignore:.*have no `val_dataloader`")
@pytest.mark.parametrize("has_validation", [True, False])
def test_loaders_without_a_datamodule(make_trainer, has_validation):
    data, module = TinyData(), Taking("val", 3)
    loaders = data.train_dataloader(), [data.val_dataloader()] if has_validation else None
    make_trainer([], max_epochs=1, logger=False).fit(module, *loaders)
    shown = [batch[0].tolist() for batch in module.subset]
    assert shown == [data.val.tensors[0][:3].tolist()] * has_validation


@pytest.mark.parametrize(("num", "expected"), [(1, [0]), (4, [0, 3, 6, 9])])
def test_samples_at_equal_distances_over_the_first_test_set(make_trainer, num, expected):
    windows, module = torch.arange(10.0)[:, None], Taking("test", num)
    loaders = [loader(windows, 4), loader(windows + 100, 4)]
    make_trainer([], logger=False).test(module, loaders, verbose=False)
    assert torch.cat(module.subset).flatten().tolist() == expected
