"""Lifting convolutions, strict and relaxed: from an image to a feature map on the group."""

from typing import Any

import torch
from torch import nn

from src.checks import check_choice
from src.models.components.gcnn.base import GroupLayer
from src.models.components.gcnn.filter_banks import RelaxedLayer


class LiftingConv(GroupLayer):
    r"""Lift scalar fields, vector fields or both together to feature maps on the group.

    .. math:: y_{o}(x, g) = b_o + \sum_{i, x'} W_{o,g,i}(x' - x)\, f_i(x'),
              \qquad W_{o,g,i} = \rho(g)\, T_g \psi_{o,i}

    with rho(g) = 1 for scalars and the element's matrix for vectors. Turning the input by h
    turns the output and shifts its group axis: y(h^-1 x, h^-1 g). Arguments are those of
    `GroupLayer`, with ``in_type`` ``"scalar"``, ``"vector"`` or ``"vector+scalar"``, a vector and
    a scalar that belong together, such as velocity and density of one frame. I counts them.

    Shapes:
        input [B, n I, H, W] with n = 1, 2 or 3, ordered (i, component), component 0 along columns,
        component 1 along rows, then the scalar; output [B, O, |G|, H', W']; ``weight``
        [O, n I, k, k].

    Reference: T. Cohen, M. Welling, Group Equivariant Convolutional Networks, ICML 2016.
    """

    def __init__(self, *sizes: Any, in_type: str = "scalar", **options: Any) -> None:
        check_choice("in_type", in_type, ("scalar", "vector", "vector+scalar"))
        super().__init__(*sizes, in_type=in_type, **options)
        k, channels = self.kernel_size, self.in_channels * self.fibre_size
        self.weight = nn.Parameter(torch.empty(self.out_channels, channels, k, k))
        self.reset_parameters()


class RelaxedLiftingConv(RelaxedLayer, LiftingConv):
    """`LiftingConv` with W[o, g, i] = rho(g) T_g sum_l w_l(g) psi_l[o, i]: see `RelaxedLayer`."""
