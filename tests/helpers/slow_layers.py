"""The obvious way: turn every filter of every bank by grid sampling, then weigh and add.

Written from the definitions alone, without the project's groups or kernel transformations.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def elements(name: str) -> list[tuple[int, int]]:
    """(a, m) for every element of c_n or d_n in order: mirror m times, then turn by 2 pi a/n."""
    n = int(name[1:])
    return [(a, m) for m in range(2 if name[0] == "d" else 1) for a in range(n)]


def multiply(name: str, g: int, h: int) -> int:
    """Index of gh, from R(a) F^m R(b) F^p = R(a + b or a - b) F^(m + p)."""
    n = int(name[1:])
    (a, m), (b, p) = elements(name)[g], elements(name)[h]
    return (a + (-b if m else b)) % n + n * ((m + p) % 2)


def inverse(name: str, g: int) -> int:
    return next(h for h in range(len(elements(name))) if multiply(name, g, h) == 0)


def turn(images: Tensor, name: str, g: int, interpolation: str) -> Tensor:
    """Mirror left-right m times, then turn counter-clockwise, by grid sampling: [..., k, k]."""
    a, m = elements(name)[g]
    if m:
        images = images.flip(-1)
    k = images.shape[-1]
    if k == 1:
        return images
    angle = 2 * math.pi * a / int(name[1:])
    c, s = math.cos(angle), math.sin(angle)
    # where the output pixel (column, row) comes from: turned clockwise on the display
    theta = torch.tensor([[c, -s, 0.0], [s, c, 0.0]], dtype=images.dtype)
    flat = images.reshape(1, -1, k, k)
    grid = F.affine_grid(theta[None], list(flat.shape), align_corners=True)
    turned = F.grid_sample(flat, grid, interpolation, "zeros", align_corners=True)
    return turned.view(images.shape)


def turn_vectors(vectors: Tensor, name: str, g: int) -> Tensor:
    """Turn the first of the components [..., n, k, k] as vectors (along columns, along rows)."""
    a, m = elements(name)[g]
    angle = 2 * math.pi * a / int(name[1:])
    v0, v1, *scalars = vectors.unbind(-3)
    if m:
        v0 = -v0
    c, s = math.cos(angle), math.sin(angle)
    return torch.stack([c * v0 + s * v1, -s * v0 + c * v1, *scalars], -3)


def lifting_kernel(
    weight: Tensor, relaxed_weights: Tensor, name: str, interpolation: str, in_type: str
) -> Tensor:
    """weight [L, O, I', k, k], relaxed_weights [L, |G|] -> [O |G|, I', k, k]."""
    turned = []
    for g in range(len(elements(name))):
        banks = turn(weight, name, g, interpolation)
        if in_type != "scalar":
            fibre = 2 if in_type == "vector" else 3
            banks = turn_vectors(banks.unflatten(2, (-1, fibre)), name, g).flatten(2, 3)
        turned.append(banks)
    bank = torch.stack(turned, 2)  # [L, O, |G|, I', k, k]
    return torch.einsum("lg,logikm->ogikm", relaxed_weights, bank).flatten(0, 1)


def group_kernel(weight: Tensor, relaxed_weights: Tensor, name: str, interpolation: str) -> Tensor:
    """weight [L, O, I, |G|, k, k], relaxed_weights [L, |G|] -> [O |G|, I |G|, k, k]."""
    order, turned = weight.shape[3], []
    for g in range(order):
        shifted = [weight[:, :, :, multiply(name, inverse(name, g), h)] for h in range(order)]
        turned.append(turn(torch.stack(shifted, 3), name, g, interpolation))
    bank = torch.stack(turned, 2)  # [L, O, |G|, I, |G|, k, k]
    kernel = torch.einsum("lg,logihkm->ogihkm", relaxed_weights, bank)
    return kernel.flatten(0, 1).flatten(1, 2)


def readout_kernel(
    weight: Tensor, relaxed_weights: Tensor, name: str, interpolation: str
) -> Tensor:
    """weight [L, O, n, I, k, k], relaxed_weights [L, |G|] -> [n O, I |G|, k, k]."""
    turned = []
    for h in range(len(elements(name))):
        banks = turn(weight, name, h, interpolation)
        turned.append(turn_vectors(banks.transpose(2, 3), name, h).transpose(2, 3))
    bank = torch.stack(turned, 4)  # [L, O, n, I, |G|, k, k]
    kernel = torch.einsum("lh,lovihkm->ovihkm", relaxed_weights, bank)
    return kernel.flatten(0, 1).flatten(1, 2)


def add_kernel_biases(kernel: Tensor, biases: Tensor, order: int, is_readout: bool) -> Tensor:
    """[O |G|, n, k, k] + biases [O, |G|, k, k]; or [2 O, I |G|, k, k] + [O, 2, |G|, k, k]."""
    rows = []
    for o in range(len(biases)):
        for number in range(biases.shape[1]):  # an element; of a readout a component
            own = biases[o, number]
            columns = kernel[len(rows)]
            inputs = range(len(columns))
            added = [columns[n] + (own[n % order] if is_readout else own) for n in inputs]
            rows.append(torch.stack(added))
    return torch.stack(rows)


def steerable_kernel(weight: Tensor, basis: Tensor) -> Tensor:
    """weight [O, I, n, k, k], basis [n, P, Q, k, k] -> [O P, I Q, k, k], field by field."""
    fields = [[sum(w * b for w, b in zip(pair, basis)) for pair in row] for row in weight]
    return torch.cat([torch.cat(row, 1) for row in fields], 0)


def translation_forward(
    x: Tensor, weight: Tensor, maps: Tensor, bias: Tensor, padding: int
) -> Tensor:
    """The mixed kernel of each position, on the patch around it: [B, I, H, W] -> [B, O, H', W']."""
    k = weight.shape[-1]
    padded = F.pad(x, [padding] * 4)
    y = x.new_empty(len(x), weight.shape[1], *maps.shape[1:])
    for row in range(maps.shape[1]):
        for column in range(maps.shape[2]):
            kernel = sum(w * bank for w, bank in zip(maps[:, row, column], weight))
            patch = padded[:, None, :, row : row + k, column : column + k]
            y[:, :, row, column] = (kernel * patch).sum((2, 3, 4)) + bias
    return y


def convolve(x: Tensor, kernel: Tensor, bias: Tensor | None, stride: int, order: int) -> Tensor:
    """One group element and output channel at a time: [B, C, H, W] -> [B, O, |G|, H', W']."""
    maps = [F.conv2d(x, row[None], None, stride, kernel.shape[-1] // 2) for row in kernel]
    y = torch.cat(maps, 1).unflatten(1, (-1, order))
    return y if bias is None else y + bias[:, None, None, None]
