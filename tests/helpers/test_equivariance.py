"""The equivariance helper must fail layers that are deliberately broken."""

import pytest
import torch

from src.models.components.gcnn import (
    GroupConv,
    LiftingConv,
    RelaxedGroupConv,
    RelaxedVectorReadout,
    VectorReadout,
)
from tests.helpers.broken_layers import (
    NoCyclicShift,
    OppositeVectors,
    RestingVectors,
    WrongSense,
    strongly_relaxed,
)
from tests.helpers.equivariance import assert_equivariant

WORKING = [
    (lambda: LiftingConv(2, 3, 3, "c4"), "scalar", (2, 2, 6, 7)),
    (lambda: GroupConv(2, 3, 3, "c4"), "regular", (2, 2, 4, 6, 7)),
    (lambda: RelaxedGroupConv(2, 3, 3, "c4", num_filter_banks=2), "regular", (2, 2, 4, 6, 7)),
]
BROKEN = [
    (lambda: NoCyclicShift(2, 3, 3, "c4"), "regular", (2, 2, 4, 6, 7)),
    (lambda: WrongSense(2, 3, 3, "c4"), "scalar", (2, 2, 6, 7)),
    (lambda: strongly_relaxed(2, 3, 3, "c4"), "regular", (2, 2, 4, 6, 7)),
]


@pytest.mark.parametrize(("make_layer", "in_type", "shape"), WORKING)
def test_working_layers_pass(make_layer, in_type, shape):
    assert_equivariant(make_layer(), torch.randn(shape), "c4", in_type)


@pytest.mark.parametrize(("make_layer", "in_type", "shape"), BROKEN)
def test_broken_layers_fail(make_layer, in_type, shape):
    with pytest.raises(AssertionError, match="relative equivariance error"):
        assert_equivariant(make_layer(), torch.randn(shape), "c4", in_type)


@pytest.mark.parametrize("layer", [VectorReadout, RelaxedVectorReadout])
def test_working_readouts_pass(layer):
    assert_equivariant(layer(2, 1, 3, "c4"), torch.randn(2, 2, 4, 6, 7), "c4", "regular", "vector")


@pytest.mark.parametrize("layer", [OppositeVectors, RestingVectors])
def test_broken_readouts_fail(layer):
    x = torch.randn(2, 2, 4, 6, 7)
    with pytest.raises(AssertionError, match="relative equivariance error"):
        assert_equivariant(layer(2, 1, 3, "c4"), x, "c4", "regular", "vector")
