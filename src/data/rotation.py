"""Rotation of whole batches of images."""

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor


def rotate_images(images: Tensor, angles: Tensor) -> Tensor:
    """Rotate each image of a batch about its centre, counter-clockwise as displayed.

    Computes out[b](p) = images[b](R(-angles[b]) p) by bilinear interpolation, with zeros outside
    the image. Positions p are counted in pixels from the centre, with rows growing downwards, so
    that an angle of pi/2 agrees with ``torch.rot90(images, 1, (-2, -1))`` up to rounding. The
    result has the shape of the input: corners turn out of a square image.

    Takes images ``[B, C, H, W]`` and one angle per image ``[B]``, in radians. Half precision is
    rotated in float32; the result has the dtype of ``images``.
    """
    work = images if images.dtype in (torch.float32, torch.float64) else images.float()
    height, width = work.shape[-2:]
    longer = max(height, width)
    columns = _centred_positions(width, work) * (2 / longer)
    rows = _centred_positions(height, work)[:, None] * (2 / longer)
    # With z = column + i row the source of pixel z is exp(i angle) z: rows grow downwards, so the
    # counter-clockwise rotation multiplies by exp(-i angle), and its inverse is read here. One
    # complex product per pixel is several times faster than `affine_grid`.
    pixels = torch.complex(columns.expand(height, width), rows.expand(height, width))
    angles = angles.to(work.dtype)
    turns = torch.polar(torch.ones_like(angles), angles)
    grid = torch.view_as_real(pixels * turns[:, None, None])
    if height != width:
        grid = grid * grid.new_tensor([longer / width, longer / height])
    rotated = F.grid_sample(work, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return rotated.to(images.dtype)


def uniform_angles(
    count: int, generator: Generator | None = None, max_angle: float = 180
) -> Tensor:
    """Draw ``count`` angles, uniform in +-``max_angle`` degrees, in radians, float32 on the CPU.

    Equal random numbers give the same fractions of every ``max_angle``. Those of 180, all the
    circle, are given in [0, 2 pi).
    """
    angles = torch.rand(count, generator=generator) * (2 * math.pi)
    if max_angle == 180:
        return angles
    return torch.where(angles < math.pi, angles, angles - 2 * math.pi) * (max_angle / 180)


def turn_vectors(fields: Tensor, angles: Tensor) -> Tensor:
    """Turn the vectors of fields ``[B, 2 C, H, W]``, ordered (i, component), where they stand.

    Component 0 points along increasing column index, component 1 along increasing row index;
    angles ``[B]``, in radians, are counter-clockwise as displayed.
    """
    angles = angles.to(fields.dtype)[:, None, None, None]
    cos, sin = angles.cos(), angles.sin()
    along_columns, along_rows = fields[:, ::2], fields[:, 1::2]
    turned = (cos * along_columns + sin * along_rows, cos * along_rows - sin * along_columns)
    return torch.stack(turned, 2).flatten(1, 2)


def _centred_positions(size: int, like: Tensor) -> Tensor:
    return torch.arange(size, dtype=like.dtype, device=like.device) - (size - 1) / 2
