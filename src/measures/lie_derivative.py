"""How fast a network, and each of its layers, leaves equivariance under continuous motions."""

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.func import jvp

from src.checks import check_choice
from src.measures.actions import Batch, Input, Output, groups_of, images_of, kind_of, known_fields
from src.measures.context import unchanged, without_jit_warnings
from src.measures.distances import mean_over_samples, norms
from src.measures.generators import InfinitesimalAction, Transformation
from src.measures.substitution import Substitution, blocks_of, substituted_outputs
from src.models.components.gcnn.groups import Group

_REST = "head"  # the name of all that does not lie in a block
_NETWORK, _RELATIVE = "overall", "relative"  # layers start with "blocks."


class LieDerivatives(NamedTuple):
    """Lie derivatives of a network (`overall`, `relative`) and of its parts (`per_layer`).

    Attributes:
        overall: RMS per output element, mean over samples.
        relative: the same divided by the RMS of the output, mean over samples.
        per_layer: contributions of the blocks and of the rest of the network, by name.
    """

    overall: float
    relative: float
    per_layer: dict[str, float]


def lie_derivatives(
    model: nn.Module,
    batches: Iterable[Batch],
    transformation: Transformation = "rotation",
    *,
    output: Output = "invariant",
    input: Input = "scalar",
    group: str | Group | None = None,
    per_layer: bool = True,
    offset: float = 1e-5,
) -> LieDerivatives:
    r"""RMS per output element of the Lie derivative of a network, and contributions of layers.

    .. math:: L f(x) = \frac{d}{dt} \rho(-t)\, f(\rho(t)\, x) \Big|_{t=0}
                     = J_f(x)\, A x - A f(x), \qquad A = \rho'(0)

    in forward mode, with rho the rotation by t radians or the translation by t pixels, and A
    their generators (see `generators`). For each sample the root mean square over the elements
    of the output, then the mean over samples: every sample counts the same, however they are
    split into batches. What leaves the picture is lost and zeros come in, so an equivariant
    network too has a value above zero for images that do not vanish near the border.

    A network with kinks has two one-sided derivatives, and they differ at every image where kinks
    lie at x itself: max-pooling over equal values, as of a constant background, is one. Forward
    mode follows an arbitrary one of the equal values. So J_f A x is the mean of the derivatives at
    x + s A x and x - s A x, with s the small ``offset``: that of central differences of moved
    pictures. On a relaxed G-CNN trained on digits the value at x alone (offset 0) was 0.4 % too
    large in double and 0.3 % too small in single precision, and J_f A x itself 7 % off; with the
    offset 0.06 % and 0.15 % in both.

    Let h_i be the Lie derivative of the network as if everything up to block i were equivariant:
    the outputs u_j of the blocks j up to i are replaced by rho_j(t) u_j(x). So h_0 is L f, and
    with n blocks

    .. math:: L f = \sum_{i=1}^{n} (h_{i-1} - h_i) + h_n

    where the terms are the contributions of the blocks, the children of ``model.blocks`` in the
    order in which they run, and of the rest of the network, ``"head"``. Each is reported as its
    RMS per output element, mean over samples; these numbers do not add up, because the terms may
    cancel. How u_j transforms follows from its axes, as in `equivariance_errors`. Maps are
    interpolated between the elements of a group: where they change fast from one to the next, as
    with few rotations, consecutive contributions hold parts that cancel in the sum. Blocks that
    run more than once have no contribution of their own.

    The model is measured in eval mode, without gradients to its parameters; its modes and all
    random states are afterwards what they were. With the contributions a network of n blocks is
    run 2 n + 3 times, mostly without the blocks whose outputs are replaced.

    Args:
        model, batches, output, input: as for `equivariance_errors`.
        transformation: ``"rotation"``, counter-clockwise on the displayed image;
            ``"translation_x"``, along increasing column index; or ``"translation_y"``, along
            increasing row index.
        group: the group of feature maps; by default of each that of the network's layers.
        per_layer: whether to measure the contributions, named ``"blocks.<child>"`` and
            ``"head"``; none for a model without ``blocks``. Blocks that do not run are left out.
        offset: s, in radians or pixels: much more than rounding, so little that few kinks lie
            within it. 0: the derivative at x, in half the time, where a network has no kinks.

    Returns:
        Values in the output's unit per radian or per pixel of the input; `relative` without.

    Raises:
        ValueError: no sample, an unknown option, or an input, output or output of a block that is
            not of the representation's shape, has fewer than 3 x 3 pixels or is not floating-point.

    Reference: N. Gruver, M. Finzi, M. Goldblum, A. G. Wilson, The Lie Derivative for Measuring
    Learned Equivariance, ICLR 2023.
    """
    check_choice("input", input, get_args(Input))
    check_choice("output", output, get_args(Output))
    if group is None:
        group = groups_of(model)
    layers = blocks_of(model) if per_layer else {}
    sizes: dict[str, list[Tensor]] = defaultdict(list)
    with (
        unchanged(model),
        torch.inference_mode(False),
        torch.no_grad(),
        without_jit_warnings(),
        substituted_outputs(model, layers) as network,
    ):
        for batch in batches:
            x = images_of(batch).clone()  # an inference tensor no longer
            action = InfinitesimalAction(transformation, x.shape[-2:], group)
            action.check(input, x, "the input")
            value, parts = terms(network, x, action, input, output, offset)
            size = _rms(sum(parts.values()))
            sizes[_NETWORK].append(size)
            sizes[_RELATIVE].append((size / _rms(value)).masked_fill(size == 0, 0.0))
            for name, part in parts.items():
                sizes[name].append(_rms(part))
    overall = mean_over_samples(sizes.pop(_NETWORK, []))
    means = {name: mean_over_samples(of_samples) for name, of_samples in sizes.items()}
    relative = means.pop(_RELATIVE)
    return LieDerivatives(overall, relative, means if layers else {})


def terms(
    network: Substitution,
    x: Tensor,
    action: InfinitesimalAction,
    input: str,
    output: str,
    offset: float = 0.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """f(x) of a network f, and contributions to L f(x), of its shape, by name of the part of f."""

    def derivative(given: dict[str, Tensor]) -> Tensor:
        """J_f A x with these outputs of layers moved along, as the mean over both sides."""
        moved = {name: action(kind_of(u), u) for name, u in given.items()}
        sides = []
        for s in {offset, -offset}:
            point = {name: u + s * moved[name] for name, u in given.items()}
            sides.append(jvp(network.replace, (x + s * tangent, point), (tangent, moved))[1])
        return sum(sides) / len(sides)

    tangent = action(input, x)
    value, outputs = network.keep(x)  # layers may keep kernels: built here, outside of forward mode
    action.check(output, value, "the output of the network")
    if len(value) != len(x):
        raise ValueError(
            "the first axis of the network's output must be that of the samples; got "
            f"{list(value.shape)} for {len(x)} samples. Return one output per sample."
        )
    given, parts, before = {}, {}, derivative({})
    for name, u in known_fields(outputs).items():
        action.check(kind_of(u), u, f"the output of {name}")
        given[name] = u
        following = derivative(given)
        parts[name], before = before - following, following
    parts[_REST] = before - action(output, value)
    return value, parts


def _rms(x: Tensor) -> Tensor:
    """Root mean square of each sample, [B]."""
    return norms(x) / math.prod(x.shape[1:]) ** 0.5
