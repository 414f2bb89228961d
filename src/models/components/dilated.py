"""A network that forecasts velocity fields through dilated convolutions, which see far."""

from itertools import cycle, pairwise
from typing import Any

from torch import Tensor, nn

from src.checks import check_integer
from src.models.components.forecasters import CNNForecaster

DILATIONS = (1, 2, 4, 8, 4, 2, 1)


class DilatedResNetForecaster(CNNForecaster):
    r"""Ordinary convolutions, whose hidden layers are residual blocks of dilated ones.

    .. math:: x_0 = \mathrm{encoder}(v_1, \dots, v_T), \quad x_n = x_{n-1} + f_n(x_{n-1})

    Each residual block f_n has seven layers; the pixels that their kernels touch lie `DILATIONS`
    apart. With 3 x 3 kernels an output of one block depends on 22 pixels to each side. The encoder
    and the last layers of all residual blocks have one width.

    Args:
        num_blocks: number of residual blocks.
        hidden_channels: channels of all layers but the readout.
        forecaster: the other arguments of `CNNForecaster`, but for ``num_layers``.

    Reference: K. Stachenfeld et al., Learned Coarse Models for Efficient Turbulence Simulation,
    ICLR 2022; there four blocks, and no activation follows the encoder.
    """

    blocks: nn.ModuleList

    def __init__(
        self, *, num_blocks: int = 1, hidden_channels: int = 17, **forecaster: Any
    ) -> None:
        check_integer("num_blocks", num_blocks)
        check_integer("hidden_channels", hidden_channels)
        num_layers = 2 + num_blocks * len(DILATIONS)
        super().__init__(hidden_channels=hidden_channels, num_layers=num_layers, **forecaster)

    def channel_pairs(self, num_inputs: int, widths: list[int]) -> list[tuple[int, int]]:
        """Channels in and out of each layer; what is added is as wide as the last."""
        widths = [
            width if place % len(DILATIONS) else widths[-1] for place, width in enumerate(widths)
        ]
        return list(pairwise([num_inputs, *widths]))

    def joined(self, blocks: list[nn.Module]) -> nn.Module:
        """The layers in the order in which they run, dilated."""
        for block, dilation in zip(blocks[1:], cycle(DILATIONS)):
            block[0].dilation = (dilation, dilation)
        return nn.ModuleList(blocks)

    def features(self, x: Tensor) -> Tensor:
        """The frames -> what the encoder and the residual blocks add up to, [B, C, H, W]."""
        encoder, *layers = self.blocks
        x = encoder(x)
        for start in range(0, len(layers), len(DILATIONS)):
            before = x
            for layer in layers[start : start + len(DILATIONS)]:
                x = layer(x)
            x = before + x
        return x
