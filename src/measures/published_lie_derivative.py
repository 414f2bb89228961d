"""The Lie derivative as published code computes it, for comparison with numbers of papers."""

from collections.abc import Iterable
from typing import get_args

import torch
from torch import Tensor, nn
from torch.func import jvp

from src.checks import check_choice
from src.measures.actions import Batch, images_of
from src.measures.context import unchanged, without_jit_warnings
from src.measures.distances import mean_over_samples
from src.measures.generators import Transformation


def published_lie_derivative(
    model: nn.Module, batches: Iterable[Batch], transformation: Transformation = "rotation"
) -> float:
    r"""Lie derivative of a classifier as the code published with the paper computes it.

    .. math:: \frac{1}{N C} \sum_{n, c} \Big| \frac{d}{dt}
              \mathrm{softmax}(f(\rho(t)\, x_n))_c \Big|_{t=0} \Big|

    for N samples and C classes: probabilities in place of logits, means of absolute values in
    place of root mean squares, one-sided differences between pixels in place of central ones (see
    `published_motion`), and, for translations, half the picture's length as the unit. It compares
    with numbers of papers that used that code, and with nothing else here.

    Args:
        model: maps a batch [B, C, H, W] to logits [B, classes].
        batches, transformation: as for `lie_derivatives`.

    Reference: N. Gruver, M. Finzi, M. Goldblum, A. G. Wilson, The Lie Derivative for Measuring
    Learned Equivariance, ICLR 2023, with the code ngruver/lie-deriv.
    """
    check_choice("transformation", transformation, get_args(Transformation))
    sizes = []
    with unchanged(model), torch.inference_mode(False), torch.no_grad(), without_jit_warnings():
        for batch in batches:
            x = images_of(batch).clone()  # an inference tensor no longer
            model(x[:1])  # layers may keep kernels: built here, outside of forward mode
            motion = published_motion(x, transformation)
            _, derivative = jvp(lambda x: model(x).softmax(-1), (x,), (motion,))
            sizes.append(derivative.abs().mean(-1))
    return mean_over_samples(sizes)


def published_motion(x: Tensor, transformation: Transformation) -> Tensor:
    """How pictures [..., H, W] begin to move in the code of Gruver et al. (2023), see there.

    They turn clockwise about their centre, or move against the axis by half their length per unit.
    Their bilinear interpolation has no derivative at the pixels: automatic differentiation takes
    the difference to the next pixel, or, where rounding puts a pixel's coordinate below it, from
    the one before. Outside, pictures go on mirrored at the outermost pixels.
    """

    def derivative(axis: int) -> tuple[Tensor, Tensor]:
        last = x.shape[axis] - 1
        position = torch.linspace(-1, 1, last + 1, device=x.device)  # single precision, as there
        before = ((position + 1) / 2 * last).floor().long()
        before, after = (last - (last - i.abs()).abs() for i in (before, before + 1))
        difference = x.index_select(axis, after) - x.index_select(axis, before)
        return position.to(x), difference * last / 2

    (rows, along_rows), (columns, along_columns) = derivative(-2), derivative(-1)
    if transformation == "rotation":
        return rows[:, None] * along_columns - columns * along_rows
    return along_columns if transformation == "translation_x" else along_rows
