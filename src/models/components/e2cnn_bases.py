"""Steerable kernels of the e2cnn library, sampled on the pixel grid, in this project's axes."""

import functools
import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from e2cnn import gspaces
from e2cnn.group import Representation
from e2cnn.kernels import Basis, EmptyBasisException, irreps_basis
from e2cnn.nn.modules.r2_conv.basisexpansion_singleblock import normalize_basis
from e2cnn.nn.modules.r2_conv.r2convolution import compute_basis_params
from torch import Tensor

from src.checks import check_choice
from src.models.components.gcnn.groups import Group
from src.models.components.gcnn.kernels import check_kernel_size

FIELD_TYPES = ("scalar", "vector", "regular")
SMALLEST_NORM = 1e-2  # e2cnn leaves out kernels whose squared norm on the grid is below this


class KernelBasis(NamedTuple):
    """Kernels from one input field to one output field.

    Attributes:
        kernels: [n, output fibre, input fibre, k, k], float64.
        std: [n], standard deviation of the kernels' coefficients in a new layer with one input
            field; for I input fields it is divided by sqrt(I).
    """

    kernels: Tensor
    std: Tensor


def fibre_size(group: Group, field_type: str) -> int:
    """Numbers that a field of the given type holds at each pixel."""
    return {"scalar": 1, "vector": 2, "regular": group.order}[field_type]


@functools.lru_cache(maxsize=64)
def kernel_basis(group: Group, kernel_size: int, in_type: str, out_type: str) -> KernelBasis:
    r"""e2cnn's kernels with K(g x) = rho_out(g) K(x) rho_in(g)^-1, band-limited and normalised.

    They are those of `e2cnn.nn.R2Conv` with its default rings, widths and frequencies, here in
    float64. Elements of regular fields come in the order of `make_group`; vectors turn by the
    group's matrices, with component 0 along columns and component 1 along rows (e2cnn's own y
    axis points up). The standard deviations are those of e2cnn's generalised He initialisation.

    Args:
        group: a group.
        kernel_size: k, odd.
        in_type: ``"scalar"``, ``"vector"`` or ``"regular"``.
        out_type: the same.

    Raises:
        ValueError: an argument out of range, or there is no such kernel.

    Reference: M. Weiler, G. Cesa, General E(2)-Equivariant Steerable CNNs, NeurIPS 2019.
    """
    check_kernel_size(kernel_size)
    check_choice("in_type", in_type, FIELD_TYPES)
    check_choice("out_type", out_type, FIELD_TYPES)
    points, keep, rings, sigma, frequency = compute_basis_params(kernel_size)
    space = _gspace(group)
    fields = [_representation(space, group, kind) for kind in (in_type, out_type)]
    options = {"rings": rings, "sigma": sigma, "maximum_frequency": frequency}
    try:
        basis = space.build_kernel_basis(*fields, maximum_offset=None, **options)
    except EmptyBasisException:
        kernels, attributes = torch.empty(0), []
    else:
        kernels, attributes = _sample(basis, points, [keep(attribute) for attribute in basis])
    if not attributes:
        raise ValueError(
            f"there must be an equivariant kernel from {in_type} to {out_type} fields; group "
            f"{group.name} has none of `kernel_size` {kernel_size}. Use {kernel_size + 2}."
        )
    return KernelBasis(kernels.unflatten(-1, (kernel_size, kernel_size)), _initial_std(attributes))


@functools.lru_cache(maxsize=64)
def pixelwise_rank(group: Group, kernel_size: int, in_type: str, out_type: str) -> int:
    """Sum over pixels y of the dimension that the matrices B_b(y) of `kernel_basis` span.

    Singular values up to 1e-6 count as zero; a kernel of the basis has norm near one.
    """
    values = kernel_basis(group, kernel_size, in_type, out_type).kernels.flatten(3).flatten(1, 2)
    return int(torch.linalg.matrix_rank(values.permute(2, 0, 1), atol=1e-6).sum())


