"""Distance of a network's kernels from the nearest equivariant ones."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from src.checks import wrong
from src.models.components.gcnn.actions import transform_image
from src.models.components.gcnn.caching import ExpandedConv
from src.models.components.gcnn.groups import Group


class Kernel(NamedTuple):
    """A kernel [O', I', k, k], how its output and its input channels transform, and the group.

    ``in_parts``: channels of each of several maps that the input holds; none: one map.
    """

    weight: Tensor
    output: str
    input: str
    group: Group
    in_parts: tuple[int, ...] = ()


def projection_penalty(
    network: nn.Module, group: Group, input_kind: str, output_kind: str
) -> Tensor:
    r"""Sum over kernels and biases of their squared distance from the nearest equivariant ones.

    .. math:: \sum_W \|W - P W\|^2, \qquad
              (P W)(x) = \mathrm{mean}_g\, \rho_\text{out}(g)\, W(g^{-1} x)\, \rho_\text{in}(g)^{-1}

    Layers on a group have fields of their own. Channels of an ordinary network are read as (o, g),
    the numbers of one field next to one another; those that are left over in a map, fewer than
    |G|, as scalars. Its first layer takes inputs, its last gives outputs; the scales and shifts of
    its norms count as biases.

    Args:
        network: any network of convolutions.
        group: group of the ordinary layers, whose elements map the pixel grid to itself.
        input_kind: how inputs transform, ``"scalar"``, ``"vector"`` or ``"vector+scalar"``.
        output_kind: how outputs transform, ``"invariant"``, ``"vector"`` or ``"vector+scalar"``.

    Reference: T. Berndt, J. Stühmer, Approximate Equivariance via Projection-Based Regularisation,
    arXiv 2601.05028, 2026; squared here.
    """
    kernels = kernels_of(network, group, input_kind, output_kind)
    return sum((k.weight - projected(k)).square().sum() for k in kernels)


def check_projection(network: nn.Module, group: Group) -> None:
    """Raise ValueError unless `projection_penalty` has kernels, and groups that keep the grid."""
    layers = [m for m in network.modules() if isinstance(m, ExpandedConv)]
    groups = {layer.group for layer in layers} or {group}
    if not layers and not any(isinstance(m, nn.Conv2d) for m in network.modules()):
        rule, fix = "l1, l2 or output for a network without convolutions", "model.penalty=output"
        raise ValueError(wrong("penalty", rule, "projection", fix))
    for each in groups:
        if not all(each.is_exact(g) for g in range(each.order)):
            rule = "output where elements of the group do not map the pixel grid to itself"
            got = f"projection, with {each.name}"
            raise ValueError(wrong("penalty", rule, got, "model.penalty=output, or c4 or d4"))


def projected(kernel: Kernel) -> Tensor:
    """P W, the nearest equivariant kernel."""
    return torch.stack([turned(kernel, g) for g in range(kernel.group.order)]).mean(0)


def turned(kernel: Kernel, g: int) -> Tensor:
    """rho_out(g) W(g^-1 x) rho_in(g)^-1: what takes g x to g (W x); of an equivariant kernel W."""
    weight, output, input, group, in_parts = kernel
    weight = _act(transform_image(weight, group, g), 0, output, group, g)
    parts = weight.split(in_parts or weight.shape[1], 1)
    return torch.cat([_act(part, 1, input, group, g) for part in parts], 1)


def kernels_of(
    network: nn.Module, group: Group, input_kind: str, output_kind: str
) -> Iterator[Kernel]:
    """Kernels of all layers, and their biases as kernels of one constant input."""
    layers = [m for m in network.modules() if isinstance(m, ExpandedConv)]
    for layer in layers:
        fields = layer.out_type, layer.in_type
        yield Kernel(layer.expanded_kernel(), *fields, layer.group)
        if (bias := layer.expanded_bias()) is not None:
            yield Kernel(bias[:, None, None, None], layer.out_type, "scalar", layer.group)
    if layers:
        return
    plain = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    last = "scalar" if output_kind == "invariant" else output_kind
    for place, layer in enumerate(plain):
        output = last if place == len(plain) - 1 else "regular"
        weight = layer.weight if layer.weight.dim() == 4 else layer.weight[..., None, None]
        fields = input_kind if place == 0 else "regular"
        yield Kernel(weight, output, fields, group, getattr(layer, "in_parts", ()))
        if layer.bias is not None:
            yield Kernel(layer.bias[:, None, None, None], output, "scalar", group)
    for norm in network.modules():
        if isinstance(norm, _BatchNorm | nn.GroupNorm):
            for parameter in norm.parameters():
                yield Kernel(parameter[:, None, None, None], "regular", "scalar", group)


def _act(x: Tensor, axis: int, kind: str, group: Group, g: int) -> Tensor:
    """Channels of one axis, acted on by element g: scalars, vectors, or fields and a rest."""
    if kind == "scalar":
        return x
    if kind.startswith("vector"):
        matrix = group.representation(kind)[g].to(x)
        fibres = x.movedim(axis, -1).unflatten(-1, (-1, len(matrix)))
        return (fibres @ matrix.t()).flatten(-2).movedim(-1, axis)
    order, size = group.order, x.shape[axis]
    source = torch.arange(size, device=x.device)
    fields = size - size % order
    within = group.cayley[group.inverse[g]].to(x.device)
    source[:fields] = (source[:fields].view(-1, order)[:, :1] + within).flatten()
    return x.index_select(axis, source)
