"""Assert that a layer is equivariant to the elements that map the pixel grid to itself."""

import torch
from torch import Tensor

from tests.helpers.slow_layers import elements, inverse, multiply

GATES = {torch.float32: 1e-5, torch.float64: 1e-12}


def exact_elements(name: str) -> list[int]:
    """Elements of c_n or d_n that turn by a multiple of a quarter turn."""
    n = int(name[1:])
    return [g for g, (a, _) in enumerate(elements(name)) if 4 * a % n == 0]


def act(x: Tensor, name: str, g: int, kind: str) -> Tensor:
    """g.f for kind: scalar [B, C, H, W], vector [B, 2 C, H, W], regular [B, C, |G|, H, W].

    And vector+scalar [B, 3 C, H, W].
    """
    a, m = elements(name)[g]
    quarter_turns = 4 * a // int(name[1:])
    if m:
        x = x.flip(-1)
    x = torch.rot90(x, quarter_turns, (-2, -1))
    if kind == "regular":
        x = x[:, :, [multiply(name, inverse(name, g), h) for h in range(len(elements(name)))]]
    if kind.startswith("vector"):
        v0, v1, *scalars = x.unflatten(1, (-1, 2 if kind == "vector" else 3)).unbind(2)
        v0 = -v0 if m else v0
        for _ in range(quarter_turns):
            v0, v1 = v1, -v0
        x = torch.stack([v0, v1, *scalars], 2).flatten(1, 2)
    return x


@torch.no_grad()
def equivariance_error(layer, x: Tensor, name: str, in_type: str, out_type="regular") -> float:
    """Largest ||f(g x) - g f(x)|| / ||f(x)|| over the exact elements."""
    y, largest = layer(x), 0.0
    for g in exact_elements(name):
        distance = layer(act(x, name, g, in_type)) - act(y, name, g, out_type)
        largest = max(largest, (distance.norm() / y.norm()).item())
    return largest


def assert_equivariant(layer, x: Tensor, name: str, in_type: str, out_type="regular") -> None:
    error = equivariance_error(layer, x, name, in_type, out_type)
    assert error < GATES[x.dtype], f"relative equivariance error {error:.3g} for {name}"
