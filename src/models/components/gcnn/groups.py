"""Finite subgroups of O(2): their elements as matrices, their Cayley table, their inverses."""

import re
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor

# One number, a vector, a vector and a number beside it (v0, v1, s), a number per element.
FIELD_TYPES = ("scalar", "vector", "vector+scalar", "regular")


@dataclass(frozen=True)
class Group:
    """A finite group of orthogonal matrices that acts on pixel coordinates.

    Attributes:
        name: e.g. ``"c4"``; groups of one name are equal.
        order: number of elements |G|; element 0 is the identity.
        matrices: [|G|, d, d], float64; ``matrices[g]`` acts on coordinates in the order of a
            vector field's components: (column, row), both increasing with the index.
        cayley: [|G|, |G|], int64; ``cayley[g, h]`` is the index of the product gh.
        inverse: [|G|], int64; ``inverse[g]`` is the index of g^-1.
    """

    name: str
    order: int
    matrices: Tensor = field(compare=False, repr=False)
    cayley: Tensor = field(compare=False, repr=False)
    inverse: Tensor = field(compare=False, repr=False)

    def is_exact(self, element: int) -> bool:
        """Whether the element maps the pixel grid to itself (quarter turns, mirror images)."""
        matrix = self.matrices[element]
        return bool(torch.equal(matrix, matrix.round()))

    def fibre_size(self, field_type: str) -> int:
        """Numbers that a field of one of the `FIELD_TYPES` holds at each pixel."""
        sizes = {"scalar": 1, "vector": 2, "vector+scalar": 3, "regular": self.order}
        return sizes[field_type]

    def representation(self, field_type: str) -> Tensor:
        """rho(g), matrices [|G|, n, n], float64, that turn a field of one of the `FIELD_TYPES`."""
        if field_type == "regular":
            return self.regular_representation()
        one = torch.eye(self.fibre_size(field_type), dtype=torch.float64)
        rho = one.repeat(self.order, 1, 1)
        if field_type != "scalar":
            rho[:, :2, :2] = self.matrices
        return rho

    def regular_representation(self) -> Tensor:
        """Permutation matrices [|G|, |G|, |G|], float64: g moves the entry at h to gh."""
        moved = self.cayley[:, None, :] == torch.arange(self.order)[:, None]
        return moved.double()


def make_group(group: str | Group) -> Group:
    """Return the group of that name; a ``Group`` is passed through.

    ``cN``: rotations; element a turns by 2 pi a / N, counter-clockwise on the displayed image.
    ``dN``: rotations and reflections; element a + N m mirrors left-right (flips the last axis)
    m times, then turns by 2 pi a / N. N = 1, 2, 3, ...; ValueError for other names.
    """
    if isinstance(group, Group):
        return group
    match = re.match(r"^([cd])([1-9]\d*)$", group) if isinstance(group, str) else None
    if match is None:
        raise ValueError(
            "`group` must be 'cN' (N rotations) or 'dN' (N rotations and their mirror images) "
            f"with N = 1, 2, 3, ...; got {group!r}. Use for example 'c4', 'c8' or 'd4'."
        )
    return _planar_group(match[1], int(match[2]))


@lru_cache(maxsize=64)
def _planar_group(kind: str, num_rotations: int) -> Group:
    """Matrices in (column, row) coordinates; those of quarter turns are exact integers."""
    angles = 2 * torch.pi * torch.arange(num_rotations, dtype=torch.float64) / num_rotations
    cos, sin = angles.cos(), angles.sin()
    matrices = torch.stack([torch.stack([cos, sin], -1), torch.stack([-sin, cos], -1)], -2)
    quarter = 4 * torch.arange(num_rotations) % num_rotations == 0
    matrices[quarter] = matrices[quarter].round() + 0.0  # no -0.0
    if kind == "d":
        mirror = torch.tensor([[-1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
        matrices = torch.cat([matrices, matrices @ mirror])
    return group_from_matrices(f"{kind}{num_rotations}", matrices)


def subgroup_elements(group: Group, subgroup: Group) -> Tensor:
    """Where the elements of a subgroup are among those of a group, [|K|], in the subgroup's order.

    ValueError, with the subgroups that there are, unless it is one.
    """
    found = _places(group, subgroup)
    if found is None:
        fits = [name for name in subgroup_names(group) if name != group.name]
        raise ValueError(
            f"a group after {group.name!r} must be it or one of its subgroups; got "
            f"{subgroup.name!r}. Use {group.name}, {', '.join(fits)}."
        )
    return found


def subgroup_names(group: Group) -> list[str]:
    """Names of the groups ``cN`` and ``dN`` whose elements a group contains, itself among them."""
    names = [f"{kind}{n}" for kind in "dc" for n in range(group.order, 0, -1)]
    return [name for name in names if _places(group, make_group(name)) is not None]


def _places(group: Group, subgroup: Group, tolerance: float = 1e-9) -> Tensor | None:
    """Indices of the elements of the group that have the subgroup's matrices; None without."""
    matrices = (g.matrices.flatten(1) for g in (subgroup, group))
    distance, places = torch.cdist(*matrices, p=float("inf")).min(1)
    return places if distance.max() < tolerance else None


def group_from_matrices(name: str, matrices: Tensor, tolerance: float = 1e-9) -> Group:
    """Build the group whose elements are the matrices [|G|, d, d], float64, the identity first.

    ValueError unless each product differs from an element by at most ``tolerance`` per entry.
    """
    order, dim = matrices.shape[0], matrices.shape[-1]
    if not torch.equal(matrices[0], torch.eye(dim, dtype=matrices.dtype)):
        raise ValueError(f"the first matrix of group {name!r} must be the identity.")
    products = torch.einsum("gij,hjk->ghik", matrices, matrices).reshape(order, order, -1)
    distance = torch.cdist(products, matrices.reshape(order, -1), p=float("inf"))
    nearest, cayley = distance.min(-1)
    if nearest.max() > tolerance:
        raise ValueError(
            f"the matrices of group {name!r} must be closed under multiplication; "
            f"a product differs from every element by {nearest.max():.2g}."
        )
    return Group(name, order, matrices, cayley, (cayley == 0).long().argmax(1))
