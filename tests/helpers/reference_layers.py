"""Earlier ways of building an expanded kernel, on the parameters of our own layers.

Both turn every bank and build the bank of turned filters, [|G|, L, O, I, (|G|,) k, k]. They are
what benchmarks compare our layers with: batched as an implementation meant for use would be, unlike
the twins in `slow_layers`, which are meant to be obvious.
"""

import math

import torch
import torch.nn.functional as F
import torchvision.transforms.functional as tvf
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode

from src.models.components.gcnn import RelaxedLayer
from src.models.components.gcnn.groups import Group


class BankKernel(nn.Module):
    """All banks turned by all elements in one grid sampling, then contracted by `einsum`.

    Args:
        layer: a layer of scalar or regular input with bilinear kernels; its parameters are shared.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.register_buffer("shift", _shifted_elements(layer.group), persistent=False)
        inverses = layer.group.matrices[layer.group.inverse]
        theta = torch.cat([inverses, torch.zeros(layer.group.order, 2, 1)], -1)
        self.register_buffer("theta", theta.to(layer.weight.dtype), persistent=False)

    def forward(self) -> Tensor:
        """[O |G|, I (|G|), k, k]."""
        weight, relaxed_weights = _banks(self.layer)
        bank = self._turn(_for_each_element(self.layer, weight, self.shift))
        kernel = torch.einsum("lg,gloikm->ogikm", relaxed_weights, bank)
        return kernel.reshape(-1, *kernel.shape[2:])

    def _turn(self, filters: Tensor) -> Tensor:
        """[|G|, L, O, I (|G|), k, k], each element's filters turned by it."""
        flat = filters.flatten(1, 3)
        grid = F.affine_grid(self.theta, list(flat.shape), align_corners=False)
        return F.grid_sample(flat, grid, align_corners=False).view(filters.shape)


class SumKernel(nn.Module):
    """All banks turned by torchvision, element by element, then multiplied and summed.

    Args:
        layer: a layer of scalar or regular input with bilinear kernels; its parameters are shared.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.register_buffer("shift", _shifted_elements(layer.group), persistent=False)
        self.angles = [math.degrees(math.atan2(-m[1, 0], m[0, 0])) for m in layer.group.matrices]

    def forward(self) -> Tensor:
        """[O |G|, I (|G|), k, k]."""
        weight, relaxed_weights = _banks(self.layer)
        filters = _for_each_element(self.layer, weight, self.shift)
        bank = torch.stack([self._turn(f, angle) for f, angle in zip(filters, self.angles)])
        kernel = (relaxed_weights.t()[..., None, None, None, None] * bank).sum(1).transpose(0, 1)
        return kernel.reshape(-1, *kernel.shape[2:])

    def _turn(self, filters: Tensor, angle: float) -> Tensor:
        turned = tvf.rotate(filters.flatten(0, -3), angle, InterpolationMode.BILINEAR)
        return turned.view(filters.shape)


REFERENCES = {"bank": BankKernel, "sum": SumKernel}


def _banks(layer: nn.Module) -> tuple[Tensor, Tensor]:
    """Banks [L, O, I, (|G|,) k, k] and their weights [L, |G|], also of a strict layer."""
    if isinstance(layer, RelaxedLayer):
        return layer.weight, layer.relaxed_weights
    return layer.weight[None], layer.weight.new_ones(1, layer.group.order)


def _for_each_element(layer: nn.Module, weight: Tensor, shift: Tensor) -> Tensor:
    """The filters that each element turns: [|G|, L, O, I (|G|), k, k]."""
    if layer.in_type == "scalar":
        return weight.expand(layer.group.order, *weight.shape)
    shifted = weight[:, :, :, shift]  # [L, O, I, g, h, k, k]
    return shifted.movedim(3, 0).flatten(3, 4)


def _shifted_elements(group: Group) -> Tensor:
    """[|G|, |G|]: g^-1 h."""
    if group.name.startswith("d"):
        raise ValueError(f"a reference layer needs a group of rotations; got {group.name!r}.")
    return group.cayley[group.inverse]
