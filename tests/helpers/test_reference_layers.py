import pytest

from src.models.components.gcnn import GroupConv, LiftingConv, RelaxedGroupConv, RelaxedLiftingConv
from tests.helpers.layer_cases import assert_equal_gradients, double_precision, randomize
from tests.helpers.reference_layers import REFERENCES

__all__ = ["double_precision"]

every_reference = pytest.mark.parametrize("reference", REFERENCES.values(), ids=REFERENCES)


@every_reference
@pytest.mark.parametrize("make", [LiftingConv, GroupConv, RelaxedLiftingConv, RelaxedGroupConv])
@pytest.mark.parametrize(("group", "kernel_size"), [("c4", 3), ("c8", 5), ("c3", 7)])
def test_equals_our_layer(double_precision, reference, make, group, kernel_size):
    options = {"num_filter_banks": 3} if "Relaxed" in make.__name__ else {}
    layer = make(2, 3, kernel_size, group, bias=False, **options)
    randomize(layer)
    ours, theirs = layer.expanded_kernel(), reference(layer)()
    assert (ours - theirs).abs().max() < 1e-12
    assert_equal_gradients(ours, theirs, list(layer.parameters()), rtol=0, atol=1e-10)
    with pytest.raises(ValueError, match="a reference needs a group of rotations; got 'd4'"):
        reference(LiftingConv(1, 1, 3, "d4"))
