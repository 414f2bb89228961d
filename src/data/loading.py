"""Loaders of data in memory, whose order is a function of (seed, epoch, rank)."""

import warnings

from lightning import LightningDataModule
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from torch import Generator
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Sampler, SequentialSampler

from src.checks import check_integer
from src.data.datasets import keep_batch
from src.seeding import Stream, derived_seed


class InMemoryDataModule(LightningDataModule):
    """What data modules with all samples in memory share: seed, order and loaders.

    The order of the training batches is a function of (seed, epoch, rank) alone: neither the
    global random state nor the network has a part in it. Step by step, n processes see together
    the samples that one process sees with n times the batch size; where their number is no
    multiple of n, an epoch repeats up to n - 1 of them. Validation and test samples are never
    repeated.

    Args:
        batch_size: samples per batch, on each device.
        num_workers: processes that make batches.
        seed: seed of the order; None draws one, not reproducibly.

    Raises:
        TypeError, ValueError: if an option has another type or lies outside its range.
    """

    def __init__(self, batch_size: int, num_workers: int, seed: int | None) -> None:
        super().__init__()
        check_integer("batch_size", batch_size, minimum=1)
        check_integer("num_workers", num_workers, minimum=0)
        if seed is not None:
            check_integer("seed", seed, minimum=0)
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
        replicas, rank = self._position()
        if self.trainer is not None and self.trainer.testing:
            return self._loader(dataset)  # of an evaluation on the training data
        if self.trainer is not None and self.trainer.overfit_batches > 0:
            return self._loader(dataset, SequentialSampler(dataset))  # the same in every epoch
        order_seed = derived_seed(self._run_seed, Stream.ORDER)
        return self._loader(
            dataset, DistributedSampler(dataset, replicas, rank, shuffle=True, seed=order_seed)
        )

    def _loader(self, dataset: Dataset, sampler: Sampler | None = None) -> DataLoader:
        """Batches in the sampler's order; without one, in order and each sample exactly once."""
        on_gpu = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=self._share_of(dataset) if sampler is None else sampler,
            collate_fn=keep_batch,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=on_gpu,
            generator=Generator(),  # its own, so that iterating leaves the global state alone
        )

    def _share_of(self, dataset: Dataset) -> Sampler | None:
        """This process's samples in their order, so that all processes have each exactly once.

        Lightning's own choice repeats samples until all processes have equally many, and counts
        them twice. One process may have one batch more here, so that metrics must be exchanged at
        the end of an epoch, not in its steps.
        """
        replicas, rank = self._position()
        if replicas == 1:
            return None
        if len(dataset) < replicas:
            raise ValueError(
                "validation and test data need a sample for every process; got "
                f"{len(dataset)} samples for {replicas} processes. Use fewer trainer.devices."
            )
        return UnrepeatedDistributedSampler(dataset, replicas, rank, shuffle=False)

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
