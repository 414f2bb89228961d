"""Vector readouts, strict and relaxed: from a feature map on the group to velocity fields."""

from typing import Any

import torch
from torch import Tensor, nn

from src.checks import check_choice
from src.models.components.gcnn.base import GroupLayer, fibre_transform
from src.models.components.gcnn.filter_banks import RelaxedLayer


class VectorReadout(GroupLayer):
    r"""Read vector fields out of feature maps on the group: the transpose of `LiftingConv`.

    .. math:: y_o(x) = \sum_{i, h, x'} W_{o,i,h}(x' - x)\, f_i(x', h),
              \qquad W_{o,i,h} = \rho(h)\, T_h \psi_{o,i}

    psi[o, i] is a kernel of vectors, rho(h) the group's matrix. Turning the input by g turns the
    output as a vector field: rho(g) y(g^-1 x). There is no bias: a constant vector does not turn.
    Arguments are those of `GroupLayer`, without ``bias`` and ``in_type``; ``out_type`` is
    ``"vector"`` or ``"vector+scalar"``, with a scalar beside each vector; O counts vectors.

    Shapes:
        input [B, I, |G|, H, W]; output [B, n O, H', W'] with n = 2 or 3, ordered (o, component),
        component 0 along columns, component 1 along rows, then the scalar; ``weight``
        [O, n, I, k, k].

    Reference: T. Cohen, M. Welling, Steerable CNNs, ICLR 2017.
    """

    def __init__(self, *sizes: Any, out_type: str = "vector", **options: Any) -> None:
        check_choice("out_type", out_type, ("vector", "vector+scalar"))
        self.out_type = out_type  # what `GroupLayer` makes its constants for
        super().__init__(*sizes, bias=False, in_type="regular", **options)
        k, fibre = self.kernel_size, self.group.fibre_size(out_type)
        self.weight = nn.Parameter(torch.empty(self.out_channels, fibre, self.in_channels, k, k))
        self.reset_parameters()

    def _exact_permutation(self) -> None:
        """None: vectors change sign."""

    def _exact_transform(self) -> Tensor:
        return fibre_transform(self.group, self.kernel_size, self.interpolation, self.out_type)

    def _turn_shared(self, psi: Tensor) -> Tensor:
        return self._turn_each(psi.expand(self.group.order, *psi.shape))

    def _turn_each(self, psi: Tensor) -> Tensor:
        """[|G|, O, n, I, k, k] in any grouping of axes -> [O, n, I, |G|, k, k]."""
        order, size, channels = self.group.order, self.transform.shape[-1], self.in_channels
        fibre, k = self.group.fibre_size(self.out_type), self.kernel_size
        psi = psi.reshape(order, self.out_channels, fibre, channels, -1)
        turned = torch.bmm(psi.transpose(2, 3).reshape(order, -1, size), self.transform.mT)
        turned = turned.view(order, self.out_channels, channels, fibre, k, k)
        return turned.permute(1, 3, 2, 0, 4, 5)


class RelaxedVectorReadout(RelaxedLayer, VectorReadout):
    """`VectorReadout` with W[o, :, i, h] = rho(h) T_h sum_l w_l(h) psi_l[o, i].

    See `RelaxedLayer`; without ``group_biases``.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, group_biases=False, **options)
