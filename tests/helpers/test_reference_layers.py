import pytest
import torch

from src.models.components.gcnn import GroupConv, LiftingConv, RelaxedGroupConv, RelaxedLiftingConv
from tests.helpers.layer_cases import double_precision, randomize
from tests.helpers.reference_layers import REFERENCES

__all__ = ["double_precision"]

every_reference = pytest.mark.parametrize("reference", REFERENCES.values(), ids=REFERENCES)
LAYERS = [LiftingConv, GroupConv, RelaxedLiftingConv, RelaxedGroupConv]


@every_reference
@pytest.mark.parametrize("layer_class", LAYERS)
@pytest.mark.parametrize(("group", "kernel_size"), [("c4", 3), ("c8", 5), ("c3", 7)])
def test_equals_our_layer(double_precision, reference, layer_class, group, kernel_size):
    options = {"num_filter_banks": 3} if "Relaxed" in layer_class.__name__ else {}
    layer = layer_class(2, 3, kernel_size, group, bias=False, **options)
    randomize(layer)
    ours, theirs = layer.expanded_kernel(), reference(layer)()
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)
    cotangent = torch.randn_like(ours)
    parameters = list(layer.parameters())
    gradients = zip(
        torch.autograd.grad(ours, parameters, cotangent),
        torch.autograd.grad(theirs, parameters, cotangent),
    )
    for mine, other in gradients:
        assert torch.allclose(mine, other, rtol=0, atol=1e-10)


@every_reference
def test_groups_with_mirror_images_are_refused(reference):
    with pytest.raises(ValueError, match="a reference layer needs a group of rotations; got 'd4'"):
        reference(LiftingConv(1, 1, 3, "d4"))
