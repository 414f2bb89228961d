"""Loaders of data in memory, whose order is a function of (seed, epoch, rank)."""

import warnings

from lightning import LightningDataModule
from torch import Generator
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Sampler

from src.data.components.checks import check_integer
from src.data.components.datasets import keep_batch
from src.data.components.seeding import Stream, derived_seed


class InMemoryDataModule(LightningDataModule):
    """What data modules with all samples in memory share: seed, order and loaders.

    The order of the training batches is a function of (seed, epoch, rank) alone: neither the
    global random state nor the network has a part in it.

    Args:
        batch_size: samples per batch, on each device.
        num_workers: processes that make batches.
        seed: seed of the order; None draws one, not reproducibly.

    Raises:
        TypeError, ValueError: if an option has another type or lies outside its range.
    """

    def __init__(self, batch_size: int, num_workers: int, seed: int | None) -> None:
        super().__init__()
        check_integer("batch_size", batch_size, minimum=1, example=64)
        check_integer("num_workers", num_workers, minimum=0, example=0)
        if seed is not None:
            check_integer("seed", seed, minimum=0, example=0)
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self._run_seed = 0

    def _start_streams(self) -> None:
        """Agree on the seed of this run; call it in ``setup``."""
        self._run_seed = self._agree_on_seed()
        if self.trainer is not None:
            # Indexing a tensor in memory leaves workers nothing to speed up.
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")

    def _train_loader(self, dataset: Dataset) -> DataLoader:
        """Batches in an order that depends on the seed and the epoch only."""
        if self.trainer is not None and self.trainer.overfit_batches > 0:
            return self._loader(dataset)  # the same batches in every epoch
        replicas, rank = self._position()
        order_seed = derived_seed(self._run_seed, Stream.ORDER)
        return self._loader(
            dataset, DistributedSampler(dataset, replicas, rank, shuffle=True, seed=order_seed)
        )

    def _loader(self, dataset: Dataset, sampler: Sampler | None = None) -> DataLoader:
        on_gpu = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            collate_fn=keep_batch,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=on_gpu,
            generator=Generator(),  # its own, so that iterating leaves the global state alone
        )

    def _position(self) -> tuple[int, int]:
        """The number of processes that train together, and the rank of this one."""
        return (
            (1, 0) if self.trainer is None else (self.trainer.world_size, self.trainer.global_rank)
        )

    def _agree_on_seed(self) -> int:
        """The seed of this run, the same in all its processes."""
        if self.seed is not None:
            return self.seed
        drawn = Generator().seed() % 2**32
        return drawn if self.trainer is None else self.trainer.strategy.broadcast(drawn)
