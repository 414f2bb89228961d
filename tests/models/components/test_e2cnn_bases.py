import pytest
import torch

from src.models.components.e2cnn_bases import (
    FIELD_TYPES,
    _gspace,
    _vector_representation,
    fibre_size,
    kernel_basis,
)
from src.models.components.gcnn import make_group
from src.models.components.gcnn.kernels import kernel_transform
from tests.helpers.library_layers import library_layer

GROUPS = ["c1", "c2", "c3", "c4", "c8", "d1", "d2", "d3", "d4", "d8"]
every_group = pytest.mark.parametrize("group", GROUPS)


def fibre_action(group, field_type):
    return {
        "scalar": torch.ones(group.order, 1, 1, dtype=torch.float64),
        "vector": group.matrices,
        "regular": group.regular_representation(),
    }[field_type]


@every_group
@pytest.mark.parametrize("in_type", FIELD_TYPES)
@pytest.mark.parametrize("out_type", FIELD_TYPES)
@pytest.mark.parametrize("kernel_size", [3, 5])
def test_kernels_satisfy_the_constraint_and_are_independent(group, in_type, out_type, kernel_size):
    group = make_group(group)
    kernels, std = kernel_basis(group, kernel_size, in_type, out_type)
    sizes = [fibre_size(group, kind) for kind in (out_type, in_type)]
    assert kernels.shape == (len(std), *sizes, kernel_size, kernel_size)
    assert torch.linalg.matrix_rank(kernels.flatten(1)) == len(kernels)
    turns = kernel_transform(group, kernel_size, "nearest")
    rho_in, rho_out = fibre_action(group, in_type), fibre_action(group, out_type)
    for g in filter(group.is_exact, range(group.order)):
        turned = torch.einsum("xy,npqy->npqx", turns[g], kernels.flatten(3))
        turned = torch.einsum("pr,nrsx,qs->npqx", rho_out[g], turned, rho_in[g])
        assert torch.allclose(turned, kernels.flatten(3), atol=1e-12)


@every_group
def test_vectors_turn_by_the_matrices_of_the_group(group):
    group = make_group(group)
    space = _gspace(group)
    representation = _vector_representation(space, group)
    change, irreps = representation.change_of_basis, representation.irreps
    for matrix, element in zip(group.matrices, space.fibergroup.elements):
        parts = [torch.tensor(space.fibergroup.irreps[name](element)) for name in irreps]
        blocks = torch.block_diag(*parts).numpy()
        turned = torch.from_numpy(change @ blocks @ change.T)
        assert torch.allclose(turned, matrix, atol=1e-12)


@pytest.mark.parametrize(("group", "irrep"), [("c3", (1,)), ("c8", (1,)), ("d4", (1, 1))])
@pytest.mark.parametrize("kernel_size", [3, 5])
def test_vector_kernels_are_those_of_the_library_with_y_turned_over(group, irrep, kernel_size):
    group = make_group(group)
    space = _gspace(group)
    vectors = space.irrep(*irrep)
    library = library_layer(space, vectors, vectors, (1, 1), kernel_size)
    one_each = torch.eye(library.weights.numel())
    theirs = torch.stack([library.basisexpansion(w) for w in one_each]).double()
    over = torch.tensor([1.0, -1.0], dtype=torch.float64)  # e2cnn's y axis points up
    theirs = (over[:, None, None] * over[:, None] * theirs).flatten(1)
    ours = kernel_basis(group, kernel_size, "vector", "vector").kernels.flatten(1)
    assert len(ours) == len(theirs)
    assert torch.linalg.matrix_rank(torch.cat([ours, theirs]), atol=1e-5) == len(ours)


def test_standard_deviation_of_coefficients():
    """1 / sqrt(irreps that reach a part of the output x kernels from each of them)."""
    kernels, std = kernel_basis(make_group("c4"), 3, "vector", "regular")
    # irreps 0 and 2, two kernels each, and irrep 1, of two dimensions, eight kernels
    assert len(kernels) == 12
    expected = torch.tensor([2, 2, 2, 2, *[8] * 8]).double().rsqrt()
    assert torch.allclose(std.sort().values, expected.sort().values)


def test_a_size_without_kernels():
    with pytest.raises(ValueError, match="there must be an equivariant kernel from vector to scal"):
        kernel_basis(make_group("d4"), 1, "vector", "scalar")
