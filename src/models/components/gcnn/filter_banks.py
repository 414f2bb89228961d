"""What every layer relaxed over a group may have beside the strict one, at its choice."""

from typing import Any

import torch
from torch import Tensor, nn

from src.checks import check_integer, check_number
from src.models.components.gcnn.initial import kernel_bound
from src.models.components.gcnn.relaxation import Relaxable, pairwise_differences, relative_to_mean

ZERO = "zero"  # a free kernel that starts at zero


class RelaxedLayer(Relaxable):
    r"""Mixin: L filter banks psi_l, and biases and kernels of each group element's own.

    .. math:: W_g = A_g\, \psi_g + \theta\, (D_g + F_g), \qquad \psi_g = \sum_l w_l(g)\, \psi_l

    replaces the strict layer's kernel A_g psi at every element g. Each part is there or not:

    - Filter banks, mixed with one weight per bank and element. A_g is linear, so the banks are
      mixed before they are turned and the bank of turned filters is never built. All weights
      start at one.
    - Group biases add d_o(g) to the bias b_o of output channel o, and start at zero.
    - Kernel biases add k x k numbers D_g to the turned kernel of each output channel and element,
      the same ones for all input channels, not turned themselves. They start at zero.
    - A free kernel F, an ordinary one of the expanded shape, starts at zero or at random.

    A new layer is exactly equivariant, unless its free kernel starts at random. At theta = 0 it is
    always, see `Relaxable`; every method uses the weights at theta.

    Args:
        num_filter_banks: L, at least 1; also one bank has a weight for each element. None: one
            bank without weights, shared by all elements.
        group_biases: whether to add group biases.
        kernel_biases: whether to add kernel biases.
        free_kernel: start of a free kernel, ``"zero"`` or a number by which a draw of a new
            kernel (`kernel_bound`) is multiplied; None: no free kernel.

    Attributes:
        weight: [L, ...], the banks, such as [L, O, I, |G|, k, k] for `RelaxedGroupConv`.
        relaxed_weights: [L, |G|], w_l(g), or None.
        group_biases: [O, |G|], d_o(g), or None.
        kernel_biases: D, [O, |G|, 1, 1, k, k]; of a vector readout [O, 2, 1, |G|, k, k]; or None.
        free_kernel: F, [O, output fibre, I, input fibre, k, k], or None.

    References: filter banks: R. Wang, R. Walters, R. Yu, Approximately Equivariant Networks for
    Imperfectly Symmetric Dynamics, ICML 2022; kernel biases: Z. Wu et al., Relaxed Rotational
    Equivariance via G-Biases in Vision, AAAI 2025; free kernel: M. Finzi, G. Benton, A. Wilson,
    Residual Pathway Priors for Soft Equivariance Constraints, NeurIPS 2021. Group biases are of
    this project.
    """

    _free_scale = 0.0  # of a free kernel's draw

    def __init__(
        self,
        *args: Any,
        num_filter_banks: int | None = 1,
        group_biases: bool = False,
        kernel_biases: bool = False,
        free_kernel: str | float | None = None,
        **options: Any,
    ) -> None:
        if num_filter_banks is not None:
            check_integer("num_filter_banks", num_filter_banks)
        if free_kernel not in (None, ZERO):
            check_number("free_kernel", free_kernel, 0, fix="zero, a number such as 1.0, or null")
        super().__init__(*args, **options)
        order, size = self.group.order, (self.kernel_size, self.kernel_size)
        self.num_filter_banks = self._num_summands = num_filter_banks or 1
        if num_filter_banks is None:  # the strict layer's, as it was drawn
            self.weight, self.relaxed_weights = nn.Parameter(self.weight.detach()[None]), None
        else:
            self.weight = nn.Parameter(torch.empty(num_filter_banks, *self.weight.shape))
            self.relaxed_weights = nn.Parameter(torch.ones(num_filter_banks, order))
            super().reset_parameters()
        self.group_biases = self._zeros(group_biases, order)
        fibre, inputs = self.group.fibre_size(self.out_type), (self.in_channels, self.fibre_size)
        shared = (1, 1) if self.out_type == "regular" else (1, order)  # by all input channels
        self.kernel_biases = self._zeros(kernel_biases, fibre, *shared, *size)
        self.free_kernel = self._zeros(free_kernel is not None, fibre, *inputs, *size)
        self._free_scale = 0.0 if free_kernel in (None, ZERO) else free_kernel
        self._draw_free_kernel()

    def reset_parameters(self) -> None:
        """Draw the banks as the strict layer does, and the free kernel where it has a scale."""
        super().reset_parameters()
        self._draw_free_kernel()

    def effective_weights(self) -> Tensor:
        """[L, |G|]: w_bar_l + theta (w_l(g) - w_bar_l); ones without weights."""
        if self.relaxed_weights is None:
            return self.weight.new_ones(1, self.group.order)
        return self._relaxed(self.relaxed_weights)

    def effective_biases(self) -> Tensor | None:
        """[O, |G|]: d_bar_o + theta (d_o(g) - d_bar_o), or None."""
        return None if self.group_biases is None else self._relaxed(self.group_biases)

    def effective_kernels(self) -> dict[str, Tensor]:
        """theta D and theta F, those of them that there are, by the parameter's name."""
        free = {"kernel_biases": self.kernel_biases, "free_kernel": self.free_kernel}
        return {n: self._scaled(kernel) for n, kernel in free.items() if kernel is not None}

    def expanded_fibres(self) -> Tensor:
        """The strict layer's, of the mixed banks, plus the kernels that are free."""
        return sum(self.effective_kernels().values(), self._turned_banks())

    def expanded_bias(self) -> Tensor | None:
        """The bias as an ordinary convolution's, [O |G|]: b_o + d_o(g); None without any."""
        shared = super().expanded_bias()
        if self.group_biases is None:
            return shared
        own = self.effective_biases().flatten()
        return own if shared is None else shared + own

    def relaxation_penalty(self) -> Tensor:
        """Sum over l, g, h of |w_l(g) - w_l(h)|, and over o, g, h of |d_o(g) - d_o(h)|.

        And the sum of the absolute values of theta D and theta F, which depart themselves.
        """
        between = [pairwise_differences(w).sum() for w in self._weights_per_element()]
        departing = [kernel.abs().sum() for kernel in self.effective_kernels().values()]
        return sum(between + departing)

    def relaxed_weight_error(self) -> Tensor:
        r"""How far from strict, without unit; zero exactly when the layer is strict.

        .. math:: \frac{\mathrm{mean}_{l,g,h} |w_l(g) - w_l(h)| + \mathrm{mean}_{o,g,h}
                  |d_o(g) - d_o(h)|}{\mathrm{mean}_{l,g} |w_l(g)|}
                  + \frac{\mathrm{mean} |\theta D| + \mathrm{mean} |\theta F|}
                  {\mathrm{mean} |\psi|}

        with w = 1 where there are no weights.
        """
        means = [pairwise_differences(w).mean() for w in self._weights_per_element()]
        error = relative_to_mean(sum(means), self.effective_weights())
        for kernel in self.effective_kernels().values():
            error = error + relative_to_mean(kernel.abs().mean(), self.weight)
        return error

    def kernel_parameters(self) -> tuple[Tensor, ...]:
        free = self.relaxed_weights, self.kernel_biases, self.free_kernel
        return *super().kernel_parameters(), *(p for p in free if p is not None)

    def extra_repr(self) -> str:
        banks = None if self.relaxed_weights is None else self.num_filter_banks
        text = f"{super().extra_repr()}, num_filter_banks={banks}"
        for name in ("group_biases", "kernel_biases", "free_kernel"):
            text += "" if getattr(self, name) is None else f", {name}=True"
        return text

    def _zeros(self, wanted: bool, *shape: int) -> nn.Parameter | None:
        """Zeros of each output channel, [O, ...], as a parameter; or None."""
        return nn.Parameter(torch.zeros(self.out_channels, *shape)) if wanted else None

    def _draw_free_kernel(self) -> None:
        if self._free_scale:
            fan_in = self.in_channels * self.fibre_size * self.kernel_size**2
            bound = self._free_scale * kernel_bound(fan_in)
            nn.init.uniform_(self.free_kernel, -bound, bound)

    def _turned_banks(self) -> Tensor:
        """A_g psi_g, [O, output fibre, I, input fibre, k, k]."""
        if self.relaxed_weights is None:
            psi = self.weight.expand(self.group.order, *self.weight.shape[1:])
            return self._turn_shared(psi[0]) if self.permutes else self._turn_each(psi)
        mixing = self.effective_weights().t()
        if not self.permutes:
            return self._turn_each(mixing @ self.weight.flatten(1))
        banks = self.weight.flatten(2).transpose(0, 1)  # mixed for each output channel
        return self._permute(torch.bmm(mixing.expand(self.out_channels, -1, -1), banks))

    def _scaled(self, free: Tensor) -> Tensor:
        """Theta times a tensor; itself in a free layer."""
        return free if self.relaxation is None else self.relaxation.to(free.dtype) * free

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
