"""Vector readout: from a feature map on the group to velocity fields."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.models.components.gcnn.base import GroupLayer, fibre_transform
from src.models.components.gcnn.groups import Group


class VectorReadout(GroupLayer):
    r"""Read vector fields out of feature maps on the group: the transpose of `LiftingConv`.

    .. math:: y_o(x) = \sum_{i, h, x'} W_{o,i,h}(x' - x)\, f_i(x', h),
              \qquad W_{o,i,h} = \rho(h)\, T_h \psi_{o,i}

    psi[o, i] is a kernel of vectors; element h turns it, and its vectors by the group's matrix
    rho(h). Turning the input by g, f(g^-1 x, g^-1 h), turns the output as a vector field:
    rho(g) y(g^-1 x). There is no bias: a constant vector does not turn.

    Args:
        in_channels: I, channels of the feature map.
        out_channels: O, vectors of the output.

    The others are `GroupLayer`'s, without ``bias`` and ``in_type``.

    Shapes:
        input [B, I, |G|, H, W]; output [B, 2 O, H', W'], ordered (o, component), component 0
        along columns and component 1 along rows; ``weight`` [O, 2, I, k, k].

    Reference: T. Cohen, M. Welling, Steerable CNNs, ICLR 2017.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        group: str | Group,
        *,
        stride: int = 1,
        padding: str | int = "same",
        interpolation: str = "bilinear",
    ) -> None:
        options: dict[str, Any] = {"stride": stride, "padding": padding, "bias": False}
        options |= {"interpolation": interpolation, "in_type": "regular"}
        super().__init__(in_channels, out_channels, kernel_size, group, **options)
        shape = (out_channels, 2, in_channels, kernel_size, kernel_size)
        self.weight = nn.Parameter(torch.empty(shape))
        self.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """[B, I, |G|, H, W] -> [B, 2 O, H', W']."""
        self._check_input(x, ("B", self.in_channels, self.group.order, "H", "W"))
        return F.conv2d(x.flatten(1, 2), self._kernel(), None, self.stride, self.padding)

    def _exact_permutation(self) -> None:
        """None: vectors change sign."""

    def _exact_transform(self) -> Tensor:
        return fibre_transform(self.group, self.kernel_size, self.interpolation, "vector")

    def _turn_shared(self, psi: Tensor) -> Tensor:
        return self._turn_each(psi.expand(self.group.order, *psi.shape))

    def _turn_each(self, psi: Tensor) -> Tensor:
        """Expand one psi per element: [|G|, O, 2, I, k, k] in any grouping of axes."""
        order, size = self.group.order, self.transform.shape[-1]
        psi = psi.reshape(order, self.out_channels, 2, self.in_channels, -1)
        turned = torch.bmm(psi.transpose(2, 3).reshape(order, -1, size), self.transform.mT)
        turned = turned.view(order, self.out_channels, self.in_channels, 2, -1)
        return self._as_conv_weight(turned.permute(1, 3, 2, 0, 4))

    def _as_conv_weight(self, kernel: Tensor) -> Tensor:
        """[O, 2, I, |G|, k^2] -> [2 O, I |G|, k, k]."""
        k = self.kernel_size
        return kernel.reshape(2 * self.out_channels, self.in_channels * self.group.order, k, k)
