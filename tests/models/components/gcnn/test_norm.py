import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck

from src.models.components.gcnn import GroupBatchNorm, ImageBatchNorm, SampleNorm
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
    norms = [ours(shape[1], **options), torchs(shape[1], **{"momentum": 0.5, **options})]
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


@pytest.mark.parametrize("shape", [(5, 3, 8, 6, 7), (2, 1, 4, 1, 1), (3, 5, 6, 7), (2, 3, 1, 2)])
def test_the_norm_of_a_sample_is_equivariant_and_depends_on_no_other(double_precision, shape):
    """Values and gradients, whatever the order of memory; in training and evaluation."""
    norm, x = SampleNorm(shape[1]), 2 * torch.randn(shape) + 3
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2), norm.bias.normal_()
    dims, last = tuple(range(1, x.dim())), (0, *range(2, x.dim()), 1)
    scale, shift = (p.view(-1, *[1] * (x.dim() - 2)) for p in (norm.weight, norm.bias))
    var, mean = torch.var_mean(x, dims, correction=0, keepdim=True)
    orders = [x, x.permute(last).contiguous().movedim(-1, 1)]
    orders += [x.movedim(2, -2).contiguous().movedim(-2, 2)]
    for ordered in orders:
        for mode in (norm, norm.eval()):
            assert gradcheck(mode, ordered.clone().requires_grad_(), fast_mode=True)
            torch.testing.assert_close(
                mode(ordered), scale * (x - mean) / (var + 1e-5).sqrt() + shift
            )
    if x.dim() == 5:
        assert_equivariant(norm, x, "d4" if shape[2] == 8 else "c4", "regular")


def test_refuses_what_torch_refuses():
    for x, message in (
        (torch.randn(1, 3, 1, 1), "more than 1 value per channel"),
        (torch.randn(2, 3, 4), "expected 4D input"),
    ):
        with pytest.raises(ValueError, match=message):
            ImageBatchNorm(3)(x)
