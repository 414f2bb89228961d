"""Numbers of parameters, and the widths of a network's layers that give a number asked for."""

from collections.abc import Callable, Sequence

from torch import nn

from src.checks import check_integer

TOLERANCE = 0.03


def count_parameters(module: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def resolve_widths(
    hidden_channels: int | Sequence[int],
    num_layers: int,
    num_parameters: int | None,
    count: Callable[[list[int]], int],
) -> list[int]:
    """Channels of each hidden layer.

    With ``num_parameters`` the largest scale of ``hidden_channels`` that stays below the target is
    found by bisection; then each run of neighbouring layers is tried one channel wider, and the
    nearest result wins.

    Args:
        hidden_channels: one number for all layers, or one per layer. With ``num_parameters``
            only its proportions count.
        num_layers: number of hidden layers.
        num_parameters: target for the number of trainable parameters, or None.
        count: number of parameters of the network with the given widths.

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
    if num_parameters is None:
        return profile
    check_integer("num_parameters", num_parameters)

    def scaled(factor: float) -> list[int]:
        return [max(1, int(factor * width)) for width in profile]

    low, high = 0.0, 1.0
    while count(scaled(high)) <= num_parameters:
        high *= 2
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if count(scaled(middle)) <= num_parameters else (low, middle)
    base = scaled(low)
    candidates = [base]
    for start in range(len(base)):
        for end in range(start + 1, len(base) + 1):
            candidates.append([w + (start <= i < end) for i, w in enumerate(base)])
    widths = min(candidates, key=lambda candidate: abs(count(candidate) - num_parameters))
    if abs(count(widths) - num_parameters) > TOLERANCE * num_parameters:
        raise ValueError(
            f"`num_parameters` must be met within {TOLERANCE:.0%}; widths {widths} give "
            f"{count(widths)} parameters, not {num_parameters}. Ask for more, or use a smaller "
            "group, kernel, number of layers or number of banks."
        )
    return widths
