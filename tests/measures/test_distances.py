import math

import pytest
import torch

from src.measures.distances import RunningMean, relative_distance


def test_relative_distances_of_samples():
    reference = torch.tensor([[[3.0, 4.0]], [[0.0, 2.0]]])
    got = torch.tensor([[[3.0, 9.0]], [[1.0, 0.0]]])
    expected = torch.tensor([[[0.0, 5.0]], [[1.0, 0.0]]])
    assert relative_distance(got, expected, reference).tolist() == [1.0, 0.0]


def test_zero_references():
    zero = torch.zeros(1, 2)
    assert relative_distance(zero, zero, zero).item() == 0.0
    assert relative_distance(zero + 1, zero, zero).item() == math.inf


def test_nan_is_kept():
    x = torch.tensor([[math.nan, 1.0]])
    assert relative_distance(x, x, x).isnan().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_norms_beyond_the_range_of_half_precision(dtype):
    """The norm of 100 numbers of 30000 is 300000."""
    x = torch.full((1, 100), 30000.0, dtype=dtype)
    assert relative_distance(0 * x, x, x).item() == pytest.approx(1.0, rel=1e-6)


def test_means_weigh_values_alike():
    mean = RunningMean()
    assert mean.count == 0
    mean.add(torch.tensor([1.0, 2.0, 3.0]))
    mean.add(torch.tensor([[6.0]]))
    assert (mean.count, mean.value()) == (4, 3.0)


def test_means_are_taken_in_double_precision():
    mean = RunningMean()
    mean.add(torch.full((3,), 0.1))
    mean.add(torch.tensor([1e8]))
    assert mean.value() == pytest.approx((1e8 + 3 * torch.tensor(0.1).item()) / 4, rel=1e-15)


def test_a_mean_of_nothing_is_an_error():
    mean = RunningMean()
    mean.add(torch.zeros(0))
    with pytest.raises(ValueError, match="at least one sample; got none"):
        mean.value()
