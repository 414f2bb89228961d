"""Lie derivatives from pictures that are really turned and moved: slow and obvious."""

import math

import torch

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


def turn_picture(x, t):
    """Counter-clockwise on the displayed picture: take the value from clockwise of it."""
    height, width = x.shape[-2:]
    row, column = torch.meshgrid(
        torch.arange(height, dtype=x.dtype) - (height - 1) / 2,
        torch.arange(width, dtype=x.dtype) - (width - 1) / 2,
        indexing="ij",
    )
    source_column = math.cos(t) * column - math.sin(t) * row
    source_row = math.sin(t) * column + math.cos(t) * row
    return resample(x, source_row + (height - 1) / 2, source_column + (width - 1) / 2)


def move_picture(x, rows, columns):
    height, width = x.shape[-2:]
    row, column = torch.meshgrid(
        torch.arange(height, dtype=x.dtype), torch.arange(width, dtype=x.dtype), indexing="ij"
    )
    return resample(x, row - rows, column - columns)


def turn_vectors(v, t):
    """(v0, v1) along columns and rows -> the same vectors turned counter-clockwise."""
    out = torch.empty_like(v)
    out[:, 0::2] = math.cos(t) * v[:, 0::2] + math.sin(t) * v[:, 1::2]
    out[:, 1::2] = -math.sin(t) * v[:, 0::2] + math.cos(t) * v[:, 1::2]
    return out


def turn_elements(x, t, num_rotations):
    """Shift each run of `num_rotations` group elements by the angle t, term by Fourier term."""
    parts = []
    for part in x.split(num_rotations, dim=2):
        coefficients = torch.fft.fft(part, dim=2)
        shifted = torch.zeros_like(coefficients)
        for index in range(num_rotations):
            frequency = index if index <= num_rotations // 2 else index - num_rotations
            factor = torch.exp(torch.tensor(-1j * frequency * t))
            if 2 * frequency == num_rotations:
                factor = factor.real  # a cosine
            shifted[:, :, index] = factor * coefficients[:, :, index]
        parts.append(torch.fft.ifft(shifted, dim=2).real)
    return torch.cat(parts, 2)


def act(x, t, transformation, kind, grid, num_rotations=None):
    """rho(t) x; ``grid`` is the input's (H, W), whose pixels translations count in."""
    if kind == "invariant":
        return x
    if transformation == "translation_x":
        return move_picture(x, 0, t * x.shape[-1] / grid[1])
    if transformation == "translation_y":
        return move_picture(x, t * x.shape[-2] / grid[0], 0)
    turned = turn_picture(x, t)
    if kind == "vector":
        return turn_vectors(turned, t)
    return turn_elements(turned, t, num_rotations) if kind == "regular" else turned


def slow_derivative(
    function, x, transformation, output="invariant", input="scalar", num_rotations=None
):
    """[rho(-T) f(rho(T) x) - rho(T) f(rho(-T) x)] / 2 T, one number per output element."""
    grid = x.shape[-2:]

    def both_ways(t):
        y = function(act(x, t, transformation, input, grid))
        return act(y, -t, transformation, output, grid, num_rotations)

    return (both_ways(T) - both_ways(-T)) / (2 * T)


def slow_derivative_after(
    network, last, x, transformation, output="invariant", input="scalar", num_rotations=None
):
    """The same, as if the blocks of a network up to number ``last`` were equivariant."""
    grid = x.shape[-2:]
    outputs = []
    handles = [
        block.register_forward_hook(lambda _module, _args, y: outputs.append(y.clone()))
        for block in network.blocks
    ]
    network(x)
    for handle in handles:
        handle.remove()
    u = outputs[last]
    kind = "regular" if u.ndim == 5 else "scalar"

    def both_ways(t):
        moved = act(u, t, transformation, kind, grid, num_rotations)
        handle = network.blocks[last].register_forward_hook(lambda *_: moved)
        y = network(act(x, t, transformation, input, grid))
        handle.remove()
        return act(y, -t, transformation, output, grid, num_rotations)

    return (both_ways(T) - both_ways(-T)) / (2 * T)


def mean_rms(values):
    return torch.stack([sample.square().mean().sqrt() for sample in values]).mean().item()
