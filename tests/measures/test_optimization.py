import pytest
import torch
from torch import nn

from src.measures import grad_norm, update_ratio


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
