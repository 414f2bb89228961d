"""The action of a group on images, group feature maps and velocity fields."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from src.models.components.gcnn.groups import Group, make_group


def transform_image(
    x: Tensor, group: str | Group, element: int, interpolation: str = "bilinear"
) -> Tensor:
    r"""Turn (and mirror) images about their centre: (g f)(x) = f(g^{-1} x).

    Exact for elements that map the pixel grid to itself (quarter turns of a non-square image
    swap height and width); otherwise pixels are interpolated and zero comes in from outside.

    Args:
        x: [..., H, W].
        element: index g.
        interpolation: ``"nearest"``, ``"bilinear"`` or ``"bicubic"``, for inexact elements.
    """
    group = make_group(group)
    if group.is_exact(element):  # a signed permutation of the (column, row) axes
        source = group.matrices[element].t()  # output coordinate -> input coordinate
        if source[0, 0] == 0:  # the input's column follows the output's row
            x, source = x.transpose(-2, -1), source.flip(0)
        dims = [dim for dim, sign in ((-1, source[0, 0]), (-2, source[1, 1])) if sign < 0]
        return x.flip(dims) if dims else x
    height, width = x.shape[-2:]
    rows = torch.arange(height, dtype=torch.float64) - (height - 1) / 2
    columns = torch.arange(width, dtype=torch.float64) - (width - 1) / 2
    row, column = torch.meshgrid(rows, columns, indexing="ij")
    source = group.matrices[group.inverse[element]]
    grid = torch.stack([column, row], -1) @ source.t()  # in pixels from the centre
    grid = grid / torch.tensor([width / 2, height / 2], dtype=torch.float64)
    images = x.reshape(1, -1, height, width)
    turned = F.grid_sample(images, grid[None].to(x), interpolation, "zeros", align_corners=False)
    return turned.view(x.shape)


def transform_feature_map(
    x: Tensor, group: str | Group, element: int, interpolation: str = "bilinear"
) -> Tensor:
    r"""(g f)(x, h) = f(g^{-1} x, g^{-1} h) for a group feature map [B, C, |G|, H, W]."""
    group = make_group(group)
    source = group.cayley[group.inverse[element]].to(x.device)
    return transform_image(x.index_select(2, source), group, element, interpolation)


def transform_vector_field(
    x: Tensor,
    group: str | Group,
    element: int,
    interpolation: str = "bilinear",
    field_type: str = "vector",
) -> Tensor:
    r"""(g v)(x) = rho(g) v(g^{-1} x) for vectors [B, 2 C, H, W], channels (c, component).

    Component 0 points along increasing column index, component 1 along increasing row index. With
    ``field_type="vector+scalar"`` [B, 3 C, H, W], each vector followed by a scalar.
    """
    group = make_group(group)
    fibre = group.fibre_size(field_type)
    turned = transform_image(x, group, element, interpolation).unflatten(1, (-1, fibre))
    rho = group.representation(field_type)[element].to(turned)
    return torch.einsum("ij,bcjhw->bcihw", rho, turned).flatten(1, 2)


def transform_each(x: Tensor, elements: Tensor, act: Callable[[Tensor, int], Tensor]) -> Tensor:
    """g_b x_b: each sample of a batch [B, ...] acted on by an element of its own.

    Args:
        elements: indices [B], on the CPU.
        act: (samples, element) -> the samples, acted on by that one element, in the same shape.
    """
    turned = x.clone()
    for element in elements.unique().tolist():
        rows = (elements == element).nonzero().flatten().to(x.device)
        turned[rows] = act(x.index_select(0, rows), element)
    return turned
