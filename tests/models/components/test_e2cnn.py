"""Steerable layers; that they compile, keep kernels and lose precision as others: test_base.py."""

import pytest
import torch

from src.models.components.e2cnn import E2Conv, RelaxedSteerableConv
from src.models.components.e2cnn_bases import gspace
from src.models.components.gcnn import make_group
from src.models.components.gcnn.groups import FIELD_TYPES
from tests.helpers.equivariance import assert_equivariant, equivariance_error
from tests.helpers.layer_cases import assert_equals_twin, library_layer, make_input, randomize

# All pairs of fields; and groups of rotations or with mirror, on the grid and off it.
KINDS = [("c4", in_type, out_type) for in_type in FIELD_TYPES for out_type in FIELD_TYPES]
OFF_GRID = ("c1", "c3", "c8", "d1", "d4")
KINDS += [(g, kind, "regular") for kind in ("vector", "vector+scalar") for g in OFF_GRID]
KINDS += [("d4", "regular", "vector"), ("d4", "vector", "vector"), ("d4", "regular", "regular")]
every_kind = pytest.mark.parametrize(("group", "in_type", "out_type"), KINDS)


@every_kind
def test_equals_slow_twin(double_precision, group, in_type, out_type):
    for layer in (E2Conv, RelaxedSteerableConv):
        assert_equals_twin(layer(2, 3, 3, group, in_type, out_type, "vector" not in out_type))


@every_kind
def test_is_equivariant_until_weights_move_at_one_pixel(group, in_type, out_type):
    """The relaxed layer starts as the strict one, which is equivariant whatever its weights."""
    kind = (group, in_type, out_type)
    torch.manual_seed(0)
    strict = E2Conv(2, 3, 5, *kind, "vector" not in out_type)
    torch.manual_seed(0)
    layer = RelaxedSteerableConv(2, 3, 5, *kind, "vector" not in out_type)
    assert torch.equal(layer.weight, strict.weight[..., None, None].expand_as(layer.weight))
    assert layer.relaxation_penalty() == layer.relaxed_weight_error() == 0
    randomize(strict)
    for dtype in (torch.float32, torch.float64):
        for one in (strict, layer):
            assert_equivariant(one.to(dtype), make_input(one), *kind)
    with torch.no_grad():
        layer.weight[..., 0, 1] += 0.5
    assert layer.relaxation_penalty() > 0
    assert equivariance_error(layer, make_input(layer), *kind) > 1e-2 or group in ("c1", "c3")


@pytest.mark.parametrize("group", ["c1", "c4", "c8", "d1", "d4"])
@pytest.mark.parametrize("kinds", [("scalar", "regular"), ("regular", "regular")])
def test_a_new_layer_is_that_of_the_library_but_for_its_size(group, kinds):
    """The same seed draws coefficients in one proportion, and these give kernels in the same."""
    space = gspace(make_group(group))
    representations = {"scalar": space.trivial_repr, "regular": space.regular_repr}
    torch.manual_seed(0)
    library = library_layer(space, *(representations[kind] for kind in kinds), (2, 3), 5)
    torch.manual_seed(0)
    layer = E2Conv(2, 3, 5, group, *kinds, bias=True)
    size = layer.weight.norm() / library.weights.norm()
    assert torch.allclose(layer.weight.flatten(), size * library.weights, atol=1e-6)
    expected = library.basisexpansion(library.weights).view(layer.expanded_kernel().shape)
    assert torch.allclose(layer.expanded_kernel(), size * expected, atol=1e-6)


@pytest.mark.parametrize(
    ("group", "in_type", "out_type", "expected"),
    [
        ("c1", "scalar", "scalar", (2 * 9, 2 * 9)),
        ("c4", "regular", "regular", (2 * 132, 2 * 144)),
        ("d4", "scalar", "regular", None),
        ("c4", "vector", "vector", (2 * 34, 2 * 36)),
    ],
)
def test_degrees_of_freedom_are_the_rank_of_the_map_to_kernels(
    double_precision, group, in_type, out_type, expected
):
    layer = RelaxedSteerableConv(1, 2, 3, group, in_type, out_type)

    def expand(weight):
        layer.weight.data = weight
        return layer.expanded_kernel().flatten()

    units = torch.eye(layer.weight.numel()).view(-1, *layer.weight.shape)
    jacobian = torch.stack([expand(unit) for unit in units])
    freedom, plain = layer.degrees_of_freedom()
    assert freedom == torch.linalg.matrix_rank(jacobian)
    assert plain == jacobian.shape[1]
    assert expected in (None, (freedom, plain))
    assert f"degrees_of_freedom={freedom} of {plain}" in repr(layer)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in_type": "tensor"}, "`in_type` must be one of scalar, vector, .*; got 'tensor'"),
        ({"out_type": "irrep"}, "`out_type` must be one of scalar, vector, .*; got 'irrep'"),
        ({"out_type": "vector", "bias": True}, "`bias` must be False for vector outputs.*got True"),
        (
            {"kernel_size": 1, "in_type": "scalar", "out_type": "vector"},
            "an equivariant kernel from scalar to vector.*`kernel_size` 1. Use 3",
        ),
    ],
)
@pytest.mark.parametrize("layer", [E2Conv, RelaxedSteerableConv])
def test_bad_arguments(layer, options, message):
    arguments = {"in_channels": 1, "out_channels": 2, "kernel_size": 3, "group": "c4", **options}
    with pytest.raises(ValueError, match=message):
        layer(**arguments)
