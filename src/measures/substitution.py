"""Outputs of a model's blocks: kept, or replaced by given ones."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


def blocks_of(model: nn.Module) -> dict[str, nn.Module]:
    """The children of ``model.blocks`` as ``"blocks.<child>"``; empty for a model without."""
    blocks = getattr(model, "blocks", None)
    if not isinstance(blocks, nn.Module):
        return {}
    return {f"blocks.{n}": m for n, m in blocks.named_children()}


class Substitution:
    """A model whose layers' outputs can be kept or replaced; made by `substituted_outputs`."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._given: dict[str, Tensor] = {}
        self._kept: dict[str, list[Tensor]] | None = None

    def keep(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The model's output, and by name the tensors of layers that ran once, in their order."""
        self._given, self._kept = {}, defaultdict(list)
        y, kept = self.model(x.clone()), self._kept
        return y, {name: outputs[0] for name, outputs in kept.items() if len(outputs) == 1}

    def replace(self, x: Tensor, outputs: dict[str, Tensor]) -> Tensor:
        """The model's output if the named layers put out the given tensors; they do not run."""
        self._given, self._kept = outputs, None
        return self.model(x.clone())

    def wrap(self, name: str, forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """The function that takes the place of a layer's ``forward``."""

        def keep_or_replace(*args: Any, **kwargs: Any) -> Tensor:
            if name in self._given:
                return self._given[name].clone()  # later modules may write into it
            output = forward(*args, **kwargs)
            if self._kept is not None and isinstance(output, Tensor):
                self._kept[name].append(output.clone())
            return output

        return keep_or_replace


@contextmanager
def substituted_outputs(model: nn.Module, layers: dict[str, nn.Module]) -> Iterator[Substitution]:
    """Keep or replace the outputs of layers of a model; on leaving they are as they were.

    Unlike a forward hook that returns another output, this spares the layer's own work.
    """
    substitution = Substitution(model)
    own = {name: vars(layer).get("forward") for name, layer in layers.items()}
    try:
        for name, layer in layers.items():
            layer.forward = substitution.wrap(name, layer.forward)
        yield substitution
    finally:
        for name, layer in layers.items():
            vars(layer).pop("forward", None)
            if own[name] is not None:
                layer.forward = own[name]
