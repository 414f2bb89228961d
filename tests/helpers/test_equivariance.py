"""The equivariance helper must fail layers that are deliberately broken."""

import pytest

from tests.helpers.broken_layers import BROKEN
from tests.helpers.equivariance import assert_equivariant
from tests.helpers.layer_cases import RELAXED, STRICT, make_input, make_layer


def check(layer):
    assert_equivariant(layer, make_input(layer, 6, 7), "c4", layer.in_type, layer.out_type)


@pytest.mark.parametrize("name", [*STRICT, *RELAXED])
def test_working_layers_pass(name):
    check(make_layer(name))


@pytest.mark.parametrize("make_broken", BROKEN)
def test_broken_layers_fail(make_broken):
    with pytest.raises(AssertionError, match="relative equivariance error"):
        check(make_broken(2, 3, 3, "c4"))
