"""Whether a network fits the data that it is to learn from."""

from collections.abc import Sequence

import torch
from torch import nn

from src.measures.context import unchanged


def check_shapes(net: nn.Module, inputs: Sequence[int], outputs: Sequence[int], keys: str) -> None:
    """Raise unless a network maps zeros of one shape to outputs of another.

    Parameters, statistics of norms and random states stay as they are.

    Args:
        net: the network.
        inputs, outputs: shapes that the data ask for, without the axis of samples.
        keys: config keys to mend, for the message.

    Raises:
        ValueError: names the shapes, and what the network gave or raised.
    """
    size, parameter = 2, next(net.parameters(), torch.empty(0))
    with unchanged(net), torch.no_grad():
        try:
            got = getattr(net(parameter.new_zeros(size, *inputs)), "shape", "no tensor")
            text = f"gave {got if isinstance(got, str) else list(got)}"
        except (RuntimeError, ValueError, TypeError) as error:
            got, text = None, f"failed ({error})"
    if got != (size, *outputs):
        raise ValueError(
            f"the network must map the data's inputs [{size}, {', '.join(map(str, inputs))}] to "
            f"[{size}, {', '.join(map(str, outputs))}]; {type(net).__name__} {text}. Leave out "
            f"{keys}, so that the network follows the data, or change the network."
        )
