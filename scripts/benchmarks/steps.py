"""Whole steps of the configured networks, against their convolutions alone and e2cnn."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.data import default_collate

from scripts.benchmarks.networks import LibraryNetwork, make_step
from scripts.benchmarks.operations import label_parts, shares
from scripts.benchmarks.tables import Table
from scripts.benchmarks.timing import Settings
from scripts.estimate_cost import compose_experiment, training_data
from src.models.base_module import BaseModule
from src.models.components.gcnn.caching import ExpandedConv, channels_last
from src.models.components.rollout import Rollout
from src.models.optimization import make_optimizer
from src.runs.building import build

NETWORKS = {
    "rotmnist": ("rgcnn", "gcnn", "cnn", "e2cnn"),
    "smoke": ("rgcnn", "gcnn", "cnn", "e2cnn", "rsteer", "rtrans"),
}
LAYOUTS = {"first": Tensor.contiguous, "last": channels_last}
NOTE = (
    "Sizes, batch and optimizer of the experiments. A step is zero_grad, forward, loss, backward "
    "and update, without Lightning, forecasts of all frames of a training window; evaluation is "
    "forward in inference mode. Convolutions: the same calls of `F.conv2d` alone, without bias, "
    "with the gradients that the step needs, channels first or last in memory, whichever is "
    "faster. Parts: of the fastest profiled step, not compiled; expansion: of kernels and biases. "
    "Ratios of minima (10-90 % of the rounds' ratios)."
)
LIBRARY_NOTE = (
    "configs/model/gcnn.yaml, and a network of its widths of e2cnn's R2Conv, InnerBatchNorm, ReLU "
    "or ELU, PointwiseMaxPool and GroupPooling. Ratio of minima (10-90 % of the rounds' ratios)."
)

Call = tuple[Tensor, Tensor, dict[str, Any]]  # input, kernel, options of `F.conv2d`


@dataclass
class Case:
    """A network, applied to a batch as its training does."""

    config: DictConfig
    module: BaseModule
    network: nn.Module
    loss: Callable[[Tensor, Tensor], Tensor]
    x: Tensor
    target: Tensor

    def step(self, training: bool, settings: Settings) -> Callable[[], None]:
        """A step of training, or evaluation; the learning rate is 0, so that all are alike."""
        if not training:
            return make_step(self.network, self.network, self.x, False, settings)
        optimizer = make_optimizer(self.network, self.module.optimizer)
        for parameters in optimizer.param_groups:
            parameters["lr"] = 0.0

        def run(x: Tensor) -> Tensor:
            return self.loss(self.network(x), self.target)

        return make_step(self.network, run, self.x, True, settings, optimizer)


def make_case(experiment: str, settings: Settings, overrides: Sequence[str] = ()) -> Case:
    """The network of an experiment, with a batch of the shapes it trains on."""
    config = compose_experiment(experiment, list(overrides))
    torch.manual_seed(0)
    module = build(config, "model").to(settings.device, settings.parameter_dtype)
    if settings.compile:
        module.net.compile()
    batch = default_collate([training_data(config)[0]] * config.data.batch_size)
    if isinstance(batch, Tensor):  # windows of frames
        known, truth = batch.to(module.velocity_scale).tensor_split([module.num_inputs], 1)
        return Case(config, module, Rollout(module, truth.shape[1]), F.mse_loss, known, truth)
    images, labels = batch[0].to(settings.device, settings.parameter_dtype), batch[1]
    return Case(config, module, module, F.cross_entropy, images, labels.to(settings.device))


class Recorder(TorchFunctionMode):
    """Records the convolutions within its context."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is F.conv2d:
            names = ("bias", "stride", "padding", "dilation", "groups")
            options = dict(zip(names, args[2:])) | kwargs | {"bias": None}
            self.calls.append((*args[:2], options))
        return func(*args, **kwargs)


def convolutions(
    calls: list[Call], layout: Callable[[Tensor], Tensor], training: bool, settings: Settings
) -> Callable[[], None]:
    """The convolutions one after the other; in training each with its backward pass."""
    prepared = []
    for *tensors, options in calls:
        inputs = [layout(t.detach().to(settings.dtype)) for t in tensors]
        cotangent = torch.randn_like(F.conv2d(*inputs, **options))
        needed = [i.requires_grad_() for i, t in zip(inputs, tensors) if t.requires_grad]
        prepared.append((inputs, options, needed, cotangent))

    def run() -> None:
        with torch.inference_mode(not training):
            for inputs, options, needed, cotangent in prepared:
                y = F.conv2d(*inputs, **options)
                if training:
                    torch.autograd.grad(y, needed, cotangent)

    return run


def measure(
    experiment: str, training: bool, settings: Settings, overrides: Sequence[str] = ()
) -> dict[str, Any]:
    """A row of the table: a step against its convolutions, and the parts of the step."""
    eager = make_case(experiment, replace(settings, compile=False), overrides)
    with Recorder() as recorder:
        eager.network(eager.x)
    label_parts(eager.network)
    parts = shares(eager.step(training, settings), settings.rounds, settings.device)
    versions = {"step": make_case(experiment, settings, overrides).step(training, settings)}
    for name, layout in LAYOUTS.items():
        versions[name] = convolutions(recorder.calls, layout, training, settings)
    timings = settings.time(versions, experiment)
    faster = min(LAYOUTS, key=timings.minimum)
    return {
        "network": experiment.split("_")[0],
        "step / convolutions": timings.ratio("step", faster),
        "step, ms": timings.minimum("step") * 1e3,
        "convolutions, ms": timings.minimum(faster) * 1e3,
        "channels": faster,
        **parts,
    }


def benchmark(data: str, settings: Settings) -> list[Table]:
    """Training and evaluation of the networks for ``rotmnist`` or ``smoke``."""
    tables = []
    for training, title in ((True, "Training step"), (False, "Evaluation")):
        rows = [measure(f"{name}_{data}", training, settings) for name in NETWORKS[data]]
        tables.append(Table(f"{title} against its convolutions, {data}", rows, NOTE))
    return tables


def benchmark_library(settings: Settings, overrides: Sequence[str] = ()) -> Table:
    """The strict network against e2cnn's own layers, with each activation that both have."""
    rows = []
    for activation, training in product(("relu", "elu"), (True, False)):
        options = [f"model.net.activation={activation}", *overrides]
        ours = make_case("gcnn_rotmnist", settings, options)
        net = ours.config.model.net
        widths = [m.out_channels for m in ours.network.modules() if isinstance(m, ExpandedConv)]
        layers = (net.group, net.kernel_size, widths, activation, net.pool_after, net.num_classes)
        cases = {"ours": ours, "e2cnn": replace(ours, network=LibraryNetwork(*layers).to(ours.x))}
        versions = {name: case.step(training, settings) for name, case in cases.items()}
        timings = settings.time(versions, f"library {activation}")
        row = {"activation": activation, "step": "training" if training else "evaluation"}
        row["ours / e2cnn"] = timings.ratio("ours", "e2cnn")
        rows.append(row | {f"{name}, ms": timings.minimum(name) * 1e3 for name in versions})
    return Table("Strict network against e2cnn's own layers", rows, LIBRARY_NOTE)
