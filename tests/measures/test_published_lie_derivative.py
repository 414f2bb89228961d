from typing import get_args

import pytest
import torch
from torch import nn

from src.measures.generators import Transformation
from src.measures.published_lie_derivative import published_lie_derivative
from tests.helpers.measured import images
from tests.helpers.slow_lie import published_derivative


@pytest.mark.parametrize("transformation", get_args(Transformation))
@pytest.mark.parametrize("size", [8, (6, 9)])
def test_equals_the_derivative_of_pictures_resampled_as_published(size, transformation):
    """In single precision, in which some pixels look to the next one and some to the last."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.SiLU(), nn.Flatten(), nn.LazyLinear(4))
    x = images(size=size).float()
    expected = published_derivative(network, x, transformation).abs().mean().item()
    found = published_lie_derivative(network, list(x.split(2)), transformation)
    assert found == pytest.approx(expected, rel=1e-5)


def test_the_transformation_is_checked():
    with pytest.raises(ValueError, match="`transformation` must be one of"):
        published_lie_derivative(nn.Flatten(), [images()], "shear")
