"""A tiny network and tiny data with all that the run machinery asks of real ones."""

import os
import signal
import time
from functools import partialmethod
from pathlib import Path

import torch
from lightning import Callback, LightningDataModule
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset


class TinyNet(nn.Sequential):
    """Two linear layers with dropout, which draws from the global random state."""

    def __init__(self, width: int = 8) -> None:
        if width < 1:
            raise ValueError(f"`width` must be positive; got {width}. Use 8.")
        hidden, out = nn.Linear(4, width), nn.Linear(width, 3)
        super().__init__(hidden, nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.2), out)


class TinyData(LightningDataModule):
    """Three Gaussian blobs: 50 / 21 / 31 samples, shuffled by (seed, epoch)."""

    def __init__(self, data_dir: str, batch_size: int, num_workers: int, seed: int) -> None:
        super().__init__()
        self.options = {"batch_size": batch_size, "num_workers": num_workers}
        self.seed = seed

    def setup(self, stage: str | None = None) -> None:
        pass  # without an argument too, as other data modules allow

    def _loader(self, number: int, size: int, shuffled: bool = False) -> DataLoader:
        generator = torch.Generator().manual_seed(number)
        labels = torch.randint(3, (size,), generator=generator)
        samples = TensorDataset(torch.randn(size, 4, generator=generator) + labels[:, None], labels)
        sampler = DistributedSampler(samples, 1, 0, seed=self.seed) if shuffled else None
        return DataLoader(samples, sampler=sampler, **self.options)

    train_dataloader = partialmethod(_loader, 1, 50, shuffled=True)
    val_dataloader = partialmethod(_loader, 2, 21)
    test_dataloader = partialmethod(_loader, 3, 31)


class EndAt(Callback):
    """Ends training at a hook of an epoch, unless the environment variable SPARED is set.

    Args:
        epoch: number of the epoch, from 0.
        hook: `batch` (before the fourth), `epoch_end` (the best network is stored, the epoch's last
            metrics are not logged) or `epoch_start` (before `last.ckpt` of the epoch before).
        how: `kill`, `raise` a RuntimeError, `interrupt` as Ctrl-C does, `preempt` by SIGUSR2 as a
            queue does, and not again once requeued, or `wait` for such a queue, once.
        job: start of the directory's name; other jobs of a sweep are spared.
        rank: rank of the process that ends; None: all end.
    """

    def __init__(self, epoch, hook="batch", how="kill", job="", rank=None) -> None:
        self.due, self.how, self.job, self.rank = (hook, epoch), how, job, rank

    def _end_when_due(self, hook, trainer) -> None:
        due = (hook, trainer.current_epoch) == self.due and self.rank in (None, trainer.global_rank)
        due &= Path(trainer.default_root_dir).name.startswith(self.job)
        due &= not (self.how in ("preempt", "wait") and self.continued)
        if not due or os.environ.get("SPARED"):
            return
        if self.how == "wait":
            (Path(trainer.default_root_dir) / "waiting").touch()
            time.sleep(600)
        elif self.how in ("kill", "preempt"):
            os.kill(os.getpid(), signal.SIGKILL if self.how == "kill" else signal.SIGUSR2)
        else:
            raise RuntimeError("no more") if self.how == "raise" else KeyboardInterrupt

    def on_fit_start(self, trainer, pl_module) -> None:
        self.continued = trainer.ckpt_path is not None  # and None again later on

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if batch_idx == 3:
            self._end_when_due("batch", trainer)

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        self._end_when_due("epoch_end", trainer)

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        self._end_when_due("epoch_start", trainer)
