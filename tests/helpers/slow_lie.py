"""Lie derivatives from pictures that are really turned and moved: slow and obvious."""

import math

import torch
import torch.nn.functional as F

# A cubic interpolant's second derivative jumps at the pixels, so that a difference quotient is off
# by a term in T; rounding is off by a term in 1 / T. Both are near 1e-7 here.
T = 1e-8


def keys_kernel(distance):
    """Cubic convolution kernel with a = -1/2 (Keys 1981, equation 15 and below)."""
    s = distance.abs()
    near = 1.5 * s**3 - 2.5 * s**2 + 1
    far = -0.5 * s**3 + 2.5 * s**2 - 4 * s + 2
    return torch.where(s <= 1, near, torch.where(s <= 2, far, torch.zeros_like(s)))


def resample(x, rows, columns):
    """Values of pictures [..., H, W] at fractional indices [H, W]; zeros outside."""
    height, width = x.shape[-2:]
    total = torch.zeros_like(x)
    for row_offset in (-1, 0, 1, 2):
        for column_offset in (-1, 0, 1, 2):
            row = rows.floor() + row_offset
            column = columns.floor() + column_offset
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            i, j = row.clamp(0, height - 1).long(), column.clamp(0, width - 1).long()
            weight = keys_kernel(rows - row) * keys_kernel(columns - column) * inside
            total = total + weight * x[..., i, j]
    return total


def turn_vectors(v, t):
    """(v0, v1) along columns and rows -> the same vectors turned counter-clockwise."""
    v0, v1, *scalars = v.unbind(2)
    turned = (math.cos(t) * v0 + math.sin(t) * v1, -math.sin(t) * v0 + math.cos(t) * v1)
    return torch.stack([*turned, *scalars], 2).flatten(1, 2)


def turn_elements(x, t, num_rotations):
    """Shift each run of `num_rotations` group elements by the angle t, term by Fourier term."""
    frequencies = torch.fft.fftfreq(num_rotations, 1 / num_rotations, dtype=x.dtype)
    factors = torch.exp(-1j * frequencies * t)
    if num_rotations % 2 == 0:
        factors[num_rotations // 2].imag.zero_()  # a cosine
    coefficients = torch.fft.fft(x.unflatten(2, (-1, num_rotations)), dim=3)
    return torch.fft.ifft(factors[:, None, None] * coefficients, dim=3).real.flatten(2, 3)


def act(x, t, transformation, kind, grid, num_rotations=None):
    """rho(t) x; ``grid`` is the input's (H, W), whose pixels translations count in."""
    if kind == "invariant":
        return x
    height, width = x.shape[-2:]
    axes = (torch.arange(size, dtype=x.dtype) for size in (height, width))
    row, column = torch.meshgrid(*axes, indexing="ij")
    if transformation == "translation_x":
        return resample(x, row, column - t * width / grid[1])
    if transformation == "translation_y":
        return resample(x, row - t * height / grid[0], column)
    middle = ((height - 1) / 2, (width - 1) / 2)
    y, x_ = row - middle[0], column - middle[1]  # counter-clockwise: values come from clockwise
    source_row, source_column = (
        math.sin(t) * x_ + math.cos(t) * y,
        math.cos(t) * x_ - math.sin(t) * y,
    )
    turned = resample(x, source_row + middle[0], source_column + middle[1])
    if kind.startswith("vector"):
        return turn_vectors(turned.unflatten(1, (-1, 2 if kind == "vector" else 3)), t)
    return turn_elements(turned, t, num_rotations) if kind == "regular" else turned


def slow_derivative(
    network, x, transformation, output="invariant", input="scalar", num_rotations=None, after=()
):
    """[rho(-T) f(rho(T) x) - rho(T) f(rho(-T) x)] / 2 T, one number per output element.

    With ``after``, blocks, as if the network were equivariant up to all of them.
    """
    grid, outputs = x.shape[-2:], {}
    keep = [
        block.register_forward_hook(lambda module, _args, u: outputs.update({module: u.clone()}))
        for block in after
    ]
    network(x)
    for hook in keep:
        hook.remove()

    def both_ways(t):
        def move(module, _args, y):
            kind = "regular" if y.ndim == 5 else "scalar"
            return act(outputs[module], t, transformation, kind, grid, num_rotations)

        hooks = [block.register_forward_hook(move) for block in after]
        y = network(act(x, t, transformation, input, grid))
        for hook in hooks:
            hook.remove()
        return act(y, -t, transformation, output, grid, num_rotations)

    return (both_ways(T) - both_ways(-T)) / (2 * T)


def published_derivative(network, x, transformation):
    """d/dt at 0 of class probabilities of bilinearly resampled pictures, [B, classes].

    As published: a turn clockwise, or a shift by t half-widths; pictures are mirrored at the
    outermost pixels; neighbours are those above and to the left by `floor`, and their successors.
    """

    def mirrored(index, last):
        return (last - (last - index.abs()).abs()).long()

    def moved(t):
        one, zero = torch.ones(()), torch.zeros(())
        theta = {
            "rotation": ((t.cos(), t.sin(), zero), (-t.sin(), t.cos(), zero)),
            "translation_x": ((one, zero, t), (zero, one, zero)),
            "translation_y": ((one, zero, zero), (zero, one, t)),
        }[transformation]
        theta = torch.stack([torch.stack(row) for row in theta])
        sizes = x.shape[-2:]
        grid = F.affine_grid(theta[None], [1, 1, *sizes], align_corners=True)[0]
        row, column = ((grid[..., 1 - i] + 1) / 2 * (sizes[i] - 1) for i in (0, 1))
        top, left = row.detach().floor(), column.detach().floor()
        total = torch.zeros_like(x)
        for i, row_weight in ((top, top + 1 - row), (top + 1, row - top)):
            for j, column_weight in ((left, left + 1 - column), (left + 1, column - left)):
                corner = x[..., mirrored(i, sizes[0] - 1), mirrored(j, sizes[1] - 1)]
                total = total + row_weight * column_weight * corner
        return network(total).softmax(-1)

    return torch.autograd.functional.jacobian(moved, torch.zeros(()))


def mean_rms(values):
    return torch.stack([sample.square().mean().sqrt() for sample in values]).mean().item()
