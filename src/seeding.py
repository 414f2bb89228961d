"""Random numbers that depend on (seed, epoch, rank) alone: a resumed run draws the same ones."""

import os
import random
import secrets
from enum import IntEnum

import numpy as np
import torch
from lightning import seed_everything
from lightning.fabric.utilities.rank_zero import rank_zero_only
from torch import Generator

MAX_SEED = 2**32 - 1


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


class Stream(IntEnum):
    """What random numbers are for; streams of one seed share nothing."""

    SPLIT = 0
    FIXED_ANGLES = 1
    ORDER = 2
    AUGMENTATION = 3
    SUBSET = 4


def derived_seed(seed: int, stream: Stream, *key: int) -> int:
    """Mix non-negative integers into a 32-bit seed.

    Consecutive seeds or keys give unrelated results, unlike sums such as seed + epoch, by which
    epoch 1 of one run would repeat epoch 0 of the next.
    """
    return int(np.random.SeedSequence((seed, stream, *key)).generate_state(1)[0])


def derived_generator(seed: int, stream: Stream, *key: int) -> Generator:
    """A CPU generator seeded with `derived_seed`."""
    return Generator().manual_seed(derived_seed(seed, stream, *key))
