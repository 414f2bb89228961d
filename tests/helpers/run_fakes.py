"""A tiny network and tiny data with all that the run machinery asks of real ones."""

import os
import signal

import torch
from lightning import Callback, LightningDataModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset


class TinyNet(nn.Module):
    """Two linear layers with dropout, which draws from the global random state."""

    def __init__(self, in_features: int = 4, width: int = 8, num_classes: int = 3) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"`width` must be positive; got {width}. Use 8.")
        self.hidden = nn.Linear(in_features, width)
        self.norm = nn.BatchNorm1d(width)
        self.dropout = nn.Dropout(0.2)
        self.out = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, num_classes] of x [B, in_features]."""
        return self.out(self.dropout(torch.relu(self.norm(self.hidden(x)))))


def _dataset(offset: int, size: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(offset)
    labels = torch.randint(3, (size,), generator=generator)
    images = torch.randn(size, 4, generator=generator) + labels[:, None]
    return TensorDataset(images, labels)


class TinyData(LightningDataModule):
    """Three Gaussian blobs: 50 / 21 / 31 samples, shuffled by (seed, epoch)."""

    def __init__(
        self,
        data_dir: str = "data",
        source: str = "bundled",
        batch_size: int = 8,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if source not in ("bundled", "other"):
            raise ValueError(f"`source` must be bundled or other; got {source}. Use bundled.")
        self.data_dir = data_dir
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.sets = {"train": _dataset(1, 50), "val": _dataset(2, 21), "test": _dataset(3, 31)}

    def train_dataloader(self) -> DataLoader:
        """Shuffled."""
        sampler = DistributedSampler(self.sets["train"], 1, 0, shuffle=True, seed=self.seed)
        return self._loader("train", sampler)

    def val_dataloader(self) -> DataLoader:
        """In order."""
        return self._loader("val", None)

    def test_dataloader(self) -> DataLoader:
        """In order."""
        return self._loader("test", None)

    def _loader(self, split: str, sampler: DistributedSampler | None) -> DataLoader:
        return DataLoader(
            self.sets[split], self.batch_size, sampler=sampler, num_workers=self.num_workers
        )


class EndAt(Callback):
    """Ends training at a hook of an epoch, unless the environment variable SPARED is set.

    Args:
        epoch: where.
        hook: `batch`: before the fourth batch; `epoch_end`: after the epoch's checkpoint of the
            best network, before its last metrics are logged; `epoch_start`: before `last.ckpt`
            of the epoch before.
        how: `kill`: as `kill -9` does; `raise`: by a RuntimeError; `interrupt`: as Ctrl-C does.
    """

    def __init__(self, epoch: int, hook: str = "batch", how: str = "kill") -> None:
        self.epoch = epoch
        self.hook = hook
        self.how = how

    def _kill_when_due(self, hook: str, epoch: int) -> None:
        if hook == self.hook and epoch == self.epoch and not os.environ.get("SPARED"):
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise {"raise": RuntimeError("no more"), "interrupt": KeyboardInterrupt()}[self.how]

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        """Perhaps the last thing this process does."""
        if batch_idx == 3:
            self._kill_when_due("batch", trainer.current_epoch)

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        """Perhaps the last thing this process does."""
        self._kill_when_due("epoch_end", trainer.current_epoch)

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        """Perhaps the last thing this process does."""
        self._kill_when_due("epoch_start", trainer.current_epoch)
