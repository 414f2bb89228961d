"""Lifting convolution: from an image to a feature map on the group."""

from typing import Any

import torch
from torch import Tensor, nn

from src.checks import check_choice
from src.models.components.gcnn.base import GroupLayer
from src.models.components.gcnn.groups import Group

IN_TYPES = ("scalar", "vector")


class LiftingConv(GroupLayer):
    r"""Lift scalar or vector fields to feature maps on the group.

    .. math:: y_{o}(x, g) = b_o + \sum_{i, x'} W_{o,g,i}(x' - x)\, f_i(x'),
              \qquad W_{o,g,i} = \rho(g)\, T_g \psi_{o,i}

    with rho(g) = 1 for scalars and the element's matrix for vectors. Turning the input by h
    turns the output and shifts its group axis: y(h^-1 x, h^-1 g).

    Args:
        in_channels: I, scalar channels, or vectors (the input then has 2 I channels, ordered
            (i, component), component 0 along columns and component 1 along rows).
        in_type: ``"scalar"`` or ``"vector"``.

    The others are `GroupLayer`'s.

    Shapes:
        input [B, I, H, W] or [B, 2 I, H, W]; output [B, O, |G|, H', W'];
        ``weight`` [O, I, k, k] or [O, 2 I, k, k].

    Reference: T. Cohen, M. Welling, Group Equivariant Convolutional Networks, ICML 2016.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        group: str | Group,
        *,
        in_type: str = "scalar",
        **options: Any,
    ) -> None:
        check_choice("in_type", in_type, IN_TYPES)
        super().__init__(in_channels, out_channels, kernel_size, group, in_type=in_type, **options)
        channels = in_channels * self.fibre_size
        self.weight = nn.Parameter(torch.empty(out_channels, channels, kernel_size, kernel_size))
        self.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """[B, I (or 2 I), H, W] -> [B, O, |G|, H', W']."""
        self._check_input(x, ("B", self.in_channels * self.fibre_size, "H", "W"))
        return self._convolve(x)
