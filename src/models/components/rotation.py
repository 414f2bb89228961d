"""Families of layers whose kernels are turned, which networks are built of."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from torch import nn

from src.models.components.gcnn import (
    GroupConv,
    LiftingConv,
    RelaxedGroupConv,
    RelaxedLiftingConv,
    RelaxedVectorReadout,
    VectorReadout,
)


class Layers(NamedTuple):
    """What makes the first layer, those between and a vector readout, with arguments as these."""

    lifting: Callable[..., nn.Module] = LiftingConv
    convolution: Callable[..., nn.Module] = GroupConv
    readout: Callable[..., nn.Module] = VectorReadout


class RelaxedNetwork:
    """Mixin of networks that takes relaxed layers in place of strict ones.

    Args:
        num_filter_banks, group_biases, kernel_biases, free_kernel: what is free in every layer,
            see `RelaxedLayer`; group biases not in a vector readout.
        network: the other arguments of the network.
    """

    def __init__(
        self,
        *,
        num_filter_banks: int | None = 2,
        group_biases: bool = False,
        kernel_biases: bool = False,
        free_kernel: str | float | None = None,
        **network: Any,
    ) -> None:
        free = {"num_filter_banks": num_filter_banks, "kernel_biases": kernel_biases}
        free["free_kernel"] = free_kernel
        both = (RelaxedLiftingConv, RelaxedGroupConv)
        hidden = [partial(layer, group_biases=group_biases, **free) for layer in both]
        super().__init__(Layers(*hidden, partial(RelaxedVectorReadout, **free)), **network)
