"""How large the kernels of new layers are: one rule for all networks."""

from math import sqrt

import torch
from torch import nn

# Factor on the standard deviation of new kernels: 1 as nn.Conv2d, sqrt(3) as LeCun, sqrt(6) as He.
GAIN = 1.0


def kernel_bound(fan_in: int) -> float:
    r"""Half the width b of the uniform distribution with the variance of new expanded kernels.

    .. math:: \mathrm{var} = \frac{b^2}{3} = \frac{\mathtt{GAIN}^2}{3\, \mathrm{fan\_in}}

    for fan_in inputs of each output: input channels times pixels of the expanded kernel. Of the
    same inputs a layer makes outputs of the same variance, whatever its symmetry.

    References: as `torch.nn.Conv2d`; Y. LeCun et al., Efficient BackProp, 1998; K. He et al.,
    Delving Deep into Rectifiers, ICCV 2015.
    """
    return GAIN / sqrt(fan_in)


class ImageConv(nn.Conv2d):
    """`nn.Conv2d` with new kernels as large as those of all other layers (`kernel_bound`)."""

    def reset_parameters(self) -> None:
        """Draw the weight and the bias of a `nn.Conv2d`, and multiply the weight by `GAIN`."""
        super().reset_parameters()
        with torch.no_grad():
            self.weight.mul_(GAIN)
