"""Training epochs whose random numbers depend on (seed, epoch, rank) alone."""

import os

from lightning import LightningModule

from src.seeding import seed_epoch


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
