import torch

from src.models.components.gcnn import GroupBatchNorm
from tests.helpers.equivariance import assert_equivariant


def test_statistics_are_shared_over_batch_group_and_space():
    x = torch.randn(4, 3, 8, 5, 6) * 2 + 1
    y = GroupBatchNorm(3)(x)
    for channel in range(3):
        values = x[:, channel]
        expected = (values - values.mean()) / (values.var(unbiased=False) + 1e-5).sqrt()
        assert torch.allclose(y[:, channel], expected, atol=1e-5)


def test_is_equivariant_in_training_and_evaluation():
    norm = GroupBatchNorm(3)
    assert norm.weight.numel() == 3
    assert_equivariant(norm, torch.randn(2, 3, 8, 5, 6), "d4", "regular")
    assert_equivariant(norm.eval(), torch.randn(2, 3, 8, 5, 6), "d4", "regular")
