"""Widths of a network's layers, given outright or by a target number of parameters."""

from collections.abc import Callable, Sequence

from src.checks import check_integer

TOLERANCE = 0.03


def resolve_widths(
    hidden_channels: int | Sequence[int],
    num_layers: int,
    num_parameters: int | None,
    count: Callable[[list[int]], int],
) -> list[int]:
    """Channels of each layer.

    Args:
        hidden_channels: one number for all layers, or one per layer. With ``num_parameters``
            only its proportions count.
        num_layers: number of convolutions, at least two.
        num_parameters: target for the number of trainable parameters, or None.
        count: number of parameters of the network with the given widths.

    Returns:
        ``num_layers`` integers.

    Raises:
        ValueError: fewer than two layers, a width below one, a list of the wrong length, or a
            target that no widths meet within 3 %.
    """
    check_integer("num_layers", num_layers, minimum=2)
    widths = _as_list(hidden_channels, num_layers)
    if num_parameters is None:
        return widths
    check_integer("num_parameters", num_parameters)
    return match_parameters(count, widths, num_parameters)


def match_parameters(
    count: Callable[[list[int]], int], profile: Sequence[int], target: int
) -> list[int]:
    """Scale ``profile`` until ``count(widths)`` is as near to ``target`` as it gets.

    The largest scale that stays below the target is found by bisection; then each run of
    neighbouring layers is tried one channel wider, and the nearest result wins.

    Raises:
        ValueError: if the nearest is more than 3 % off.
    """
    base = _largest_below(count, profile, target)
    candidates = [base]
    for start in range(len(base)):
        for end in range(start + 1, len(base) + 1):
            candidates.append([w + (start <= i < end) for i, w in enumerate(base)])
    widths = min(candidates, key=lambda candidate: abs(count(candidate) - target))
    if abs(count(widths) - target) > TOLERANCE * target:
        raise ValueError(
            f"`num_parameters` must be met within {TOLERANCE:.0%}; widths {widths} give "
            f"{count(widths)} parameters, not {target}. Ask for more, or use a smaller group, "
            "kernel, number of layers or number of banks."
        )
    return widths


def _largest_below(
    count: Callable[[list[int]], int], profile: Sequence[int], target: int
) -> list[int]:
    def scaled(factor: float) -> list[int]:
        return [max(1, int(factor * width)) for width in profile]

    low, high = 0.0, 1.0
    while count(scaled(high)) <= target:
        high *= 2
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if count(scaled(middle)) <= target else (low, middle)
    return scaled(low)


def _as_list(hidden_channels: int | Sequence[int], num_layers: int) -> list[int]:
    if isinstance(hidden_channels, int):
        check_integer("hidden_channels", hidden_channels)
        return [hidden_channels] * num_layers
    widths = list(hidden_channels)
    if len(widths) != num_layers:
        raise ValueError(
            "`hidden_channels` must be one number or one per layer; "
            f"got {len(widths)} for {num_layers} layers. Give {num_layers}, or change `num_layers`."
        )
    for width in widths:
        check_integer("hidden_channels", width)
    return widths
