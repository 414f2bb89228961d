"""What every layer relaxed over a group has: filter banks, mixed with weights per element."""

from typing import Any

import torch
from torch import Tensor, nn

from src.checks import check_integer
from src.models.components.gcnn.relaxation import Relaxable, pairwise_differences, relative_to_mean


class RelaxedLayer(Relaxable):
    r"""Mixin: L filter banks psi_l, mixed with one weight per bank and group element.

    .. math:: \psi_g = \sum_l w_l(g)\, \psi_l

    replaces the strict layer's psi wherever element g needs it. T_g is linear, so the banks are
    mixed before they are turned and the bank of turned filters is never built. All weights
    start at one: a new layer is exactly equivariant. Group biases add d_o(g) to the bias b_o of
    output channel o, and start at zero. Every method uses the weights at theta, see `Relaxable`.

    Args:
        num_filter_banks: L.
        group_biases: whether to add group biases.

    Attributes:
        weight: [L, ...], the banks, such as [L, O, I, |G|, k, k] for `RelaxedGroupConv`.
        relaxed_weights: [L, |G|], w_l(g).
        group_biases: [O, |G|], d_o(g), or None.

    References: R. Wang, R. Walters, R. Yu, Approximately Equivariant Networks for Imperfectly
    Symmetric Dynamics, ICML 2022; group biases: RREConv, AAAI 2025.
    """

    def __init__(
        self, *args: Any, num_filter_banks: int = 1, group_biases: bool = False, **options: Any
    ) -> None:
        check_integer("num_filter_banks", num_filter_banks)
        super().__init__(*args, **options)
        self.num_filter_banks = self._num_summands = num_filter_banks
        self.weight = nn.Parameter(torch.empty(num_filter_banks, *self.weight.shape))
        self.relaxed_weights = nn.Parameter(torch.ones(num_filter_banks, self.group.order))
        zeros = torch.zeros(self.out_channels, self.group.order)
        self.group_biases = nn.Parameter(zeros) if group_biases else None
        self.reset_parameters()

    def effective_weights(self) -> Tensor:
        """[L, |G|]: w_bar_l + theta (w_l(g) - w_bar_l)."""
        return self._relaxed(self.relaxed_weights)

    def effective_biases(self) -> Tensor | None:
        """[O, |G|]: d_bar_o + theta (d_o(g) - d_bar_o), or None."""
        return None if self.group_biases is None else self._relaxed(self.group_biases)

    def expanded_fibres(self) -> Tensor:
        """The strict layer's, of the mixed banks."""
        mixing = self.effective_weights().t()
        if not self.permutes:
            return self._turn_each(mixing @ self.weight.flatten(1))
        banks = self.weight.flatten(2).transpose(0, 1)  # mixed for each output channel
        return self._permute(torch.bmm(mixing.expand(self.out_channels, -1, -1), banks))

    def expanded_bias(self) -> Tensor | None:
        """The bias as an ordinary convolution's, [O |G|]: b_o + d_o(g); None without any."""
        shared = super().expanded_bias()
        if self.group_biases is None:
            return shared
        own = self.effective_biases().flatten()
        return own if shared is None else shared + own

    def relaxation_penalty(self) -> Tensor:
        """Sum over l, g, h of |w_l(g) - w_l(h)|, and over o, g, h of |d_o(g) - d_o(h)|."""
        return sum(pairwise_differences(w).sum() for w in self._weights_per_element())

    def relaxed_weight_error(self) -> Tensor:
        r"""How far from strict, without unit; zero exactly when the layer is strict.

        .. math:: \frac{\mathrm{mean}_{l,g,h} |w_l(g) - w_l(h)| + \mathrm{mean}_{o,g,h}
                  |d_o(g) - d_o(h)|}{\mathrm{mean}_{l,g} |w_l(g)|}
        """
        means = [pairwise_differences(w).mean() for w in self._weights_per_element()]
        return relative_to_mean(sum(means), self.effective_weights())

    def kernel_parameters(self) -> tuple[Tensor, ...]:
        return self.weight, self.relaxed_weights

    def extra_repr(self) -> str:
        text = f"{super().extra_repr()}, num_filter_banks={self.num_filter_banks}"
        return text if self.group_biases is None else f"{text}, group_biases=True"

    def _weights_per_element(self) -> list[Tensor]:
        """All weights [..., |G|] that are constant over the group in a strict layer."""
        weights = (self.effective_weights(), self.effective_biases())
        return [w for w in weights if w is not None]

    def _exact_transform(self) -> Tensor:
        """A_g, of two kernels at once where they are 3 x 3: products of 9 columns are slow."""
        transform = super()._exact_transform()
        num_kernels = self.out_channels * self.in_channels * self.fibre_size
        if transform.shape[-1] != 9 or num_kernels % 2:
            return transform
        return torch.stack([torch.block_diag(t, t) for t in transform])
