"""How fast a network, and each of its layers, leaves equivariance under continuous motions."""

import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.func import jvp

from src.checks import check_choice
from src.measures.actions import Batch, Input, Output, images_of, kind_of
from src.measures.context import as_written, evaluation_mode, preserved_rng
from src.measures.generators import InfinitesimalAction, Transformation
from src.measures.recording import blocks_of
from src.measures.substitution import Substitution, substituted_outputs
from src.models.components.gcnn.groups import Group

_REST = "head"  # the name of all that does not lie in a block
_NETWORK, _RELATIVE, _FLOOR = "overall", "relative", "floor"  # layers start with "blocks."


class LieDerivatives(NamedTuple):
    """Lie derivatives of a network (`overall`, `relative`) and of its parts (`per_layer`).

    Attributes:
        overall: RMS per output element, mean over samples.
        relative: the same divided by the RMS of the output, mean over samples.
        per_layer: what each block and the rest of the network contribute, by name.
        floor: the value for the identity network on the same inputs. Its two terms are one and
            the same operator, so it is 0 up to rounding; anything more would say that inputs and
            outputs are not moved alike.
    """

    overall: float
    relative: float
    per_layer: dict[str, float]
    floor: float


def lie_derivative(
    model: nn.Module,
    batches: Iterable[Batch],
    transformation: Transformation = "rotation",
    *,
    output: Output = "invariant",
    input: Input = "scalar",
    group: str | Group | None = None,
) -> float:
    r"""RMS per output element of the Lie derivative of a network.

    .. math:: L f(x) = \frac{d}{dt} \rho(-t)\, f(\rho(t)\, x) \Big|_{t=0}
                     = J_f(x)\, A x - A f(x), \qquad A = \rho'(0)

    in forward mode, with rho the rotation by t radians or the translation by t pixels, and A
    their generators (see `generators`). For each sample the root mean square over the elements
    of the output, then the mean over samples: every sample counts the same, however they are
    split into batches. What leaves the picture is lost and zeros come in, so an equivariant
    network too has a value above zero for images that do not vanish near the border.

    The model is measured in eval mode, without gradients to its parameters; its modes and all
    random states are afterwards what they were.

    Args:
        model: maps a batch [B, C, H, W] to outputs whose first axis is the batch.
        batches: tensors, or tuples (images, label, ...), on the model's device; at least one.
        transformation: ``"rotation"``, counter-clockwise on the displayed image;
            ``"translation_x"``, along increasing column index; or ``"translation_y"``, along
            increasing row index.
        output: how outputs transform: ``"invariant"`` (not at all: logits), ``"scalar"``
            (fields [B, C, H, W]), ``"vector"`` (fields [B, 2C, H, W], components turn too) or
            ``"regular"`` (group feature maps [B, C, |G|, H, W], whose group axis turns too).
        input: how inputs transform, ``"scalar"`` or ``"vector"``.
        group: the group of feature maps; by default that of the network's layers.

    Returns:
        The value, in the output's unit per radian or per pixel of the input.

    Raises:
        ValueError: no sample, an unknown option, or an input or output that is not of the
            representation's shape, has fewer than 3 x 3 pixels or is not floating-point.

    Reference: N. Gruver, M. Finzi, M. Goldblum, A. G. Wilson, The Lie Derivative for Measuring
    Learned Equivariance, ICLR 2023.
    """
    options = _Options(transformation, input, output, group)
    return _measure(model, batches, options, layers={}).overall


def lie_derivatives(
    model: nn.Module,
    batches: Iterable[Batch],
    transformation: Transformation = "rotation",
    *,
    output: Output = "invariant",
    input: Input = "scalar",
    group: str | Group | None = None,
    per_layer: bool = True,
) -> LieDerivatives:
    r"""`lie_derivative`, relative to the output too, and what each layer contributes to it.

    Let h_i be the Lie derivative of the network as if everything up to block i were equivariant:
    the outputs u_j of the blocks j up to i are replaced by rho_j(t) u_j(x). So h_0 is L f, and
    with n blocks

    .. math:: L f = \sum_{i=1}^{n} (h_{i-1} - h_i) + h_n

    where the terms are the contributions of the blocks, the children of ``model.blocks`` in the
    order in which they run, and of the rest of the network, ``"head"``. Each is reported as its
    RMS per output element, mean over samples; these numbers do not add up, because the terms may
    cancel. How u_j transforms follows from its axes: five, a group feature map; four, scalar
    fields (also five with a single group element); two, invariants. Maps are interpolated
    between the elements of a group: where they change fast from one to the next, as with few
    rotations, consecutive contributions hold parts that cancel in the sum.

    The contributions are named ``"blocks.<child>"`` and ``"head"``; a model without ``blocks`` has
    none, and a block that does not run is left out. With them a network of n blocks is run n + 1
    times, each time without the blocks whose outputs are replaced.

    Args:
        per_layer: whether to measure the contributions. The others are `lie_derivative`'s.

    Raises:
        ValueError: as `lie_derivative`; also if a block runs more than once in a forward pass, or
            its output does not transform in one of these ways.
    """
    options = _Options(transformation, input, output, group)
    return _measure(model, batches, options, blocks_of(model) if per_layer else {})


