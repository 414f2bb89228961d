"""A trained network as a plain one, which runs without this project."""

from collections.abc import Iterator
from copy import deepcopy

import torch
from torch import fx, nn

from src.models.components.classifiers import Classifier, GroupClassifier
from src.models.components.gcnn.caching import ExpandedConv
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
    (c, g) -> c |G| + g, and what is per channel is repeated for every element. The result, a copy
    in evaluation mode, consists of layers of torch and one `torch.fx` module for the maximum or
    mean over the group: it can be saved and loaded where only torch is installed, and
    `torch.export` and ONNX take it. Trained further it is an ordinary CNN.

    Args:
        network: `CNN`, `GCNN`, `RelaxedGCNN`, `E2CNN` or another `Classifier` that keeps their
            ``forward`` and ``pool``; of any group, dtype and device, in either mode.

    Raises:
        TypeError: the network or one of its layers has no plain form.
        ValueError: a norm on the group keeps no running statistics.
    """
    kind = type(network)
    known = isinstance(network, Classifier) and kind.forward is Classifier.forward
    if not known or kind.pool not in (Classifier.pool, GroupClassifier.pool):
        raise TypeError(
            "`network` must be a Classifier (CNN, GCNN, RelaxedGCNN or E2CNN) that keeps their "
            f"`forward` and `pool`; got {kind.__name__}. Pass the network itself, as `module.net` "
            "of a LightningModule, or extend src/models/components/export.py."
        )
    has_group = isinstance(network, GroupClassifier)
    order = network.group.order if has_group else 1
    layers = [_plain_layer(*named, order) for named in _in_sequence("blocks", network.blocks)]
    if has_group:
        layers.append(_plain_layer("group_pool", network.group_pool, order))
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), _plain_layer("head", network.head, order)]
    return nn.Sequential(*layers).eval()


def _in_sequence(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The layers that a module applies one after the other, without those that do nothing."""
    if type(module).forward is nn.Sequential.forward:
        for child_name, child in module.named_children():
            yield from _in_sequence(f"{name}.{child_name}", child)
    elif not isinstance(module, DROPPED):
        yield name, module


def _plain_layer(name: str, layer: nn.Module, order: int) -> nn.Module:
    """What the layer does, on feature maps [B, C |G|, H, W]."""
    if isinstance(layer, ExpandedConv):
        kernel, bias = layer.expanded_kernel(), layer.expanded_bias()
        out_channels, in_channels, *size = kernel.shape
        options = {"stride": layer.stride, "padding": layer.padding, "bias": bias is not None}
        conv = nn.Conv2d(in_channels, out_channels, size, device="meta", **options)
        state = {"weight": kernel} if bias is None else {"weight": kernel, "bias": bias}
        conv.load_state_dict(state, assign=True)
        return conv
    if isinstance(layer, GroupBatchNorm):
        if layer.running_mean is None:
            raise ValueError(
                "a norm on a group must keep running statistics, because a plain one would take "
                "the statistics of a batch per element; got track_running_stats=False at "
                f"`{name}`. Train with track_running_stats=True."
            )
        norm = nn.BatchNorm2d(layer.num_features * order, layer.eps, layer.momentum, layer.affine)
        state = layer.state_dict().items()  # the number of batches has no axis to repeat
        repeated = {k: v.repeat_interleave(order) if v.dim() else v.clone() for k, v in state}
        norm.load_state_dict(repeated, assign=True)
        return norm
    if isinstance(layer, SpatialPool):
        return {"max": nn.MaxPool2d, "mean": nn.AvgPool2d}[layer.mode](layer.size)
    if isinstance(layer, GroupPool):  # ten times as fast as `nn.MaxPool3d` over the elements
        graph = fx.Graph()
        elements_apart = graph.call_method("unflatten", (graph.placeholder("x"), 1, (-1, order)))
        reduce = {"max": "amax", "mean": "mean"}[layer.mode]
        graph.output(graph.call_method(reduce, (elements_apart, 2)))
        return fx.GraphModule(nn.Module(), graph)
    if type(layer) in KEPT:
        return deepcopy(layer)
    raise TypeError(
        "a layer must be a group convolution (`ExpandedConv`), GroupBatchNorm, "
        f"SpatialPool, GroupPool, dropout, or {', '.join(kind.__name__ for kind in KEPT)} of "
        f"torch; got {type(layer).__name__} at `{name}`. Use one of these, or add its plain form "
        "to `_plain_layer` in src/models/components/export.py."
    )
