import pytest
import torch
import torch.nn.functional as F

from src.models.components.activations import make_activation


@pytest.mark.parametrize("name", ["relu", "silu", "gelu", "elu"])
def test_each_name_makes_its_function_and_draws_no_random_number(name):
    x, state = torch.linspace(-3, 3, 101), torch.get_rng_state()
    assert torch.equal(make_activation(name)(x), getattr(F, name)(x))
    assert torch.equal(torch.get_rng_state(), state)


def test_other_names_are_refused():
    with pytest.raises(ValueError, match="`activation` must be one of relu, silu, gelu, elu; got"):
        make_activation("tanh")