def _sample(basis: Basis, points: np.ndarray, keep: list[bool]) -> tuple[Tensor, list[dict]]:
    """Values [n, output fibre, input fibre, k^2] of the kernels to keep, and what they are."""
    attributes = [attribute for attribute, kept in zip(basis, keep) if kept]
    values = torch.from_numpy(basis.sample_masked(points, mask=np.array(keep)))
    sizes = torch.tensor([attribute["shape"][0] for attribute in attributes]).double()
    values = normalize_basis(values.permute(2, 0, 1, 3).contiguous(), sizes)
    large = values.square().flatten(1).sum(1) > SMALLEST_NORM
    return values[large], [attribute for attribute, kept in zip(attributes, large) if kept]


def _initial_std(attributes: list[dict]) -> Tensor:
    """1 / sqrt(kernels from this irrep to this part of the output x irreps that reach it)."""
    pairs = [(attribute["in_irrep"], attribute["out_irrep_idx"]) for attribute in attributes]
    kernels, irreps = Counter(pairs), Counter(part for _, part in set(pairs))
    return torch.tensor([1 / math.sqrt(kernels[pair] * irreps[pair[1]]) for pair in pairs]).double()


def _gspace(group: Group) -> gspaces.GSpace:
    """e2cnn's name for the group's action on the plane."""
    reflections, num_rotations = group.name[0] == "d", int(group.name[1:])
    if num_rotations == 1:
        return gspaces.Flip2dOnR2(math.pi / 2) if reflections else gspaces.TrivialOnR2()
    if reflections:
        return gspaces.FlipRot2dOnR2(num_rotations, axis=math.pi / 2)
    return gspaces.Rot2dOnR2(num_rotations)


def _representation(space: gspaces.GSpace, group: Group, field_type: str) -> Representation:
    if field_type == "vector":
        return _vector_representation(space, group)
    return space.trivial_repr if field_type == "scalar" else space.regular_repr


def _vector_representation(space: gspaces.GSpace, group: Group) -> Representation:
    """The group's own matrices, as irreps of e2cnn and an orthogonal change of basis."""
    fibre = space.fibergroup
    names, columns = [], []
    for name, irrep in fibre.irreps.items():
        pairs = zip(group.matrices.numpy(), fibre.elements)
        projection = np.mean([np.kron(matrix, irrep(element)) for matrix, element in pairs], 0)
        for column in _orthonormal(projection):
            if sum(c.shape[1] for c in columns) + irrep.size <= 2:
                names.append(name)
                columns.append(column.reshape(2, irrep.size) * math.sqrt(irrep.size))
    return Representation(fibre, "vector", names, np.concatenate(columns, 1), [])


def _orthonormal(projection: np.ndarray) -> Iterator[np.ndarray]:
    """A basis of a projection's range, found by subtracting (no signs left to a library)."""
    while (norms := np.linalg.norm(projection, axis=0)).max() > 1e-6:
        column = projection[:, norms.argmax()] / norms.max()
        projection = projection - np.outer(column, column @ projection)
        yield column


def _run_on_numpy_2() -> None:
    """Replace what e2cnn 0.2.3 uses and NumPy 2 removed, for groups with reflections."""

    def hash_basis(basis: irreps_basis.IrrepBasis) -> int:
        return hash((basis.in_irrep, basis.out_irrep, basis.mu.tobytes()))

    def with_arrays(function: Callable) -> Callable:
        @functools.wraps(function)
        def wrapped(theta, *args, out=None, **kwargs):
            args = [np.atleast_1d(a) for a in args]
            kwargs = {name: np.atleast_1d(value) for name, value in kwargs.items()}
            return function(theta, *args, out=out, **kwargs)

        return wrapped

    irreps_basis.psichi = with_arrays(irreps_basis.psichi)
    irreps_basis.R2FlipsSolution.__hash__ = hash_basis
    irreps_basis.R2FlipsDiscreteRotationsSolution.__hash__ = hash_basis


_run_on_numpy_2()
