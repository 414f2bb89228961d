"""A trained network as a plain one, which runs without this project."""

from collections.abc import Iterator
from copy import deepcopy

import torch
from torch import fx, nn

from src.models.components.classifier import Classifier
from src.models.components.classifiers import GroupClassifier
from src.models.components.gcnn.norm import GroupBatchNorm
from src.models.components.gcnn.pooling import GroupPool, SpatialPool

# Layers of torch that serve in the plain network as they are.
ACTIVATIONS = (nn.ELU, nn.ReLU, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Softplus)
KEPT = (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d, nn.Linear, *ACTIVATIONS)
DROPPED = (nn.Dropout, nn.Dropout2d, nn.Dropout3d, nn.Identity)  # do nothing in evaluation


@torch.no_grad()
def export(network: Classifier) -> nn.Sequential:
    """Rewrite a network in plain layers of torch, with the same outputs in evaluation mode.

    The kernels are expanded once and for all; channels and group elements share one axis,
    (c, g) -> c |G| + g, and what is per channel is repeated for every element. The result
    consists of `nn.Conv2d`, `nn.BatchNorm2d`, activations, pooling and `nn.Linear`, and one
    `torch.fx` module for the maximum or mean over the group. It can be saved and loaded where
    only torch is installed, and `torch.export` and ONNX take it. It is a copy: the network stays
    as it is. Trained further, it is an ordinary CNN, whose every number in the expanded kernels
    is free.

    Args:
        network: `CNN`, `GCNN`, `RelaxedGCNN`, `E2CNN` or another `Classifier` that keeps their
            ``forward`` and ``pool``; of any group, dtype and device, in either mode.

    Returns:
        The plain network, in evaluation mode.

    Shapes:
        input [B, in_channels, H, W]; output [B, num_classes].

    Raises:
        TypeError: the network or one of its layers has no plain form.
        ValueError: a norm on the group keeps no running statistics.
    """
    _check_network(network)
    has_group = isinstance(network, GroupClassifier)
    order = network.group.order if has_group else 1
    layers = [_plain_layer(*named, order) for named in _in_sequence("blocks", network.blocks)]
    if has_group:
        layers.append(_plain_layer("group_pool", network.group_pool, order))
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), _plain_layer("head", network.head, order)]
    return nn.Sequential(*layers).eval()


def _check_network(network: nn.Module) -> None:
    kind = type(network)
    known = isinstance(network, Classifier) and kind.forward is Classifier.forward
    if not known or kind.pool not in (Classifier.pool, GroupClassifier.pool):
        raise TypeError(
            "`network` must be a Classifier (CNN, GCNN, RelaxedGCNN or E2CNN) that keeps their "
            f"`forward` and `pool`; got {kind.__name__}. Pass the network itself, as `module.net` "
            "of a LightningModule, or extend src/models/components/export.py."
        )


def _in_sequence(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The layers that a module applies one after the other, without those that do nothing."""
    if type(module).forward is nn.Sequential.forward:
        for child_name, child in module.named_children():
            yield from _in_sequence(f"{name}.{child_name}", child)
    elif not isinstance(module, DROPPED):
        yield name, module


def _plain_layer(name: str, layer: nn.Module, order: int) -> nn.Module:
    """What the layer does, on feature maps [B, C |G|, H, W]."""
    if hasattr(layer, "expanded_kernel"):
        return _plain_conv(layer, order)
    if isinstance(layer, GroupBatchNorm):
        return _plain_norm(name, layer, order)
    if isinstance(layer, SpatialPool):
        return {"max": nn.MaxPool2d, "mean": nn.AvgPool2d}[layer.mode](layer.size)
    if isinstance(layer, GroupPool):
        return _plain_group_pool(layer, order)
    if type(layer) in KEPT:
        return deepcopy(layer)
    raise TypeError(
        "a layer must be a group convolution (with `expanded_kernel`), GroupBatchNorm, "
        f"SpatialPool, GroupPool, dropout, or {', '.join(kind.__name__ for kind in KEPT)} of "
        f"torch; got {type(layer).__name__} at `{name}`. Use one of these, or add its plain form "
        "to `_plain_layer` in src/models/components/export.py."
    )


def _plain_conv(layer: nn.Module, order: int) -> nn.Conv2d:
    kernel, bias = layer.expanded_kernel(), layer.expanded_bias()
    out_channels, in_channels, *size = kernel.shape
    conv = nn.Conv2d(
        in_channels,
        out_channels,
        size,
        stride=getattr(layer, "stride", 1),
        padding=getattr(layer, "padding", layer.kernel_size // 2),
        bias=bias is not None,
        device="meta",
    )
    conv.weight = nn.Parameter(kernel)
    if bias is not None:
        conv.bias = nn.Parameter(bias)
    return conv


def _plain_norm(name: str, layer: GroupBatchNorm, order: int) -> nn.BatchNorm2d:
    if layer.running_mean is None:
        raise ValueError(
            "a norm on a group must keep running statistics, because a plain one would take the "
            f"statistics of a batch per element; got track_running_stats=False at `{name}`. "
            "Train with track_running_stats=True."
        )
    norm = nn.BatchNorm2d(layer.num_features * order, layer.eps, layer.momentum, layer.affine)
    repeated = {
        key: value.repeat_interleave(order) if value.dim() else value.clone()
        for key, value in layer.state_dict().items()
    }
    norm.load_state_dict(repeated, assign=True)
    return norm


def _plain_group_pool(layer: GroupPool, order: int) -> fx.GraphModule:
    """[B, C |G|, H, W] -> [B, C, H, W], ten times as fast as `nn.MaxPool3d` over the elements."""
    graph = fx.Graph()
    elements_apart = graph.call_method("unflatten", (graph.placeholder("x"), 1, (-1, order)))
    reduce = {"max": "amax", "mean": "mean"}[layer.mode]
    graph.output(graph.call_method(reduce, (elements_apart, 2)))
    return fx.GraphModule(nn.Module(), graph)
