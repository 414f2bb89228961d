"""The plane that the path of a training lies closest to."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

State = Mapping[str, Tensor]

CHUNK = 2**18  # weights of each point that are compared at a time
STRAIGHT = 1e-12  # a smaller part of the sum of squares is rounding of states in float32


class PrincipalComponents(NamedTuple):
    """The plane through the end of a path that fits its T points best, and the path on it.

    Attributes, in float64 on the CPU:
        coordinates: [T, 2], positions along the two unit-length components; the end's are 0.
        explained_variance: [2], fraction of the sum of squared distances from the end that each
            component accounts for.
        coefficients: [2, T], c with component_k = sum_t c[k, t] (w_t - w_T).
        distances: [T], distances from the plane.
    """

    coordinates: Tensor
    explained_variance: Tensor
    coefficients: Tensor
    distances: Tensor


def principal_components(states: Sequence[State], names: Iterable[str]) -> PrincipalComponents:
    r"""The two directions from the end of a path that its points spread most along.

    .. math:: M_t = w_t - w_T, \quad M M^\top = U \Lambda U^\top, \quad
              d_k = M^\top u_k / \sqrt{\lambda_k}

    so only a T x T matrix is decomposed, in float64, however many weights there are. The origin
    is the end of the path, not its mean. A component's sign is chosen such that the point
    farthest out along it has a positive coordinate. On a straight path, as with two points, the
    second component does not exist: its coordinates, fraction and coefficients are 0. (A fraction
    of 1e-12 or less is rounding of states in float32, and counts as none.)

    Reference: H. Li, Z. Xu, G. Taylor, C. Studer, T. Goldstein, Visualizing the Loss Landscape of
    Neural Nets, NeurIPS 2018, section 7.

    Args:
        states: the points w_1, ..., w_T of the path in order, by name; T of at least 2.
        names: names of the tensors that w consists of; others are not read.

    Raises:
        ValueError: fewer than two points, a path that never moves or is not finite.
    """
    names = list(names)
    if len(states) < 2:
        raise ValueError(
            f"a path must have at least two points; got {len(states)}. Store the weights at the "
            "start of training too."
        )
    gram = sum(d @ d.mT for d in _differences(states, names))
    total = gram.trace().item()
    if not math.isfinite(total) or total == 0:
        raise ValueError(
            "the points of a path must be finite and must not all be equal; got a sum of squared "
            f"distances from the end of {total}. Leave out states after training diverged, or "
            "store states farther apart."
        )
    values, vectors = (part.flip(-1)[..., :2] for part in torch.linalg.eigh(gram))
    exists = values > STRAIGHT * total
    lengths = values.where(exists, 1.0).sqrt()
    farthest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    vectors = vectors * exists * farthest.sign()
    off_plane = torch.eye(len(states)).to(gram) - vectors @ vectors.mT
    squared = sum((off_plane @ d).square().sum(1) for d in _differences(states, names))
    return PrincipalComponents(
        coordinates=vectors * lengths,
        explained_variance=values * exists / total,
        coefficients=(vectors / lengths).mT,
        distances=squared.sqrt(),
    )


def _differences(states: Sequence[State], names: list[str]) -> Iterator[Tensor]:
    """M in pieces of a few columns: [T, at most CHUNK], float64 on the CPU."""
    for name in names:
        for pieces in zip(*(state[name].flatten().split(CHUNK) for state in states)):
            points = torch.stack([piece.to("cpu", torch.float64) for piece in pieces])
            yield points - points[-1]
