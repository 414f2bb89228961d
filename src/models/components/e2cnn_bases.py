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
from e2cnn.kernels import EmptyBasisException, irreps_basis
from e2cnn.nn.modules.r2_conv.basisexpansion_singleblock import normalize_basis
from e2cnn.nn.modules.r2_conv.r2convolution import compute_basis_params
from torch import Tensor

from src.models.components.gcnn.groups import Group

SMALLEST_NORM = 1e-2  # e2cnn leaves out kernels whose squared norm on the grid is below this


class KernelBasis(NamedTuple):
    """Kernels from one input field to one output field, [n, output fibre, input fibre, k, k].

    Coefficients with the deviations ``std`` give numbers of variance one, on average over a kernel.
    """

    kernels: Tensor
    std: Tensor


@functools.lru_cache(maxsize=64)
def kernel_basis(group: Group, kernel_size: int, in_type: str, out_type: str) -> KernelBasis:
    r"""e2cnn's kernels with K(g x) = rho_out(g) K(x) rho_in(g)^-1, band-limited and normalised.

    They are those of `e2cnn.nn.R2Conv` with its default rings, widths and frequencies, here in
    float64. Elements of regular fields come in the order of `make_group`; vectors turn by the
    group's matrices, with component 0 along columns and component 1 along rows (e2cnn's own y
    axis points up). The deviations have the proportions of e2cnn's generalised He initialisation.

    Reference: M. Weiler, G. Cesa, General E(2)-Equivariant Steerable CNNs, NeurIPS 2019.
    """
    points, keep, rings, sigma, frequency = compute_basis_params(kernel_size)
    space = gspace(group)
    fields = [representation(space, group, kind) for kind in (in_type, out_type)]
    options = {"rings": rings, "sigma": sigma, "maximum_frequency": frequency}
    kept = []
    try:
        basis = space.build_kernel_basis(*fields, maximum_offset=None, **options)
    except EmptyBasisException:
        pass
    else:
        mask = np.array([keep(attribute) for attribute in basis])
        attributes = [attribute for attribute, chosen in zip(basis, mask) if chosen]
        values = torch.from_numpy(basis.sample_masked(points, mask=mask))
        sizes = torch.tensor([attribute["shape"][0] for attribute in attributes]).double()
        values = normalize_basis(values.permute(2, 0, 1, 3).contiguous(), sizes)
        large = values.square().flatten(1).sum(1) > SMALLEST_NORM
        kernels = values[large].unflatten(-1, (kernel_size, kernel_size))
        kept = [attribute for attribute, chosen in zip(attributes, large) if chosen]
    if not kept:
        raise ValueError(
            f"there must be an equivariant kernel from {in_type} to {out_type} fields; group "
            f"{group.name} has none of `kernel_size` {kernel_size}. Use {kernel_size + 2}."
        )
    # 1 / sqrt(kernels from this irrep to this part of the output x irreps that reach it)
    pairs = [(attribute["in_irrep"], attribute["out_irrep_idx"]) for attribute in kept]
    counts, irreps = Counter(pairs), Counter(part for _, part in set(pairs))
    var = torch.tensor([1 / (counts[pair] * irreps[pair[1]]) for pair in pairs]).double()
    return KernelBasis(kernels, (var / (var @ kernels.square().flatten(1).mean(1))).sqrt())


@functools.lru_cache(maxsize=64)
def pixelwise_rank(group: Group, kernel_size: int, in_type: str, out_type: str) -> int:
    """Sum over pixels y of the dimension that the matrices B_b(y) of `kernel_basis` span.

    Singular values up to 1e-6 count as zero; a kernel of the basis has norm near one.
    """
    values = kernel_basis(group, kernel_size, in_type, out_type).kernels.flatten(3).flatten(1, 2)
    return int(torch.linalg.matrix_rank(values.permute(2, 0, 1), atol=1e-6).sum())


def gspace(group: Group) -> gspaces.GSpace:
    """e2cnn's name for the group's action on the plane."""
    reflections, num_rotations = group.name[0] == "d", int(group.name[1:])
    if num_rotations == 1:
        return gspaces.Flip2dOnR2(math.pi / 2) if reflections else gspaces.TrivialOnR2()
    if reflections:
        return gspaces.FlipRot2dOnR2(num_rotations, axis=math.pi / 2)
    return gspaces.Rot2dOnR2(num_rotations)


def representation(space: gspaces.GSpace, group: Group, field_type: str) -> Representation:
    """e2cnn's own; where there are vectors rho(g), as irreps and an orthogonal change of basis."""
    if not field_type.startswith("vector"):
        return space.trivial_repr if field_type == "scalar" else space.regular_repr
    fibre, size = space.fibergroup, group.fibre_size(field_type)
    rho = group.representation(field_type).numpy()
    names, columns = [], []
    for name, irrep in fibre.irreps.items():
        pairs = zip(rho, fibre.elements)
        projection = np.mean([np.kron(matrix, irrep(element)) for matrix, element in pairs], 0)
        for column in _orthonormal(projection):
            if sum(c.shape[1] for c in columns) + irrep.size <= size:
                names.append(name)
                columns.append(column.reshape(size, irrep.size) * math.sqrt(irrep.size))
    return Representation(fibre, field_type, names, np.concatenate(columns, 1), [])


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
