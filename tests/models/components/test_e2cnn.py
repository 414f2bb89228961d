import pytest
import torch

from src.models.components.e2cnn import E2Conv
from tests.helpers.equivariance import assert_equivariant
from tests.helpers.slow_layers import elements

GROUPS = ["c1", "c2", "c3", "c4", "c8", "d1", "d2", "d4", "d8"]


@pytest.mark.parametrize("group", GROUPS)
def test_axes_agree_with_this_project(group):
    lifting, convolution = E2Conv(2, 3, 5, group, "scalar"), E2Conv(2, 3, 5, group)
    assert_equivariant(lifting, torch.randn(2, 2, 6, 7), group, "scalar")
    x = torch.randn(2, 2, len(elements(group)), 6, 7)
    assert_equivariant(convolution, x, group, "regular")


def test_a_parameter_changed_in_evaluation_mode_counts():
    layer, x = E2Conv(1, 2, 3, "c4").eval(), torch.randn(1, 1, 4, 6, 6)
    before = layer(x)
    with torch.no_grad():
        layer.weight.mul_(2)
    assert torch.allclose(layer(x), 2 * before, rtol=1e-5)


def test_state_has_the_same_keys_in_training_and_evaluation():
    layer = E2Conv(1, 2, 3, "c4")
    assert layer.train().state_dict().keys() == layer.eval().state_dict().keys()


def test_layers_share_nothing():
    first, second = E2Conv(1, 2, 3, "c4"), E2Conv(1, 2, 3, "c4")
    first.double().eval()
    assert all(module.training for module in second.modules())
    assert {buffer.dtype for buffer in second.buffers() if buffer.is_floating_point()} == {
        torch.float32
    }
