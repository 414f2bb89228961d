import pytest
import torch

from src.models.components.e2cnn_bases import gspace, kernel_basis
from src.models.components.gcnn import make_group
from src.models.components.gcnn.groups import FIELD_TYPES
from src.models.components.gcnn.kernels import kernel_transform
from tests.helpers.layer_cases import library_layer


def fibre_action(group, field_type):
    one = torch.ones(1, 1, dtype=torch.float64)
    return {
        "scalar": one.expand(group.order, 1, 1),
        "vector": group.matrices,
        "vector+scalar": torch.stack([torch.block_diag(m, one) for m in group.matrices]),
        "regular": group.regular_representation(),
    }[field_type]


@pytest.mark.parametrize(("group", "kernel_size"), [("c1", 3), ("c8", 3), ("d1", 3), ("d4", 5)])
@pytest.mark.parametrize("in_type", FIELD_TYPES)
@pytest.mark.parametrize("out_type", FIELD_TYPES)
def test_kernels_satisfy_the_constraint_and_are_independent(group, in_type, out_type, kernel_size):
    group = make_group(group)
    kernels, std = kernel_basis(group, kernel_size, in_type, out_type)
    sizes = [group.fibre_size(kind) for kind in (out_type, in_type)]
    assert kernels.shape == (len(std), *sizes, kernel_size, kernel_size)
    assert torch.linalg.matrix_rank(kernels.flatten(1)) == len(kernels)
    turns = kernel_transform(group, kernel_size, "nearest")
    rho_in, rho_out = fibre_action(group, in_type), fibre_action(group, out_type)
    for g in filter(group.is_exact, range(group.order)):
        turned = torch.einsum("xy,npqy->npqx", turns[g], kernels.flatten(3))
        turned = torch.einsum("pr,nrsx,qs->npqx", rho_out[g], turned, rho_in[g])
        assert torch.allclose(turned, kernels.flatten(3), atol=1e-12)


@pytest.mark.parametrize(
    ("group", "irrep", "kernel_size"), [("c3", (1,), 3), ("c8", (1,), 5), ("d4", (1, 1), 5)]
)
def test_vector_kernels_are_those_of_the_library_with_y_turned_over(group, irrep, kernel_size):
    group = make_group(group)
    space = gspace(group)
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
    """In proportion to 1 / sqrt(irreps that reach a part of the output x kernels of each)."""
    kernels, std = kernel_basis(make_group("c4"), 3, "vector", "regular")
    # irreps 0 and 2, two kernels each, and irrep 1, of two dimensions, eight kernels
    assert len(kernels) == 12
    expected = torch.tensor([2, 2, 2, 2, *[8] * 8]).double().rsqrt()
    assert torch.allclose(std.sort().values / std.max(), expected.sort().values / expected.max())
