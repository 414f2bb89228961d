"""Norms of images and of feature maps on a group: over the batch, or of each sample alone."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import debug_unwrap

from src.checks import check_choice

NORMS = ("batch", "group", "none")
MOMENTUM = 0.5  # torch's 0.1 lets running statistics lag behind the weights, see docs/measures.md


def choose_norm(norm: str, batch_norm: Callable[[int], nn.Module]) -> Callable[[int], nn.Module]:
    """What makes a norm of a number of channels: ``batch_norm``, `SampleNorm` or the identity.

    Args:
        norm: ``"batch"``, ``"group"`` or ``"none"``.
        batch_norm: what makes the one for ``"batch"``.
    """
    check_choice("norm", norm, NORMS)
    return {"batch": batch_norm, "group": SampleNorm, "none": nn.Identity}[norm]


class _ChannelsLast:
    """Mixin of batch norms: training on the CPU at the speed of memory, with channels last.

    torch's own kernel (2.14) lets all threads add up in neighbouring floats: with two threads and
    11 channels it takes three times as long as with one. On other devices and for other dtypes, in
    evaluation, under a compiler and in transforms of `torch.func` torch's kernel does it.
    """

    def __init__(self, num_features: int, **options: Any) -> None:
        super().__init__(num_features, **{"momentum": MOMENTUM, **options})

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, ...] of any order of memory; channels last is fastest."""
        if not (
            self.training
            and self.affine
            and x.device.type == "cpu"
            and x.dtype == self.weight.dtype
            and not torch.compiler.is_compiling()
            and debug_unwrap(x) is x
            and x.numel() > x.shape[1]  # else torch says that there is nothing to average
        ):
            return super().forward(x)
        self._check_input_dim(x)
        last = x.movedim(1, -1)
        y, mean, var = _BatchNorm.apply(
            last.reshape(-1, x.shape[1]), self.weight, self.bias, self.eps
        )
        if self.track_running_stats:
            self.num_batches_tracked.add_(1)
            momentum = self.momentum
            momentum = 1 / self.num_batches_tracked.item() if momentum is None else momentum
            count = x.numel() / x.shape[1]
            # By `.data`, as torch's kernel does: graphs that hold the buffers do not use them.
            self.running_mean.data.lerp_(mean, momentum)
            self.running_var.data.lerp_(var * (count / (count - 1)), momentum)
        return y.view(last.shape).movedim(-1, 1)


class ImageBatchNorm(_ChannelsLast, nn.BatchNorm2d):
    """`nn.BatchNorm2d` of images [B, C, H, W], as fast with any number of channels and threads."""


class GroupBatchNorm(_ChannelsLast, nn.BatchNorm3d):
    r"""Batch norm with one mean, variance, scale and shift per channel: equivariant.

    .. math:: y_c = w_c\, \frac{x_c - m_c}{\sqrt{v_c + \epsilon}} + b_c

    with mean m_c and variance v_c over samples, group elements and pixels in training, and their
    running averages in evaluation. [B, C, |G|, H, W] -> the same.

    Reference: T. Cohen, M. Welling, Group Equivariant Convolutional Networks, ICML 2016.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, |G|, H, W], any order of memory; channels last is fastest."""
        return super().forward(x.permute(0, 1, 3, 4, 2)).permute(0, 1, 4, 2, 3)


class SampleNorm(nn.GroupNorm):
    r"""`nn.GroupNorm` with all channels in one group: no sample depends on others. Equivariant.

    .. math:: y_{bc} = w_c\, \frac{x_{bc} - m_b}{\sqrt{v_b + \epsilon}} + a_c

    with mean m_b and variance v_b of sample b over its channels, group elements and pixels, in
    training and evaluation, and scale w_c and shift a_c per channel. More groups of channels would
    have to divide the number of channels, which follows from a number of parameters here.

    Shapes:
        [B, C, H, W] or [B, C, |G|, H, W] -> the same; any order of memory, channels last fastest.

    References: Y. Wu, K. He, Group Normalization, ECCV 2018 (one group: as layer norm); W. Yu et
    al., MetaFormer Is Actually What You Need for Vision, CVPR 2022, uses one group too.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__(1, num_channels)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() < 5:
            return super().forward(x)
        return super().forward(x.permute(0, 1, 3, 4, 2)).permute(0, 1, 4, 2, 3)


class _BatchNorm(torch.autograd.Function):
    r"""y = w (x - m) / sqrt(v + eps) + b of rows x [R, C], with m and v their mean and variance.

    .. math:: dx = \frac{w}{s} (dy - \mathrm{mean}(dy) - \hat x\, \mathrm{mean}(dy\, \hat x)),
              \qquad s = \sqrt{v + \epsilon},\ \hat x = (x - m) / s

    Several rows lie side by side in one, [R / k, k C], because C alone is short for a processor.
    """

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, ...]:
        wide, k = _side_by_side(x)
        mean, var = _moments(wide, k)
        scale = weight * (var + eps).rsqrt()
        y = torch.addcmul((bias - mean * scale).repeat(k), wide, scale.repeat(k))
        return y.view(x.shape), mean, var

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        x, weight, _, ctx.eps = inputs
        _, mean, var = output
        ctx.mark_non_differentiable(mean, var)
        ctx.save_for_backward(x, weight, mean, var)

    @staticmethod
    def backward(ctx: Any, dy: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, mean, var = ctx.saved_tensors
        (x, k), (dy, _) = _side_by_side(rows), _side_by_side(dy)
        if torch.is_grad_enabled():  # for second derivatives, which mean and variance have too
            mean, var = _moments(x, k)
        per_std, count = (var + ctx.eps).rsqrt(), len(rows)
        d_bias = _column_sums(dy, k)
        d_weight = per_std * (_column_sums(dy * x, k) - mean * d_bias)
        scale = weight * per_std
        slope = -scale * per_std * d_weight / count
        constant = -scale * d_bias / count - slope * mean
        dx = torch.addcmul(constant.repeat(k), x, slope.repeat(k)).addcmul_(dy, scale.repeat(k))
        return dx.view(rows.shape), d_weight, d_bias, None


def _side_by_side(x: Tensor) -> tuple[Tensor, int]:
    """x [R, C] as [R / k, k C], and k."""
    k = max(k for k in range(1, 65) if len(x) % k == 0)
    return x.reshape(len(x) // k, k * x.shape[1]), k


def _column_sums(wide: Tensor, k: int) -> Tensor:
    """Sums over all rows, [C]."""
    return wide.sum(0).view(k, -1).sum(0)


def _moments(wide: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Mean and (biased) variance of the columns, [C]."""
    count = len(wide) * k
    mean = _column_sums(wide, k) / count
    return mean, _column_sums((wide - mean.repeat(k)).square_(), k) / count
