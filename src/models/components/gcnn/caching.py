"""Expanded kernels that are built once and used often, and never after a parameter changed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import debug_unwrap


class KernelCache:
    """The expanded kernel of one layer, with what it was built from.

    A kept kernel is handed out again only while

    - it may be kept at all: no gradient flows to the parameters, or `kernels_built_once` says
      that one forward pass is under way, and no compiler or exporter is tracing;
    - the layer's parameters are the same objects (`torch.func.functional_call` swaps them), with
      the same values as when it was built, which are compared one by one: version counters miss
      edits through ``.data``;
    - autocast is as it was.

    Copies and pickles of a layer start with an empty cache.
    """

    def __init__(self) -> None:
        self.once = False  # inside `kernels_built_once`
        self.clear()

    def clear(self) -> None:
        """Forget the kernel."""
        self._kernel: Tensor | None = None
        self._parameters: tuple[Tensor, ...] = ()
        self._values: tuple[Tensor, ...] = ()
        self._mode: tuple = ()

    def get(self, parameters: tuple[Tensor, ...], build: Callable[[], Tensor]) -> Tensor:
        """The kernel of these parameters: the kept one, or a new one.

        Args:
            parameters: what ``build`` makes the kernel from.
            build: returns the kernel.
        """
        if torch.compiler.is_compiling():
            return build()
        if not self._may_keep(parameters):
            self.clear()
            return build()
        if not self._is_current(parameters):
            kernel = build()
            if debug_unwrap(kernel) is not kernel:  # of a transform of torch.func, and ends with it
                return kernel
            self._keep(parameters, kernel)
        return self._kernel

    def _may_keep(self, parameters: tuple[Tensor, ...]) -> bool:
        if not all(type(p) is nn.Parameter for p in parameters):
            return False
        differentiable = torch.is_grad_enabled() and any(p.requires_grad for p in parameters)
        return self.once or not differentiable

    def _is_current(self, parameters: tuple[Tensor, ...]) -> bool:
        if self._kernel is None or self._mode != _mode(parameters[0]):
            return False
        same = all(a is b for a, b in zip(parameters, self._parameters))
        return same and all(map(torch.equal, parameters, self._values))

    def _keep(self, parameters: tuple[Tensor, ...], kernel: Tensor) -> None:
        self._kernel, self._parameters, self._mode = kernel, parameters, _mode(parameters[0])
        self._values = tuple(p.detach().clone() for p in parameters)
        if kernel.requires_grad:  # a graph serves one backward pass
            kernel.register_hook(self._clear_after_backward)

    def _clear_after_backward(self, grad: Tensor) -> None:
        self.clear()

    def __deepcopy__(self, memo: dict) -> "KernelCache":
        return KernelCache()

    def __reduce__(self) -> tuple:
        return KernelCache, ()


@contextmanager
def kernels_built_once(network: nn.Module) -> Iterator[None]:
    """Within this context each layer builds its kernel once, however often it is applied.

    For training steps that apply a network several times, as a rollout does: gradients of all
    applications add up in the one kernel before they flow to the parameters. Without gradients
    the context is not needed: layers then keep their kernels by themselves.

    Args:
        network: any module; its group layers take part.
    """
    caches = [m.kernel_cache for m in network.modules() if hasattr(m, "kernel_cache")]
    outer = [cache.once for cache in caches]
    for cache in caches:
        cache.once = True
    try:
        yield
    finally:
        for cache, once in zip(caches, outer):
            cache.once = once
            if not once:
                cache.clear()


def _mode(parameter: Tensor) -> tuple:
    """What else a kernel depends on: gradients recorded or not, and autocast."""
    device = parameter.device.type
    autocast = torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if autocast else None
    return torch.is_grad_enabled(), torch.is_inference_mode_enabled(), dtype
