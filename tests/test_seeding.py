import itertools
import random
from functools import partial

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from src.models.base_module import BaseModule
from src.seeding import Stream, derived_generator, derived_seed, seed_epoch, seed_run
from tests.helpers.tiny import lightning_warnings
from tests.helpers.windows import make_trainer

pytestmark = lightning_warnings


@pytest.fixture(autouse=True)
def no_seed_of_other_tests(monkeypatch):
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(name, "0")  # so that it is taken back
        monkeypatch.delenv(name)


def draws():
    return torch.rand(1).item(), random.random(), np.random.rand()  # noqa: NPY002


def test_zero_is_a_seed_and_without_a_seed_one_is_drawn():
    zero, again, one = ((seed_run(seed), draws()) for seed in (0, 0, 1))
    assert zero == again and zero[0] == 0
    assert zero[1] != one[1]
    drawn = {seed_run(None) for _ in range(3)}
    assert len(drawn) == 3
    assert all(0 <= seed < 2**32 for seed in drawn)


def test_an_epoch_and_a_rank_have_their_own_numbers():
    def numbers(*key):
        seed_epoch(*key)
        return draws()

    assert numbers(0, 1) == numbers(0, 1) == numbers(0, 1, 0)
    keys = list(itertools.product(range(3), range(3), range(2)))
    for each in zip(*(numbers(*key) for key in keys)):
        assert len(set(each)) == len(keys)


def test_every_epoch_of_a_fit_starts_from_numbers_of_its_own(tmp_path):
    class Drawing(BaseModule):
        def on_train_epoch_start(self):
            super().on_train_epoch_start()
            drawn.append(draws())

        def training_step(self, batch, batch_idx):
            return self(batch).sum()

    drawn, optimizer = [], partial(torch.optim.SGD, lr=0.1)
    seed_run(0)
    module, batches = Drawing(torch.nn.Linear(1, 1), optimizer), DataLoader(torch.zeros(2, 1))
    make_trainer(tmp_path, max_epochs=3).fit(module, batches)
    assert [len(set(numbers)) for numbers in zip(*drawn)] == [3, 3, 3]


def test_seeds_derived_from_different_keys_differ_and_are_the_same_in_every_version():
    assert derived_seed(0, Stream.ORDER) == 3141116543
    assert derived_seed(3, Stream.AUGMENTATION, 2, 1) == 2291302849
    keys = list(itertools.product(range(10), Stream, range(10), range(2)))
    assert len({derived_seed(*key) for key in keys}) == len(keys)
    assert derived_generator(7, Stream.ORDER).initial_seed() == derived_seed(7, Stream.ORDER)
