"""Data in memory: data sets that are read batch by batch, and loaders of a reproducible order."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from lightning import LightningDataModule
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from torch import Generator, Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Sampler, SequentialSampler

from src.checks import check_integer
from src.seeding import Stream, derived_generator, derived_seed


class ImageDataset(Dataset):
    """Labelled images in memory, from which a loader takes a whole batch with one index.

    A ``DataLoader`` hands a batch's indices to ``__getitems__`` in one call; with
    ``collate_fn=keep_batch`` nothing is done sample by sample. Shapes: [N, C, H, W] and [N].
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images = images
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], self.labels[index]

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the images ``[B, C, H, W]`` and labels ``[B]`` at ``indices``."""
        # NumPy reads a list of integers several times faster than torch.tensor does.
        rows = torch.from_numpy(np.asarray(indices, dtype=np.int64))
        return self.images.index_select(0, rows), self.labels.index_select(0, rows)


def keep_batch(batch: Any) -> Any:
    """Collate function for a data set that already returns whole batches."""
    return batch


class InMemoryDataModule(LightningDataModule):
    """Base of data modules with all samples in memory: seed, order and loaders.

    Order and augmentation of the training batches are functions of (seed, epoch, rank) alone:
    neither the global random state nor the network has a part in them. Step by step, n processes
    see together the samples that one process sees with n times the batch size; where their number
    is no multiple of n, an epoch repeats up to n - 1 of them. Validation and test samples are
    never repeated. Subclasses fill ``_datasets``, by the names of the parts, in ``setup``.

    Args:
        batch_size: samples per batch, on each device.
        num_workers: processes that make batches.
        seed: seed of order and augmentation; None draws one, not reproducibly.

    Raises:
        ValueError: if an option lies outside its range.
    """

    def __init__(self, batch_size: int, num_workers: int, seed: int | None) -> None:
        super().__init__()
        check_integer("batch_size", batch_size)
        check_integer("num_workers", num_workers, minimum=0)
        if seed is not None:
            check_integer("seed", seed, minimum=0)
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self._run_seed = 0
        self._stream: tuple[int, Generator] | None = None
        self._datasets: dict[str, Dataset] = {}

    def train_dataloader(self) -> DataLoader:
        """Training batches, in an order that depends on the seed and the epoch only."""
        dataset = self._dataset("train")
        if self.trainer is not None and self.trainer.testing:
            return self._loader(dataset)  # of an evaluation on the training data
        if self.trainer is not None and self.trainer.overfit_batches > 0:
            return self._loader(dataset, SequentialSampler(dataset))  # the same in every epoch
        seed = derived_seed(self._run_seed, Stream.ORDER)
        sampler = DistributedSampler(dataset, *self._position(), shuffle=True, seed=seed)
        return self._loader(dataset, sampler)

    def val_dataloader(self) -> DataLoader:
        """Validation batches, always in the same order."""
        return self._loader(self._dataset("val"))

    def sample_training(self, num_samples: int, seed: int = 0) -> list[Any]:
        """Batches of training samples, as in training but the same in every call.

        For statistics of batch norm: samples are drawn without repetition, and augmented, by a
        generator of their own, so that training does not notice. At most ``num_samples``, in
        whole batches of ``batch_size``, which count the same; of fewer samples one batch.
        """
        generator = Generator().manual_seed(seed)
        dataset = self._dataset("train")
        rows = torch.randperm(len(dataset), generator=generator)[:num_samples].tolist()
        size = min(self.batch_size, len(rows))
        starts = range(0, len(rows) - size + 1, size)
        batches = (dataset.__getitems__(rows[i : i + size]) for i in starts)
        return [self._as_trained(batch, generator) for batch in batches]

    def _as_trained(self, batch: Any, generator: Generator) -> Any:
        """A training batch as the network gets it; augmentation draws from the generator."""
        return batch

    def _augmentation_stream(self, epoch: int) -> Generator:
        """The generator of an epoch's augmentation, on the CPU; a new epoch starts a new one."""
        if self._stream is None or self._stream[0] != epoch:
            rank = self._position()[1]
            stream = derived_generator(self._run_seed, Stream.AUGMENTATION, epoch, rank)
            self._stream = (epoch, stream)
        return self._stream[1]

    def _dataset(self, part: str) -> Dataset:
        if not self._datasets:
            raise RuntimeError(
                "the data must be loaded before a loader is made; nothing is loaded. Call "
                "prepare_data() and setup() first."
            )
        return self._datasets[part]

    def _start_streams(self) -> None:
        """Agree on the seed of this run, the same in all its processes; call it in ``setup``."""
        self._stream = None
        self._run_seed = Generator().seed() % 2**32 if self.seed is None else self.seed
        if self.trainer is not None:
            if self.seed is None:
                self._run_seed = self.trainer.strategy.broadcast(self._run_seed)
            # Indexing a tensor in memory leaves workers nothing to speed up.
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")

    def _loader(self, dataset: Dataset, sampler: Sampler | None = None) -> DataLoader:
        """Batches in the sampler's order; without one, in order and each sample exactly once.

        Lightning's own sampler repeats samples until all processes have equally many, and counts
        them twice. One process may have one batch more here, so that metrics must be exchanged at
        the end of an epoch, not in its steps.
        """
        replicas, rank = self._position()
        if sampler is None and replicas > 1:
            if len(dataset) < replicas:
                raise ValueError(
                    "validation and test data need a sample for every process; got "
                    f"{len(dataset)} samples for {replicas} processes. Use fewer trainer.devices."
                )
            sampler = UnrepeatedDistributedSampler(dataset, replicas, rank, shuffle=False)
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
        trainer = self.trainer
        return (1, 0) if trainer is None else (trainer.world_size, trainer.global_rank)
