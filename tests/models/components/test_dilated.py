"""The dilated network against one written out; test_forecasters.py has what all networks share."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from src.models.components.dilated import DILATIONS, DilatedResNetForecaster
from src.models.components.gcnn.norm import NORMS


@pytest.mark.parametrize("norm", NORMS)
@torch.no_grad()
def test_against_the_obvious_network(norm):
    """Kernels with zeros between their weights, and a sum around each of two blocks."""
    options = {"num_blocks": 2, "num_parameters": 20_000, "norm": norm, "residual": "none"}
    net = DilatedResNetForecaster(num_inputs=2, **options).double().eval()
    x = torch.randn(3, 4, 10, 10, dtype=torch.float64)

    def layer(block, x, dilation):
        conv, *rest = block
        kernel = torch.zeros(*conv.weight.shape[:2], *[2 * dilation + 1] * 2, dtype=x.dtype)
        kernel[..., ::dilation, ::dilation] = conv.weight
        return nn.Sequential(*rest)(F.conv2d(x, kernel, conv.bias, padding=dilation))

    encoder, *layers = net.blocks
    expected = encoder(x)
    for seven in (layers[:7], layers[7:]):
        inner = expected
        for block, dilation in zip(seven, DILATIONS, strict=True):
            inner = layer(block, inner, dilation)
        expected = expected + inner
    torch.testing.assert_close(net(x), net.readout(expected))
