"""Running statistics of batch norm, estimated anew for the weights that a network has."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from src.measures.context import unchanged


@contextmanager
def reestimated_statistics(network: nn.Module, inputs: Iterable[Tensor]) -> Iterator[nn.Module]:
    r"""Give batch norms the statistics of the weights as they are; on leaving, their own again.

    .. math:: \bar m = \frac{1}{n} \sum_i m_i, \qquad \bar v = \frac{1}{n} \sum_i v_i

    with the means m_i and variances v_i of n batches that the network is given in training mode
    (`torch.optim.swa_utils.update_bn`). The running averages of training are of the weights of
    many steps, and lag behind weights that move. Networks without batch norm are not run at all;
    neither modes nor random states change, and dropout draws the same numbers in every call.

    Args:
        network: contains the batch norms; may be in use within `torch.inference_mode`.
        inputs: n batches of training data, augmented as in training; none: statistics stay.
    """
    inputs = list(inputs)
    with given_statistics(network, statistics_of(network) if inputs else {}):
        if inputs and statistics_of(network):
            with unchanged(network), torch.no_grad():
                torch.manual_seed(0)
                _update(network, inputs)
        yield network


@contextmanager
def given_statistics(network: nn.Module, statistics: Mapping[str, Tensor]) -> Iterator[nn.Module]:
    """Give batch norms these statistics, named as in `statistics_of`; on leaving, their own."""
    own = statistics_of(network)
    before = {name: own[name].clone() for name in statistics}
    try:
        for name, buffer in statistics.items():
            own[name].copy_(buffer)
        yield network
    finally:
        own = statistics_of(network)  # other tensors, where the network was moved meanwhile
        for name, buffer in before.items():
            own[name].copy_(buffer)


def statistics_of(network: nn.Module) -> dict[str, Tensor]:
    """Running statistics of every batch norm, by the names of the buffers; themselves, no copy."""
    norms = [(n, m) for n, m in network.named_modules() if isinstance(m, _BatchNorm)]
    return {f"{n}.{name}": buffer for n, m in norms for name, buffer in m.named_buffers()}


def _update(network: nn.Module, inputs: Iterable[Tensor]) -> None:
    """torch's `update_bn`, which leaves batch norms without their momentum when it fails."""
    momenta = {m: m.momentum for m in network.modules() if isinstance(m, _BatchNorm)}
    try:
        update_bn(inputs, network)
    finally:
        for module, momentum in momenta.items():
            module.momentum = momentum
