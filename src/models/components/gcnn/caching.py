"""Convolutions with expanded kernels, which are built once and used until a parameter changes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import debug_unwrap

from src.checks import check_choice, check_integer, check_shape
from src.models.components.gcnn.groups import FIELD_TYPES, Group, make_group
from src.models.components.gcnn.kernels import check_kernel_size


class KernelCache:
    """The expanded kernel of one layer, with what it was built from.

    It is kept where no gradient flows to the parameters, or `kernels_built_once` says that one
    forward pass is under way, and no compiler or exporter is tracing. It is used again while
    autocast is as it was and the parameters are the same objects (`torch.func.functional_call`
    swaps them) with the same values, compared one by one: version counters miss edits through
    ``.data``. Copies and pickles of a layer start with an empty cache.
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
        """The kernel that ``build`` makes from these parameters: the kept one, or a new one."""
        if torch.compiler.is_compiling():
            return build()
        differentiable = torch.is_grad_enabled() and any(p.requires_grad for p in parameters)
        if not all(type(p) is nn.Parameter for p in parameters) or (
            differentiable and not self.once
        ):
            self.clear()
            return build()
        if not self._is_current(parameters):
            kernel = build()
            if debug_unwrap(kernel) is not kernel:  # of a transform of torch.func, and ends with it
                return kernel
            self._kernel, self._parameters, self._mode = kernel, parameters, _mode(parameters[0])
            self._values = tuple(p.detach().clone() for p in parameters)
            if kernel.requires_grad:  # a graph serves one backward pass
                kernel.register_hook(lambda _: self.clear())
        return self._kernel

    def _is_current(self, parameters: tuple[Tensor, ...]) -> bool:
        if self._kernel is None or self._mode != _mode(parameters[0]):
            return False
        same = all(a is b for a, b in zip(parameters, self._parameters))
        return same and all(map(torch.equal, parameters, self._values))

    def __reduce__(self) -> tuple:
        return KernelCache, ()


def _mode(parameter: Tensor) -> tuple:
    """What else a kernel depends on: gradients recorded or not, autocast and TF32."""
    device = parameter.device.type
    autocast = torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if autocast else None
    float32 = getattr(torch.backends.cuda.matmul, "fp32_precision", None)  # of torch 2.9 and later
    return torch.is_grad_enabled(), torch.is_inference_mode_enabled(), dtype, float32


class ExpandedConv(nn.Module):
    """A convolution on a group whose kernel is expanded from fewer parameters, ``weight``.

    Subclasses define ``expanded_fibres()``, the kernel [O, output fibre, I, input fibre, k, k],
    and the constants it uses: ``exact_constants()``, by name, in float64, and ``index_tables``,
    the names of those of integers. They are plain attributes, not buffers: what averages buffers
    along training (as `torch.optim.swa_utils.AveragedModel` does) would round and truncate them.

    Feature maps [B, C, |G|, H, W] leave it as views of memory ordered [B, H, W, |G|, C], in which
    convolution, norm and pooling are fastest; other orders are taken too, and copied.
    """

    index_tables: tuple[str, ...] = ()
    weight: Tensor
    bias: Tensor | None
    stride: int
    padding: int

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        group: str | Group,
        in_type: str,
        out_type: str,
    ) -> None:
        super().__init__()
        check_integer("in_channels", in_channels)
        check_integer("out_channels", out_channels)
        check_kernel_size(kernel_size)
        check_choice("in_type", in_type, FIELD_TYPES)
        check_choice("out_type", out_type, FIELD_TYPES)
        self.group = make_group(group)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.in_type = in_type
        self.out_type = out_type
        self.kernel_cache = KernelCache()

    def expanded_kernel(self) -> Tensor:
        """The ordinary convolution weight [O output fibre, I input fibre, k, k]."""
        return self.expanded_fibres().flatten(2, 3).flatten(0, 1)

    def expanded_bias(self) -> Tensor | None:
        """The ordinary convolution bias [O output fibre], or None."""
        if self.bias is None:
            return None
        return self.bias.repeat_interleave(self.group.fibre_size(self.out_type))

    def kernel_parameters(self) -> tuple[Tensor, ...]:
        """What ``expanded_kernel`` is built from."""
        return (self.weight,)

    def forward(self, x: Tensor) -> Tensor:
        self.check_input(x)
        if self.in_type == "regular":
            x = x.transpose(1, 2).flatten(1, 2)
        kernel = self.kernel_cache.get(self.kernel_parameters(), self._elements_outermost)
        bias, regular = self.expanded_bias(), self.out_type == "regular"
        if bias is not None and regular:
            bias = bias.unflatten(0, (self.out_channels, -1)).t().flatten()
        y = F.conv2d(channels_last(x), kernel, bias, self.stride, self.padding)
        return y.unflatten(1, (-1, self.out_channels)).transpose(1, 2) if regular else y

    def check_input(self, x: Tensor) -> None:
        """Raise ValueError unless ``x`` holds the fields that the layer takes."""
        fibre = self.group.fibre_size(self.in_type)
        regular = self.in_type == "regular"
        channels = (self.in_channels, fibre) if regular else (self.in_channels * fibre,)
        meaning = f"{self.in_channels} {self.in_type} channels, group {self.group.name}"
        fix = "Change `in_channels`, `in_type` or `group` of this layer, or the layer before it."
        check_shape(self, x, ("B", *channels, "H", "W"), meaning, fix)

    def _elements_outermost(self) -> Tensor:
        """`expanded_kernel` with channels ordered (g, o) and (h, i), as the memory of maps is."""
        kernel = self.expanded_fibres()
        kernel = kernel.transpose(0, 1) if self.out_type == "regular" else kernel
        kernel = kernel.transpose(2, 3) if self.in_type == "regular" else kernel
        return kernel.flatten(2, 3).flatten(0, 1)

    def _apply(self, fn, recurse=True):
        """Convert the constants from double precision when dtype or device changes."""
        super()._apply(fn, recurse)
        for name, exact in self.exact_constants().items():
            setattr(self, name, exact.to(self.weight))
        for name in self.index_tables:
            setattr(self, name, getattr(self, name).to(self.weight.device))
        self.kernel_cache.clear()
        return self


def channels_last(x: Tensor) -> Tensor:
    """[B, C, H, W] as a view of memory ordered [B, H, W, C]; a copy where it is ordered otherwise.

    Also for C = 1, where strides alone do not say which order is meant and `Tensor.contiguous`
    leaves the choice open; and inside `torch.func.vmap`, which knows no memory formats.
    """
    x = x.permute(0, 2, 3, 1).contiguous()
    return x.flatten(2).unflatten(2, x.shape[2:]).permute(0, 3, 1, 2)


@contextmanager
def kernels_built_once(network: nn.Module) -> Iterator[None]:
    """Within this context each layer builds its kernel once, however often it is applied.

    For training steps that apply a network several times, as a rollout does: gradients of all
    applications add up in the one kernel before they flow to the parameters.
    """
    caches = [m.kernel_cache for m in network.modules() if isinstance(m, ExpandedConv)]
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
