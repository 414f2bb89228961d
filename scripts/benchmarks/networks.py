"""Steps of whole networks, against plain convolutions of the same expanded shape and e2cnn."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from scripts.benchmarks.library import LibraryNetwork
from scripts.benchmarks.settings import Settings
from scripts.benchmarks.tables import Table
from src.models.components.classifiers import CNN, GCNN, RelaxedGCNN
from src.models.components.export import export

# name: group, layers, kernel size, channels, batch
SIZES = {
    "C4, 6 layers, 3x3, batch 64": ("c4", 6, 3, 10, 64),
    "C8, 4 layers, 5x5, batch 16": ("c8", 4, 5, 16, 16),
    "C8, 4 layers, 5x5, batch 2": ("c8", 4, 5, 16, 2),
}
IMAGE_SIZE = 28
NUM_FILTER_BANKS = 3
NOTE = (
    "28x28 images; layers of convolution, batch norm and ELU, no pooling; relaxed layers have 3 "
    "banks; plain: nn.Conv2d with as many feature maps. A step is forward + backward. Exported "
    "networks have their norms folded into the convolutions: they are compared with the plain "
    "network as it is and with the plain network folded. e2cnn: the library's own layers. "
    "Ratios of minima (10-90 % of the rounds' ratios)."
)


def make_networks(group: str, num_layers: int, kernel_size: int, channels: int) -> dict:
    """Networks of the same expanded shape, by name."""
    torch.manual_seed(0)
    skeleton = {"num_layers": num_layers, "kernel_size": kernel_size, "pool_after": ()}
    on_group = {**skeleton, "group": group, "hidden_channels": channels}
    turned = {**on_group, "interpolation": "bilinear"}
    plain_channels = channels * int(group[1:])
    return {
        "plain": CNN(**skeleton, hidden_channels=plain_channels),
        "relaxed": RelaxedGCNN(**turned, num_filter_banks=NUM_FILTER_BANKS),
        "strict": GCNN(**turned),
        "e2cnn": LibraryNetwork(group, num_layers, kernel_size, channels),
    }


def without_head(exported: nn.Sequential) -> nn.Sequential:
    """The exported blocks: everything up to the last activation."""
    last = max(i for i, layer in enumerate(exported) if isinstance(layer, nn.ELU))
    return exported[: last + 1]


def training_step(
    net: nn.Module, blocks: Callable[[Tensor], Tensor], x: Tensor, settings: Settings
) -> Callable[[], None]:
    """Forward and backward, with a fixed gradient of the output."""
    net.train()
    cotangent = torch.randn_like(blocks(x).detach().float())

    def step() -> None:
        net.zero_grad()
        with settings.precision():
            y = blocks(x)
        y.backward(cotangent.to(y.dtype))

    return step


def evaluation_step(
    net: nn.Module, blocks: Callable[[Tensor], Tensor], x: Tensor, settings: Settings
) -> Callable[[], None]:
    """Forward in evaluation mode."""
    net.eval()

    @torch.no_grad()
    def step() -> None:
        with settings.precision():
            blocks(x)

    return step


def benchmark(settings: Settings, channels_last: bool = False) -> list[Table]:
    """Training, then evaluation."""
    training, evaluation = [], []
    for name, (*shape, batch) in SIZES.items():
        x = torch.randn(batch, 1, IMAGE_SIZE, IMAGE_SIZE).to(settings.device)
        x = x.to(settings.parameter_dtype)
        networks = {
            key: net.to(settings.device, settings.parameter_dtype)
            for key, net in make_networks(*shape).items()
        }
        if channels_last:
            x = x.to(memory_format=torch.channels_last)
        training.append(_training_row(name, networks, x, settings))
        evaluation.append(_evaluation_row(name, networks, x, settings))
    return [
        Table("Training step of networks", training, NOTE),
        Table("Evaluation of networks", evaluation, NOTE),
    ]


def _training_row(name: str, networks: dict, x: Tensor, settings: Settings) -> dict[str, Any]:
    versions = {
        key: training_step(net.blocks, _compiled(key, net.blocks, settings), x, settings)
        for key, net in networks.items()
    }
    timings = settings.time(versions, f"training {name}")
    return {
        "network": name,
        "relaxed / plain": timings.ratio("relaxed", "plain"),
        "strict / plain": timings.ratio("strict", "plain"),
        "e2cnn / plain": timings.ratio("e2cnn", "plain"),
        "relaxed / e2cnn": timings.ratio("relaxed", "e2cnn"),
        "strict / e2cnn": timings.ratio("strict", "e2cnn"),
        **{f"{key}, ms": timings.minimum(key) * 1e3 for key in networks},
    }


def _evaluation_row(name: str, networks: dict, x: Tensor, settings: Settings) -> dict[str, Any]:
    blocks = {key: net.blocks for key, net in networks.items()}
    blocks["exported"] = without_head(export(networks["relaxed"]))
    blocks["folded"] = without_head(export(networks["plain"]))
    versions = {
        key: evaluation_step(net, _compiled(key, net, settings), x, settings)
        for key, net in blocks.items()
    }
    timings = settings.time(versions, f"evaluation {name}")
    return {
        "network": name,
        "relaxed / plain": timings.ratio("relaxed", "plain"),
        "strict / plain": timings.ratio("strict", "plain"),
        "e2cnn / plain": timings.ratio("e2cnn", "plain"),
        "exported / plain": timings.ratio("exported", "plain"),
        "exported / plain folded": timings.ratio("exported", "folded"),
        "relaxed, ms": timings.minimum("relaxed") * 1e3,
        "plain, ms": timings.minimum("plain") * 1e3,
        "exported, ms": timings.minimum("exported") * 1e3,
    }


def _compiled(name: str, blocks: nn.Module, settings: Settings) -> Callable[[Tensor], Tensor]:
    """Compiled if asked for, except e2cnn, which does not give one graph."""
    return blocks if name == "e2cnn" else settings.compiled(blocks)
