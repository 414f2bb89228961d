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


class Reference(nn.Module):
    """The kernel of a layer of scalar or regular input with bilinear kernels, on its parameters."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        if layer.group.name.startswith("d"):
            raise ValueError(f"a reference needs a group of rotations; got {layer.group.name!r}.")
        self.layer = layer
        between = layer.group.cayley[layer.group.inverse]  # [g, h]: g^-1 h
        self.register_buffer("shift", between, persistent=False)
        inverses = layer.group.matrices[layer.group.inverse]
        theta = torch.cat([inverses, torch.zeros(layer.group.order, 2, 1)], -1)
        self.register_buffer("theta", theta.to(layer.weight.dtype), persistent=False)
        self.angles = [math.degrees(math.atan2(-m[1, 0], m[0, 0])) for m in layer.group.matrices]

    def filters(self) -> tuple[Tensor, Tensor]:
        """What each element turns, [|G|, L, O, I (|G|), k, k]; and its weights [L, |G|]."""
        weight, order = self.layer.weight, self.layer.group.order
        if isinstance(self.layer, RelaxedLayer):
            relaxed_weights = self.layer.relaxed_weights
        else:
            weight, relaxed_weights = weight[None], weight.new_ones(1, order)
        if self.layer.in_type == "scalar":
            return weight.expand(order, *weight.shape), relaxed_weights
        shifted = weight[:, :, :, self.shift]  # [L, O, I, g, h, k, k]
        return shifted.movedim(3, 0).flatten(3, 4), relaxed_weights


class BankKernel(Reference):
    """All banks turned by all elements in one grid sampling, then contracted by `einsum`."""

    def forward(self) -> Tensor:
        """[O |G|, I (|G|), k, k]."""
        filters, relaxed_weights = self.filters()
        flat = filters.flatten(1, 3)
        grid = F.affine_grid(self.theta, list(flat.shape), align_corners=False)
        bank = F.grid_sample(flat, grid, align_corners=False).view(filters.shape)
        return torch.einsum("lg,gloikm->ogikm", relaxed_weights, bank).flatten(0, 1)


class SumKernel(Reference):
    """All banks turned by torchvision, element by element, then multiplied and summed."""

    def forward(self) -> Tensor:
        """[O |G|, I (|G|), k, k]."""
        filters, relaxed_weights = self.filters()
        flat = filters.flatten(1, 3)
        turned = [tvf.rotate(f, a, InterpolationMode.BILINEAR) for f, a in zip(flat, self.angles)]
        bank = torch.stack(turned).view(filters.shape)
        weighted = relaxed_weights.t()[..., None, None, None, None] * bank
        return weighted.sum(1).transpose(0, 1).flatten(0, 1)


REFERENCES = {"bank": BankKernel, "sum": SumKernel}
