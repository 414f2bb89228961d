import pytest
import torch
import torch.nn.functional as F
from torch import nn

from src.measures import grad_norm, kernels, update_ratio
from src.models.components.translation import RelaxedTranslationConv
from tests.helpers.layer_cases import LAYERS, make_input, make_layer


def test_grad_norm_is_over_all_parameters_that_have_a_gradient():
    parameters = [nn.Parameter(torch.zeros(2, dtype=d)) for d in (torch.float32, torch.float64)]
    assert grad_norm(parameters).item() == 0.0
    parameters[0].grad = torch.tensor([1.0, 2.0])
    assert grad_norm(parameters).item() == pytest.approx(5**0.5)
    parameters[1].grad = torch.tensor([-2.0, 0.0], dtype=torch.float64)
    norm = grad_norm(iter(parameters))
    assert (norm.item(), norm.requires_grad) == (pytest.approx(3.0), False)


def test_update_ratio():
    before = [torch.tensor([3.0, 0.0]), torch.tensor([[4.0]])]
    after = [nn.Parameter(torch.tensor([3.0, 0.3])), nn.Parameter(torch.tensor([[3.6]]))]
    ratio = update_ratio(before, iter(after))
    assert (ratio.item(), ratio.requires_grad) == (pytest.approx(0.1), False)
    zero = [torch.zeros(2)]
    assert update_ratio(zero, [torch.zeros(2)]).item() == 0.0
    assert update_ratio(zero, [torch.ones(2)]).item() == float("inf")
    with pytest.raises(ValueError, match=r"shorter|longer"):
        update_ratio(zero, [])


@pytest.mark.parametrize("name", [*LAYERS, "ordinary"])
def test_a_layer_convolves_with_its_kernel(name):
    """A layer relaxed over positions with the kernel of its mean weights; copies, no views."""
    layer = nn.Conv2d(2, 3, 3, padding=1) if name == "ordinary" else make_layer(name)
    x = torch.randn(2, 2, 7, 9) if name == "ordinary" else make_input(layer)
    (kernel,) = kernels(nn.Sequential(layer)).values()
    layer.bias = None
    if isinstance(layer, RelaxedTranslationConv):
        with torch.no_grad():
            layer.relaxed_weights.normal_()
            (kernel,) = kernels(layer).values()
            layer.relaxed_weights.copy_(layer.relaxed_weights.mean((-2, -1), keepdim=True))
    expected = layer(x)
    y = F.conv2d(x.flatten(1, -3), kernel, padding=1)
    torch.testing.assert_close(y, expected.flatten(1, -3), rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        layer.weight.zero_()
    assert kernel.any() and not kernel.requires_grad
