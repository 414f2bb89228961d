from functools import partial

import pytest
import torch

from src.models.components.gcnn import make_group
from src.models.components.gcnn.actions import (
    transform_feature_map,
    transform_image,
    transform_vector_field,
)
from tests.helpers.equivariance import act, exact_elements
from tests.helpers.slow_layers import turn

ACTIONS = {
    "scalar": (transform_image, (2, 3, 5, 6)),
    "vector": (transform_vector_field, (2, 4, 5, 6)),
    "vector+scalar": (partial(transform_vector_field, field_type="vector+scalar"), (2, 6, 5, 6)),
    "regular": (transform_feature_map, (2, 3, 8, 5, 6)),
}


@pytest.mark.parametrize("kind", ACTIONS)
@pytest.mark.parametrize("name", ["c8", "d4"])
def test_exact_elements_agree_with_rot90_and_flip(kind, name):
    """And acting twice is acting with the product."""
    transform, shape = ACTIONS[kind]
    x, group, exact = torch.randn(shape), make_group(name), exact_elements(name)
    for g in exact:
        assert torch.equal(transform(x, name, g), act(x, name, g, kind))
        for h in exact:
            twice = transform(transform(x, name, h), name, g)
            assert torch.equal(twice, transform(x, name, int(group.cayley[g, h])))


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
def test_other_elements_agree_with_grid_sampling(interpolation):
    x = torch.randn(2, 3, 9, 9, dtype=torch.float64)
    expected = turn(x, "d8", 11, interpolation)
    assert torch.allclose(transform_image(x, "d8", 11, interpolation), expected, atol=1e-12)


def test_a_small_disc_lands_where_the_turn_takes_it():
    """A spot to the right of the centre of a non-square image goes up and to the right by 45°."""
    x = torch.zeros(1, 1, 21, 31)
    x[..., 10, 15 + 7] = 1
    y = transform_image(x, "c8", 1)
    assert divmod(int(y.argmax()), 31) == (10 - 5, 15 + 5)  # (row, column)
