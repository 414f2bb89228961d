"""Vector readouts, strict and relaxed: from a feature map on the group to velocity fields."""

from typing import Any

import torch
from torch import Tensor, nn

from src.models.components.gcnn.base import GroupLayer, fibre_transform
from src.models.components.gcnn.filter_banks import RelaxedLayer


class VectorReadout(GroupLayer):
    r"""Read vector fields out of feature maps on the group: the transpose of `LiftingConv`.

    .. math:: y_o(x) = \sum_{i, h, x'} W_{o,i,h}(x' - x)\, f_i(x', h),
              \qquad W_{o,i,h} = \rho(h)\, T_h \psi_{o,i}

    psi[o, i] is a kernel of vectors, rho(h) the group's matrix. Turning the input by g turns the
    output as a vector field: rho(g) y(g^-1 x). There is no bias: a constant vector does not turn.
    Arguments are those of `GroupLayer`, without ``bias`` and ``in_type``; O counts vectors.

    Shapes:
        input [B, I, |G|, H, W]; output [B, 2 O, H', W'], ordered (o, component), component 0
        along columns and component 1 along rows; ``weight`` [O, 2, I, k, k].

    Reference: T. Cohen, M. Welling, Steerable CNNs, ICLR 2017.
    """

    out_type = "vector"

    def __init__(self, *sizes: Any, **options: Any) -> None:
        super().__init__(*sizes, bias=False, in_type="regular", **options)
        shape = (self.out_channels, 2, self.in_channels, self.kernel_size, self.kernel_size)
        self.weight = nn.Parameter(torch.empty(shape))
        self.reset_parameters()

    def _exact_permutation(self) -> None:
        """None: vectors change sign."""

    def _exact_transform(self) -> Tensor:
        return fibre_transform(self.group, self.kernel_size, self.interpolation, "vector")

    def _turn_shared(self, psi: Tensor) -> Tensor:
        return self._turn_each(psi.expand(self.group.order, *psi.shape))

    def _turn_each(self, psi: Tensor) -> Tensor:
        """[|G|, O, 2, I, k, k] in any grouping of axes -> [O, 2, I, |G|, k, k]."""
        order, size, channels = self.group.order, self.transform.shape[-1], self.in_channels
        psi = psi.reshape(order, self.out_channels, 2, channels, -1)
        turned = torch.bmm(psi.transpose(2, 3).reshape(order, -1, size), self.transform.mT)
        k = self.kernel_size
        turned = turned.view(order, self.out_channels, channels, 2, k, k)
        return turned.permute(1, 3, 2, 0, 4, 5)


class RelaxedVectorReadout(RelaxedLayer, VectorReadout):
    """`VectorReadout` with W[o, :, i, h] = rho(h) T_h sum_l w_l(h) psi_l[o, i].

    See `RelaxedLayer`; without ``group_biases``.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, group_biases=False, **options)
