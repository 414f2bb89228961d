"""Outputs of inner layers, taken by forward hooks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn


def blocks_of(model: nn.Module) -> dict[str, nn.Module]:
    """The children of ``model.blocks`` as ``"blocks.<child>"``; empty for a model without."""
    blocks = getattr(model, "blocks", None)
    return {} if blocks is None else {f"blocks.{n}": m for n, m in blocks.named_children()}


class Recorder:
    """Outputs of the hooked modules in the latest forward pass."""

    def __init__(self) -> None:
        self._outputs: dict[str, tuple[Tensor, int]] = {}

    def hook(self, name: str) -> Callable[..., None]:
        """A forward hook that keeps the module's output under ``name``."""

        def record(_module: nn.Module, _args: tuple, output: Tensor) -> None:
            self._outputs[name] = (output, output._version)

        return record

    def take(self) -> dict[str, Tensor]:
        """Outputs recorded since the last call, by name.

        Raises:
            ValueError: if a later module wrote into one of them.
        """
        outputs, self._outputs = self._outputs, {}
        for name, (output, version) in outputs.items():
            if output._version != version:
                raise ValueError(
                    f"the output of {name!r} must still be there after the forward pass; a later "
                    "module overwrote it in place. Use `inplace=False` there."
                )
        return {name: output for name, (output, _) in outputs.items()}


@contextmanager
def recorded_outputs(modules: dict[str, nn.Module]) -> Iterator[Recorder]:
    """Record what the modules put out; the hooks are removed on leaving, also after an error."""
    recorder = Recorder()
    handles = []
    try:
        for name, module in modules.items():
            handles.append(module.register_forward_hook(recorder.hook(name)))
        yield recorder
    finally:
        for handle in handles:
            handle.remove()
