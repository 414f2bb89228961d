"""Relaxed steerable convolution: e2cnn's kernels, each weighted anew at every pixel."""

import torch
from torch import Tensor

from src.models.components.e2cnn import E2Conv
from src.models.components.e2cnn_bases import pixelwise_rank
from src.models.components.gcnn.relaxation import (
    Relaxable,
    mean_neighbour_difference,
    relative_to_mean,
)


class RelaxedSteerableConv(Relaxable, E2Conv):
    r"""`E2Conv` whose coefficients may differ between the pixels y of the kernel.

    .. math:: W_{o,i}(y) = \sum_b w_{o,i,b}(y)\, B_b(y)

    A new layer's coefficients are constant in y and drawn as those of a new `E2Conv`: it is
    exactly equivariant. The bias stays equivariant. At a `relaxation` theta below 1 coefficients
    stand nearer to their means over the pixels, see `Relaxable`.

    Args: `E2Conv`'s.

    Shapes:
        input and output as `E2Conv`; ``weight`` [O, I, n, k, k].

    Raises:
        ValueError: what `E2Conv` raises.

    Reference: R. Wang, R. Walters, R. Yu, Approximately Equivariant Networks for Imperfectly
    Symmetric Dynamics, ICML 2022 (its published code starts from random, not constant, weights).
    """

    def effective_weights(self) -> Tensor:
        """[O, I, n, k, k]: w_bar + theta (w(y) - w_bar), w(y) itself where theta is None."""
        return self._relaxed(self.weight, num_axes=2)

    def expanded_kernel(self) -> Tensor:
        """The ordinary convolution weight [O output fibre, I input fibre, k, k]."""
        kernel = torch.einsum("oibyx,bpqyx->opiqyx", self.effective_weights(), self.basis)
        return kernel.flatten(2, 3).flatten(0, 1)

    def relaxation_penalty(self) -> Tensor:
        """Mean |difference| of coefficients at neighbouring pixels, along rows and columns."""
        return mean_neighbour_difference(self.effective_weights())

    def relaxed_weight_error(self) -> Tensor:
        """`relaxation_penalty` over the mean |coefficient|; zero exactly when strict."""
        return relative_to_mean(self.relaxation_penalty(), self.effective_weights())

    def degrees_of_freedom(self) -> tuple[int, int]:
        """Dimensions of all kernels this layer can have, and of all kernels there are.

        At each pixel the kernels of the basis, as matrices from input to output fibre, span a
        space; the first number is the sum of its dimensions over pixels and pairs of fields, the
        second what an `nn.Conv2d` of the expanded shape has, O I k^2 times both fibres. Equal
        numbers: the relaxed layer can become any convolution.
        """
        rank = pixelwise_rank(self.group, self.kernel_size, self.in_type, self.out_type)
        pairs = self.out_channels * self.in_channels
        return pairs * rank, pairs * self.basis[0].numel()

    def extra_repr(self) -> str:
        ours, plain = self.degrees_of_freedom()
        return f"{super().extra_repr()}, degrees_of_freedom={ours} of {plain}"

    def _weight_shape(self) -> tuple[int, ...]:
        return *super()._weight_shape(), self.kernel_size, self.kernel_size
