import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck

from src.models.components.gcnn import GroupBatchNorm, ImageBatchNorm
from tests.helpers.equivariance import assert_equivariant


def test_statistics_are_shared_over_batch_group_and_space():
    """So it is equivariant in training and evaluation."""
    x, norm = torch.randn(4, 3, 8, 5, 6) * 2 + 1, GroupBatchNorm(3)
    y = norm(x)
    for channel in range(3):
        values = x[:, channel]
        expected = (values - values.mean()) / (values.var(unbiased=False) + 1e-5).sqrt()
        assert torch.allclose(y[:, channel], expected, atol=1e-5)
    for mode in (norm, norm.eval()):
        assert_equivariant(mode, x, "d4", "regular")


@pytest.mark.parametrize(
    "options",
    [{}, {"momentum": None}, {"momentum": 0.3, "eps": 0.1}, {"track_running_stats": False}],
)
@pytest.mark.parametrize(
    ("ours", "torchs", "shape"),
    [
        (ImageBatchNorm, nn.BatchNorm2d, (7, 3, 5, 6)),
        (GroupBatchNorm, nn.BatchNorm3d, (3, 5, 4, 6, 7)),
    ],
)
def test_equals_the_norm_of_torch(double_precision, ours, torchs, shape, options):
    """Outputs, gradients and statistics, step by step, and then in evaluation."""
    norms = [kind(shape[1], **options) for kind in (ours, torchs)]
    for norm in norms:
        with torch.no_grad():
            norm.weight.copy_(torch.arange(shape[1]) + 1.0), norm.bias.copy_(norm.weight / 2)
    for step in range(4):
        x = 2 * torch.randn(shape) + 3
        x = x if step % 2 else x.movedim(1, -1).contiguous().movedim(-1, 1)  # channels last
        inputs = [x.clone().requires_grad_() for _ in norms]
        for norm, input in zip(norms, inputs):
            norm.train(step < 3).zero_grad()
            norm(input).pow(3).sum().backward()
        torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
        torch.testing.assert_close(norms[0].weight.grad, norms[1].weight.grad)
        torch.testing.assert_close(norms[0].bias.grad, norms[1].bias.grad)
        for name, value in norms[0].state_dict().items():
            torch.testing.assert_close(value, norms[1].state_dict()[name])


def test_derivatives_of_both_orders(double_precision):
    norm = ImageBatchNorm(2, track_running_stats=False)
    x = torch.randn(3, 2, 2, 2, requires_grad=True)

    def run(x, weight, bias):
        return torch.func.functional_call(norm, {"weight": weight, "bias": bias}, (x,))

    inputs = (x, torch.rand(2, requires_grad=True), torch.rand(2, requires_grad=True))
    assert gradcheck(run, inputs)
    assert gradgradcheck(run, inputs)


def test_refuses_what_torch_refuses():
    for x, message in (
        (torch.randn(1, 3, 1, 1), "more than 1 value per channel"),
        (torch.randn(2, 3, 4), "expected 4D input"),
    ):
        with pytest.raises(ValueError, match=message):
            ImageBatchNorm(3)(x)
