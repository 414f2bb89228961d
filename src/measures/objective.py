"""The data loss of a network on fixed batches, as a function of its weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from src.measures.context import unchanged

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Objective:
    r"""The mean loss over fixed samples, in evaluation mode, without penalty and weight decay.

    .. math:: L(w) = \frac{1}{N} \sum_{n=1}^N \ell(f_w(x_n), y_n)

    Every sample counts the same, however the samples are split into batches. The weights at which
    L is taken are handed to the network by `torch.func.functional_call`: the network itself, its
    modes and all random states stay as they are.

    Args:
        network: f, maps a batch of inputs to predictions.
        criterion: mean of the loss over a batch, such as `nn.CrossEntropyLoss()` or `nn.MSELoss()`.
        data: batches (inputs, targets), on the network's device; at least one.

    Raises:
        ValueError: without a sample, or without a trainable parameter.
    """

    network: nn.Module
    criterion: nn.Module
    data: Sequence[tuple[Tensor, Tensor]]

    def __post_init__(self) -> None:
        if self.num_samples == 0:
            raise ValueError(
                "a loss needs at least one sample; got none. Pass a list of batches, not empty."
            )
        if not self.weights():
            raise ValueError(
                "a loss as a function of the weights needs a parameter that is trained; "
                f"{type(self.network).__name__} has none. Set `requires_grad` of its parameters."
            )

    @property
    def num_samples(self) -> int:
        """N."""
        return sum(len(inputs) for inputs, _ in self.data)

    def weights(self) -> Weights:
        """w: the trainable parameters as they are now, by name, detached (not copied)."""
        named = self.network.named_parameters()
        return {name: p.detach() for name, p in named if p.requires_grad}

    @torch.no_grad()
    def value(self, state: Mapping[str, Tensor] | None = None) -> float:
        """L at these parameters (and buffers), by name; what is not named stays as it is."""
        state = dict(state or {})
        total = 0.0
        with unchanged(self.network):
            for inputs, targets in self.data:
                loss = self.criterion(functional_call(self.network, state, (inputs,)), targets)
                total += loss.double().item() * len(inputs)
        return total / self.num_samples

    def gradient(self, state: Weights | None = None) -> Weights:
        """dL/dw by name, at these parameters; those not named, if trained, are as they are now.

        Also within `torch.inference_mode`.
        """
        with unchanged(self.network), torch.inference_mode(False), torch.enable_grad():
            state = self.weights() | (state or {})
            weights = {name: w.detach().clone().requires_grad_() for name, w in state.items()}
            for batch in self.data:  # tensors made in inference mode cannot be differentiated
                inputs, targets = (t.clone() if t.is_inference() else t for t in batch)
                loss = self.criterion(functional_call(self.network, weights, (inputs,)), targets)
                (loss * (len(inputs) / self.num_samples)).backward()
        return {n: torch.zeros_like(w) if w.grad is None else w.grad for n, w in weights.items()}
