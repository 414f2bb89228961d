import math

import pytest
import torch

from src.measures.distances import mean_over_samples, relative_distance


def test_relative_distances_of_samples_with_zero_references_and_nan():
    reference = torch.tensor([[[3.0, 4.0]], [[0.0, 2.0]], [[0.0, 0.0]], [[0.0, 0.0]], [[1.0, 0.0]]])
    got = torch.tensor([[[3.0, 9.0]], [[1.0, 0.0]], [[0.0, 0.0]], [[1.0, 0.0]], [[math.nan, 0.0]]])
    expected = torch.tensor([[[0.0, 5.0]], [[1.0, 0.0]], [[0.0, 0.0]], [[0.0, 0.0]], [[0.0, 0.0]]])
    distances = relative_distance(got, expected, reference).tolist()
    assert distances == pytest.approx([1.0, 0.0, 0.0, math.inf, math.nan], nan_ok=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_norms_beyond_the_range_of_half_precision(dtype):
    """The norm of 100 numbers of 30000 is 300000."""
    x = torch.full((1, 100), 30000.0, dtype=dtype)
    assert relative_distance(0 * x, x, x).item() == pytest.approx(1.0, rel=1e-6)


def test_means_weigh_values_alike_in_double_precision():
    expected = (1e8 + 3 * torch.tensor(0.1).item()) / 4
    parts = [torch.full((3,), 0.1), torch.tensor([1e8])]
    assert mean_over_samples(parts) == pytest.approx(expected, rel=1e-15)
    for nothing in ([], [torch.zeros(0)]):
        with pytest.raises(ValueError, match="at least one sample; got none"):
            mean_over_samples(nothing)
