"""Numbers of parameters, and the widths of a network's layers that give a number asked for."""

from collections.abc import Callable, Sequence
from itertools import product

import torch
from torch import nn

from src.checks import check_integer

TOLERANCE = 0.03


def count_parameters(module: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def conv_counter(make_conv: Callable[[int, int], nn.Module]) -> Callable[[int, int], int]:
    """(i, o) -> parameters of a layer of i input and o output channels, without building it.

    They must be a i o + b i + c o + d; the layers with i, o = 1, 2 tell a, b, c and d. The random
    state stays.
    """
    with torch.random.fork_rng(devices=[]):
        at = {(i, o): count_parameters(make_conv(i, o)) for i, o in product((1, 2), (1, 2))}
    per_input, per_output = at[2, 1] - at[1, 1], at[1, 2] - at[1, 1]
    per_pair = at[2, 2] - at[2, 1] - per_output

    def count(i: int, o: int) -> int:
        i, o = i - 1, o - 1
        return at[1, 1] + per_input * i + per_output * o + per_pair * i * o

    return count


def resolve_widths(
    hidden_channels: int | Sequence[int],
    num_layers: int,
    target: int | None,
    count: Callable[[list[int]], int],
    name: str = "num_parameters",
) -> list[int]:
    """Channels of each hidden layer.

    With a target the largest scale of ``hidden_channels`` that stays below it is found by
    bisection; then each run of neighbouring layers is tried one channel wider, and the nearest
    result wins.

    Args:
        hidden_channels: one number for all layers, or one per layer. With a target only its
            proportions count.
        num_layers: number of hidden layers.
        target: number to reach, or None.
        count: that number of the network with the given widths; it grows with each of them.
        name: what is counted, ``num_parameters`` or ``num_macs``, for messages.

    Raises:
        ValueError: a width below one, a list of the wrong length, or a target that no widths meet
            within 3 %.
    """
    is_one = isinstance(hidden_channels, int)
    profile = [hidden_channels] * num_layers if is_one else list(hidden_channels)
    if len(profile) != num_layers:
        raise ValueError(
            "`hidden_channels` must be one number or one per hidden layer; got "
            f"{len(profile)} for {num_layers}. Give {num_layers}, or change `num_layers`."
        )
    for width in profile:
        check_integer("hidden_channels", width)
    if target is None:
        return profile
    check_integer(name, target)

    def scaled(factor: float) -> list[int]:
        return [max(1, int(factor * width)) for width in profile]

    low, high = 0.0, 1.0
    while count(scaled(high)) <= target:
        high *= 2
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if count(scaled(middle)) <= target else (low, middle)
    base = scaled(low)
    candidates = [base]
    for start in range(len(base)):
        for end in range(start + 1, len(base) + 1):
            candidates.append([w + (start <= i < end) for i, w in enumerate(base)])
    widths = min(candidates, key=lambda candidate: abs(count(candidate) - target))
    if abs(count(widths) - target) > TOLERANCE * target:
        raise ValueError(
            f"`{name}` must be met within {TOLERANCE:.0%}; widths {widths} give {count(widths)}, "
            f"not {target}. Ask for more, or use a smaller group, kernel, number of layers or "
            "number of banks."
        )
    return widths


def with_num_parameters(make: Callable[..., nn.Module], num_parameters: int) -> nn.Module:
    """Build a network at the width that gives it a number of parameters, within 3 %.

    For networks of any shape: each width that is tried is built, without a trace in the random
    state, and its parameters are counted; a dozen are tried. (`resolve_widths` builds none, but
    asks for a chain of layers.)

    Args:
        make: makes a network, given the factor ``width`` on all its channels (a float, above 0;
            the network rounds, such as ``max(1, round(16 * width))``). A larger factor must not
            give fewer parameters.
        num_parameters: target for the number of trainable parameters.

    Raises:
        ValueError: if no width meets the target within 3 %.
    """
    check_integer("num_parameters", num_parameters)
    counts: dict[float, int] = {}

    def count(width: float) -> int:
        with torch.random.fork_rng(devices=[]):
            counts[width] = count_parameters(make(width=width))
        return counts[width]

    low = high = 1.0
    while count(high) < num_parameters and high < 2**20:
        low, high = high, 2 * high
    while count(low) > num_parameters and low > 2**-20:
        low, high = low / 2, low
    while high / low > 1.001 and num_parameters not in counts.values():
        middle = (low * high) ** 0.5
        low, high = (middle, high) if count(middle) < num_parameters else (low, middle)
    best = min(counts, key=lambda width: abs(counts[width] - num_parameters))
    if abs(counts[best] - num_parameters) > TOLERANCE * num_parameters:
        below, above = sorted((counts[low], counts[high]))
        raise ValueError(
            f"`num_parameters` must be met within {TOLERANCE:.0%} by some width; got "
            f"{num_parameters}, between {below} and {above} of neighbouring widths. Use one of "
            "these, a larger number, or more channels at width 1."
        )
    return make(width=best)
