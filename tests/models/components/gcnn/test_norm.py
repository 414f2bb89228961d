import torch

from src.models.components.gcnn import GroupBatchNorm
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
