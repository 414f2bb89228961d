"""Independent random streams derived from a few integers."""

from enum import IntEnum

import numpy as np
from torch import Generator


class Stream(IntEnum):
    """What random numbers are for; streams of one seed share nothing."""

    SPLIT = 0
    FIXED_ANGLES = 1
    ORDER = 2
    AUGMENTATION = 3


def derived_seed(seed: int, stream: Stream, *key: int) -> int:
    """Mix non-negative integers into a 32-bit seed.

    Consecutive seeds or keys give unrelated results, unlike sums such as seed + epoch, by which
    epoch 1 of one run would repeat epoch 0 of the next.
    """
    return int(np.random.SeedSequence((seed, stream, *key)).generate_state(1)[0])


def derived_generator(seed: int, stream: Stream, *key: int) -> Generator:
    """A CPU generator seeded with `derived_seed`."""
    return Generator().manual_seed(derived_seed(seed, stream, *key))
