"""Outputs of inner layers, kept for later or replaced by given ones."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


class Substitution:
    """A model, some layers of which can be told what to put out; made by `substituted_outputs`."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._given: dict[str, Tensor] = {}
        self._kept: dict[str, Tensor] | None = None

    def keep(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The model's output, and the layers' by name, in the order in which they ran.

        Raises:
            ValueError: if a layer ran more than once.
        """
        self._given, self._kept = {}, {}
        return self.model(x.clone()), self._kept

    def replace(self, x: Tensor, outputs: dict[str, Tensor]) -> Tensor:
        """The model's output where the named layers put out what is given; they do not run."""
        self._given, self._kept = outputs, None
        return self.model(x.clone())

    def wrap(self, name: str, forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """What takes the place of a layer's ``forward``."""

        def keep_or_replace(*args: Any, **kwargs: Any) -> Tensor:
            if name in self._given:
                return self._given[name].clone()  # later modules may write into it
            output = forward(*args, **kwargs)
            if self._kept is not None:
                self._keep(name, output)
            return output

        return keep_or_replace

    def _keep(self, name: str, output: Tensor) -> None:
        if name in self._kept:
            raise ValueError(
                f"a layer must run once in a forward pass, to have one output; {name!r} ran "
                "again. Measure the network without its layers, or give each use its own layer."
            )
        self._kept[name] = output.clone()


@contextmanager
def substituted_outputs(model: nn.Module, layers: dict[str, nn.Module]) -> Iterator[Substitution]:
    """Let layers of a model be told what to put out; on leaving they are as they were.

    Unlike a forward hook that returns another output, this spares the layer's own work.

    Args:
        model: maps a batch to an output.
        layers: its layers by name, all different.
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
