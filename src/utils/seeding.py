"""Random numbers that depend on (seed, epoch, rank) alone: a resumed run draws the same ones."""

import os
import random
import secrets

import numpy as np
import torch
from lightning import LightningModule, seed_everything
from lightning.fabric.utilities.rank_zero import rank_zero_only

from src.utils.config_checks import MAX_SEED


def seed_run(seed: int | None) -> int:
    """Seed every generator with `seed`, or with a drawn one when it is None; return the seed."""
    if seed is None and rank_zero_only.rank != 0:
        seed = int(os.environ["PL_GLOBAL_SEED"])  # as the first process drew it
    seed = secrets.randbelow(MAX_SEED + 1) if seed is None else seed
    seed_everything(seed, workers=True, verbose=False)
    return seed


def seed_epoch(seed: int, epoch: int, rank: int = 0) -> None:
    """Seed the global generators of torch, numpy and Python for one training epoch.

    The words of `numpy.random.SeedSequence(seed, spawn_key=(epoch,))` are used: epochs of one run,
    and equal epochs of neighbouring seeds, draw unrelated numbers. So do the processes that train
    together, by their rank: dropout must not drop the same features in all of them.
    """
    key = (epoch,) if rank == 0 else (epoch, rank)
    words = np.random.SeedSequence(seed, spawn_key=key).generate_state(3)
    torch.manual_seed(int(words[0]))
    random.seed(int(words[1]))
    np.random.seed(words[2])  # noqa: NPY002 -- third-party transforms use the global generator


class SeededEpochs(LightningModule):
    """A LightningModule whose training epochs each start from a random state of their own.

    The state is a function of the run's seed (the one given to `lightning.seed_everything`), the
    epoch and the rank of the process. Without a seed nothing is changed.
    """

    _fetches_stale_batches = True

    def on_train_epoch_start(self) -> None:
        """Seed the epoch; where a run is resumed, also start its batches anew."""
        seed = os.environ.get("PL_GLOBAL_SEED")
        if seed is None:
            return
        seed_epoch(int(seed), self.current_epoch, self.global_rank)
        # Lightning makes the first iterator of a fit before it knows the epoch to resume at:
        # workers of the data loader would have fetched batches in the order of epoch 0.
        if self._fetches_stale_batches and self.current_epoch > 0:
            iter(self.trainer.fit_loop._data_fetcher)
        self._fetches_stale_batches = False
