"""Random numbers that depend on (seed, epoch) alone, so that a resumed run draws the same ones."""

import os
import random
import secrets

import numpy as np
import torch
from lightning import LightningModule, seed_everything

from src.utils.config_checks import MAX_SEED


def seed_run(seed: int | None) -> int:
    """Seed every generator with `seed`, or with a drawn one when it is None; return the seed."""
    seed = secrets.randbelow(MAX_SEED + 1) if seed is None else seed
    seed_everything(seed, workers=True, verbose=False)
    return seed


def seed_epoch(seed: int, epoch: int) -> None:
    """Seed the global generators of torch, numpy and Python for one training epoch.

    The words of `numpy.random.SeedSequence(seed, spawn_key=(epoch,))` are used: epochs of one run,
    and equal epochs of neighbouring seeds, draw unrelated numbers.
    """
    words = np.random.SeedSequence(seed, spawn_key=(epoch,)).generate_state(3)
    torch.manual_seed(int(words[0]))
    random.seed(int(words[1]))
    np.random.seed(words[2])  # noqa: NPY002 -- third-party transforms use the global generator


class SeededEpochs(LightningModule):
    """A LightningModule whose training epochs each start from a random state of their own.

    The state is a function of the run's seed (the one given to `lightning.seed_everything`) and
    the epoch. Without a seed nothing is changed.
    """

    _fetches_stale_batches = True

    def on_train_epoch_start(self) -> None:
        """Seed the epoch; where a run is resumed, also start its batches anew."""
        seed = os.environ.get("PL_GLOBAL_SEED")
        if seed is None:
            return
        seed_epoch(int(seed), self.current_epoch)
        # Lightning makes the first iterator of a fit before it knows the epoch to resume at:
        # workers of the data loader would have fetched batches in the order of epoch 0.
        if self._fetches_stale_batches and self.current_epoch > 0:
            iter(self.trainer.fit_loop._data_fetcher)
        self._fetches_stale_batches = False