@contextmanager
def _forward_mode() -> Iterator[None]:
    """Derivatives forward only, also inside inference mode; torch's own warning left out."""
    with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
        # raised where torch registers its forward-mode formulas, at the first use in a process
        warnings.filterwarnings("ignore", r"`torch\.jit\.script` is deprecated", FutureWarning)
        yield


class _Options(NamedTuple):
    transformation: str
    input: str
    output: str
    group: str | Group | None

    def check(self) -> None:
        check_choice("transformation", self.transformation, get_args(Transformation))
        check_choice("input", self.input, get_args(Input))
        check_choice("output", self.output, get_args(Output))


def _measure(
    model: nn.Module, batches: Iterable[Batch], options: _Options, layers: dict[str, nn.Module]
) -> LieDerivatives:
    """Means over all samples of what `_of_batch` gives for each batch."""
    options.check()
    group = _group_of(model) if options.group is None else options.group
    sizes: dict[str, list[Tensor]] = defaultdict(list)
    with (
        evaluation_mode(model),
        as_written(model),
        preserved_rng(),
        _forward_mode(),
        substituted_outputs(model, layers) as network,
    ):
        for batch in batches:
            images = images_of(batch).clone()  # an inference tensor no longer
            action = InfinitesimalAction(options.transformation, images.shape[-2:], group)
            action.check(options.input, images, "the input")
            for name, of_batch in _of_batch(network, images, action, options).items():
                sizes[name].append(of_batch)
    if not any(len(of_batch) for of_batch in sizes[_NETWORK]):
        raise ValueError(
            "the Lie derivative needs at least one sample; got none. Pass a list of batches."
        )
    means = {name: torch.cat(parts).cpu().double().mean().item() for name, parts in sizes.items()}
    overall, relative, floor = (means.pop(name) for name in (_NETWORK, _RELATIVE, _FLOOR))
    return LieDerivatives(overall, relative, means if layers else {}, floor)


def _of_batch(
    network: Substitution, images: Tensor, action: InfinitesimalAction, options: _Options
) -> dict[str, Tensor]:
    """For each sample the sizes that `LieDerivatives` holds the means of, [B] each, by name."""
    value, parts = terms(network, images, action, options.input, options.output)
    size = _rms(sum(parts.values()))
    return {
        _NETWORK: size,
        _RELATIVE: (size / _rms(value)).masked_fill(size == 0, 0.0),
        _FLOOR: _rms(_of_identity(images, action, options.input)),
        **{name: _rms(part) for name, part in parts.items()},
    }


def terms(
    network: Substitution, x: Tensor, action: InfinitesimalAction, input: str, output: str
) -> tuple[Tensor, dict[str, Tensor]]:
    """f(x), and what the parts of a network add to L f(x), by name: see `lie_derivatives`.

    Args:
        network: f.
        x: [B, C, H, W].
        action: the infinitesimal transformation.
        input: how x transforms.
        output: how f(x) transforms.

    Returns:
        f(x); the contributions, each of its shape, of the blocks and of the rest of f.
    """

    def run(x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        y, outputs = network.keep(x)
        action.check(output, y, "the output of the network")
        _check_batch(y, x)
        return y, outputs

    def run_given(x: Tensor, outputs: dict[str, Tensor]) -> Tensor:
        return network.replace(x, outputs)

    network.keep(x[:1])  # layers may keep kernels: built here, outside of forward mode
    tangent = action(input, x)
    value, derivative, outputs = jvp(run, (x,), (tangent,), has_aux=True)
    parts, moved = {}, {}
    for name, u in outputs.items():
        kind = kind_of(u)
        action.check(kind, u, f"the output of {name}")
        moved[name] = action(kind, u)
        given = {name: outputs[name] for name in moved}
        _, following = jvp(run_given, (x, given), (tangent, moved))
        parts[name] = derivative - following
        derivative = following
    parts[_REST] = derivative - action(output, value)
    return value, parts


def _of_identity(x: Tensor, action: InfinitesimalAction, kind: str) -> Tensor:
    """The Lie derivative of the identity network."""
    y, derivative = jvp(torch.clone, (x,), (action(kind, x),))
    return derivative - action(kind, y)


def _rms(x: Tensor) -> Tensor:
    """Root mean square of each sample, [B], in single precision at least."""
    elements = x.unsqueeze(-1).flatten(1)
    dtype = torch.promote_types(x.dtype, torch.float32)
    return torch.linalg.vector_norm(elements, dim=1, dtype=dtype) / elements.shape[1] ** 0.5


def _group_of(model: nn.Module) -> Group | None:
    """The group of the first layer that has one."""
    groups = (getattr(module, "group", None) for module in model.modules())
    return next((group for group in groups if isinstance(group, Group)), None)


def _check_batch(y: Tensor, x: Tensor) -> None:
    if len(y) != len(x):
        raise ValueError(
            "the first axis of the network's output must be that of the samples; got "
            f"{list(y.shape)} for {len(x)} samples. Return one output per sample."
        )
