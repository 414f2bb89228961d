"""Steps of whole networks, against plain convolutions of the same expanded shape and e2cnn."""

import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from e2cnn import gspaces
from e2cnn import nn as enn
from torch import Tensor, nn
from torch.optim import Optimizer

from scripts.benchmarks.tables import Table
from scripts.benchmarks.timing import Settings
from src.models.components.classifiers import CNN, GCNN, RelaxedGCNN
from src.models.components.export import export
from src.models.components.gcnn.caching import channels_last

# name: group, layers, kernel size, channels, batch
SIZES = {
    "C4, 6 layers, 3x3, batch 64": ("c4", 6, 3, 10, 64),
    "C8, 4 layers, 5x5, batch 16": ("c8", 4, 5, 16, 16),
    "C8, 4 layers, 5x5, batch 2": ("c8", 4, 5, 16, 2),
}
IMAGE_SIZE = 28
NUM_FILTER_BANKS = 3
ACTIVATION = "relu"  # the fastest of e2cnn
NOTE = (
    "28x28 images; layers of convolution, batch norm and ReLU, no pooling; relaxed layers have 3 "
    "banks; plain: nn.Conv2d with as many feature maps. A step is forward + backward. Exported: "
    "the relaxed network with its kernels expanded. e2cnn: the library's own layers. "
    "Ratios of minima (10-90 % of the rounds' ratios)."
)
BOTH = [("relaxed", "plain"), ("strict", "plain"), ("e2cnn", "plain")]
TRAINING = [*BOTH, ("relaxed", "e2cnn"), ("strict", "e2cnn")]
EVALUATION = [*BOTH, ("exported", "plain")]


class LibraryNetwork(nn.Module):
    """e2cnn's own layers: from [B, 1, H, W] to [B, channels |G|, H, W], or to logits."""

    def __init__(
        self,
        group: str,
        kernel_size: int,
        widths: Sequence[int],
        activation: str,
        pool_after: Sequence[int] = (),
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        space = gspaces.Rot2dOnR2(int(group[1:]))
        self.in_type = enn.FieldType(space, [space.trivial_repr])
        types = [self.in_type, *(enn.FieldType(space, w * [space.regular_repr]) for w in widths)]
        layers = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # e2cnn indexes with uint8 masks
            for number, (i, o) in enumerate(pairwise(types), start=1):
                conv = enn.R2Conv(i, o, kernel_size, padding=kernel_size // 2, bias=False)
                act = {"relu": enn.ReLU, "elu": enn.ELU}[activation](o, inplace=True)
                layers += [conv, enn.InnerBatchNorm(o), act]
                if number in pool_after:
                    layers.append(enn.PointwiseMaxPool(o, 2))
        self.head = None
        if num_classes is not None:
            layers.append(enn.GroupPooling(types[-1]))
            self.head = nn.Linear(widths[-1], num_classes)
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(enn.GeometricTensor(x, self.in_type)).tensor
        return y if self.head is None else self.head(y.mean((-2, -1)))


def make_networks(group: str, num_layers: int, kernel_size: int, channels: int) -> dict:
    """Networks of the same expanded shape, by name."""
    torch.manual_seed(0)
    skeleton = {"num_layers": num_layers, "kernel_size": kernel_size, "pool_after": ()}
    skeleton["activation"] = ACTIVATION
    turned = {**skeleton, "group": group, "hidden_channels": channels, "interpolation": "bilinear"}
    return {
        "plain": CNN(**skeleton, hidden_channels=channels * int(group[1:])),
        "relaxed": RelaxedGCNN(**turned, num_filter_banks=NUM_FILTER_BANKS),
        "strict": GCNN(**turned),
        "e2cnn": LibraryNetwork(group, kernel_size, num_layers * [channels], ACTIVATION),
    }


def make_step(
    net: nn.Module,
    run: Callable[[Tensor], Tensor],
    x: Tensor,
    training: bool,
    settings: Settings,
    optimizer: Optimizer | None = None,
) -> Callable[[], None]:
    """Forward in inference mode; or, in training, forward, backward for a fixed gradient, update.

    ``run`` is ``net``, compiled or not, or its loss.
    """
    net.train(training)
    cotangent = torch.randn_like(run(x).detach().float())

    def step() -> None:
        if training:
            net.zero_grad()
        with settings.precision(), torch.inference_mode(not training):
            y = run(x)
        if training:
            y.backward(cotangent.to(y.dtype))
        if optimizer is not None:
            optimizer.step()

    return step


def benchmark(settings: Settings) -> list[Table]:
    """Training, then evaluation."""
    training_rows, evaluation_rows = [], []
    for name, (*shape, batch) in SIZES.items():
        x = torch.randn(batch, 1, IMAGE_SIZE, IMAGE_SIZE)
        x = x.to(settings.device, settings.parameter_dtype)
        networks = {
            key: net.to(settings.device, settings.parameter_dtype)
            for key, net in make_networks(*shape).items()
        }
        blocks = {key: getattr(net, "blocks", net) for key, net in networks.items()}
        for training in (True, False):
            if not training:
                blocks["exported"] = export(networks["relaxed"]).blocks
            versions = {}
            for key, net in blocks.items():
                # e2cnn does not give one graph, so it is not compiled
                run = net if key == "e2cnn" else settings.compiled(net)
                inputs = x if key == "e2cnn" else channels_last(x)
                versions[key] = make_step(net, run, inputs, training, settings)
            timings = settings.time(versions, f"{'training' if training else 'evaluation'} {name}")
            pairs = TRAINING if training else EVALUATION
            shown = networks if training else ("relaxed", "plain", "exported")
            row = {"network": name}
            row |= {f"{one} / {other}": timings.ratio(one, other) for one, other in pairs}
            row |= {f"{key}, ms": timings.minimum(key) * 1e3 for key in shown}
            (training_rows if training else evaluation_rows).append(row)
    training_table = Table("Training step of networks", training_rows, NOTE)
    return [training_table, Table("Evaluation of networks", evaluation_rows, NOTE)]
