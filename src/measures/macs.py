"""Multiply-accumulates of a network: what it costs, whatever the machine."""

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from src.measures.context import unchanged


@torch.no_grad()
def count_macs(network: nn.Module, inputs: Tensor) -> int:
    """Multiply-accumulates (MACs) of one forward pass, per sample of the inputs.

    Those of convolutions and matrix products, H' W' O I k^2 for a convolution of I to O channels,
    as `torch.utils.flop_counter` counts them (two operations are one MAC). Norms, activations
    and pooling do not count, nor does the building of kernels from parameters, which is done once
    per step or evaluation, whatever the number of samples.

    Args:
        network: left as it was.
        inputs: [B, ...], on the network's device; their values do not matter.
    """
    with unchanged(network):
        network(inputs)  # builds the kernels
        with FlopCounterMode(display=False) as counter:
            network(inputs)
    return counter.get_total_flops() // (2 * len(inputs))
