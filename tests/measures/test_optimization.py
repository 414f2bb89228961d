import pytest
import torch
from torch import nn

from src.measures import grad_norm, update_ratio


def test_grad_norm_is_over_all_parameters_together():
    parameters = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1, 1))]
    parameters[0].grad = torch.tensor([1.0, 2.0])
    parameters[1].grad = torch.tensor([[-2.0]])
    assert grad_norm(parameters).item() == pytest.approx(3.0)
    assert grad_norm(iter(parameters)).item() == pytest.approx(3.0)


def test_grad_norm_leaves_out_parameters_without_gradient():
    parameters = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))]
    assert grad_norm(parameters).item() == 0.0
    parameters[1].grad = torch.tensor([-4.0])
    assert grad_norm(parameters).item() == 4.0


def test_grad_norm_of_mixed_precision_and_its_independence_of_the_graph():
    parameters = [nn.Parameter(torch.zeros(1, dtype=d)) for d in (torch.float32, torch.float64)]
    for parameter, value in zip(parameters, (3.0, 4.0)):
        parameter.grad = torch.full_like(parameter, value)
    norm = grad_norm(parameters)
    assert norm.item() == pytest.approx(5.0)
    assert not norm.requires_grad


def test_update_ratio_by_hand():
    before = [torch.tensor([3.0, 0.0]), torch.tensor([[4.0]])]
    after = [nn.Parameter(torch.tensor([3.0, 0.3])), nn.Parameter(torch.tensor([[3.6]]))]
    ratio = update_ratio(before, after)
    assert ratio.item() == pytest.approx(0.1)
    assert not ratio.requires_grad


def test_update_ratio_of_a_gradient_step():
    network = nn.Linear(3, 2)
    before = [p.detach().clone() for p in network.parameters()]
    network(torch.randn(5, 3)).square().sum().backward()
    torch.optim.SGD(network.parameters(), lr=0.01).step()
    weights = torch.cat([p.flatten() for p in before])
    expected = 0.01 * grad_norm(network.parameters()) / weights.norm()
    torch.testing.assert_close(update_ratio(before, network.parameters()), expected)


def test_update_ratio_of_zero_weights():
    zero = [torch.zeros(2)]
    assert update_ratio(zero, [torch.zeros(2)]).item() == 0.0
    assert update_ratio(zero, [torch.ones(2)]).item() == float("inf")


def test_update_ratio_of_other_tensors():
    with pytest.raises(ValueError, match=r"same tensors in the same order; got .*\(2,\)"):
        update_ratio([torch.zeros(2)], [torch.zeros(3)])
    with pytest.raises(ValueError, match="same tensors in the same order"):
        update_ratio([torch.zeros(2)], [])
