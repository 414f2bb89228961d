import math
from statistics import fmean

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from src.measures import equivariance_error, equivariance_errors
from src.measures.actions import group_of
from src.measures.lie_derivative import lie_derivatives
from src.models.components.classifiers import GCNN
from src.models.components.gcnn import LiftingConv, make_group
from src.models.components.gcnn.groups import subgroup_names
from tests.helpers.measured import (
    MAKERS,
    VECTORS,
    Function,
    Network,
    images,
    ordinary_network,
    relaxed_network,
    spoil,
    strict_network,
)


def error(function, x, group="c4", **options):
    return equivariance_error(Function(function), [x], group, **options)


def curve(function, x, group, **options):
    """Errors of all elements but the identity, in order."""
    return list(equivariance_errors(Function(function), [x], group, **options).per_element.values())


def laplacian(x):
    kernel = torch.tensor([[0.5, 1, 0.5], [1, -6, 1], [0.5, 1, 0.5]], dtype=x.dtype)
    return F.conv2d(x, kernel.expand(x.shape[1], 1, 3, 3), padding=1, groups=x.shape[1])


def gradient(x):
    """Central differences of one channel: component 0 along columns, component 1 along rows."""
    padded = F.pad(x[:, :1], (1, 1, 1, 1))
    along_columns = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
    along_rows = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    return torch.cat([along_columns, along_rows], 1)


def lifted(x, sense=1, shift=1):
    """sum over channels of any function phi, lifted to C4: out[:, :, a] = a . phi(a^-1 . x)."""
    weight, maps = images(4, x.shape[1], 3), []
    for a in range(4):
        turned = F.conv2d(torch.rot90(x, -a, (-2, -1)), weight, padding=1).relu()
        maps.append(torch.rot90(turned, sense * a, (-2, -1)))
    return torch.stack([maps[shift * a] for a in range(4)], 2)


@pytest.mark.parametrize(("group", "size"), [("c4", (5, 8)), ("d4", 7), ("d4", 8)])
def test_equivariant_functions_have_no_error(group, size):
    x = images(size=size)
    assert error(lambda x: laplacian(x).square().mean((2, 3)), x, group) < 1e-12
    assert error(lambda x: laplacian(x).relu(), x, group, output="scalar") < 1e-12
    assert error(gradient, x, group, output="vector") < 1e-12


def test_wrong_lifting_and_wrong_representations_are_detected():
    assert error(lifted, images(size=8), output="regular") < 1e-12
    for wrong in ({"sense": -1}, {"shift": 0}):
        assert error(lambda x, wrong=wrong: lifted(x, **wrong), images(), output="regular") > 0.5
    assert error(laplacian, images()) > 0.5  # a field is not invariant
    assert error(lambda x: gradient(x).flip(1), images(), output="vector") > 0.5
    assert error(gradient, images(), output="scalar") > 0.5


def test_vector_inputs_turn_as_vectors():
    """C4's element 1 takes (v0, v1) to (v1, -v0) besides turning the picture."""
    seen = []
    assert error(lambda x: seen.append(x) or x, images(), **VECTORS) == 0
    for element in (1, 2, 3):
        turned = torch.rot90(images(), element, (-2, -1))
        for _ in range(element):
            turned = torch.stack([turned[:, 1], -turned[:, 0]], 1)
        torch.testing.assert_close(seen[element], turned, rtol=0, atol=0)


def test_known_value_of_a_corner():
    """f(x) = x[0, 0] sees the four corners, counter-clockwise turns bring the right one first."""
    x = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    x[0, 0, 0, 0], x[0, 0, 0, 2], x[0, 0, 2, 2], x[0, 0, 2, 0] = 2.0, 3.0, -1.0, 2.0
    corner = [abs(3 - 2) / 2, abs(-1 - 2) / 2, abs(2 - 2) / 2]
    assert curve(lambda x: x[:, :, 0, 0], x, "c4") == pytest.approx(corner, rel=1e-12)
    assert error(lambda x: x[:, :, 0, 0], x) == pytest.approx(sum(corner) / 3, rel=1e-12)


def test_known_values_of_moments_and_of_a_constant_vector():
    """u = <c^2 - r^2> and w = <2 c r> of a turned picture: u' = u cos 2t + w sin 2t.

    On a picture of one pixel nothing is interpolated: |R v - v| = 2 |sin(t / 2)| |v|.
    """
    column = torch.arange(41, dtype=torch.float64) - 20
    row = column[:, None]
    along, across = column + 2 * row, 2 * column - row  # a spot, long between the axes
    x = torch.exp(-(along**2) / 200 - across**2 / 80).expand(1, 1, 41, 41)
    u = (x * (column**2 - row**2)).sum().item()
    w = (x * 2 * column * row).sum().item()
    angles = [2 * math.pi * a / 36 for a in range(1, 36)]
    exact = [abs(u * math.cos(2 * t) + w * math.sin(2 * t) - u) / abs(u) for t in angles]
    assert max(exact) > 2
    errors = curve(lambda x: (x * (column**2 - row**2)).sum((2, 3)), x, "c36")
    assert errors == pytest.approx(exact, abs=0.02)
    v = torch.tensor([0.6, -0.8], dtype=torch.float64).view(1, 2, 1, 1)
    errors = curve(lambda x: v.expand(len(x), -1, -1, -1), images(), "c36", output="vector")
    exact = [2 * abs(math.sin(t / 2)) for t in angles]
    assert errors == pytest.approx(exact, rel=1e-12, abs=1e-12)


def test_samples_count_the_same_also_those_of_zero_outputs():
    """The mean of ratios, not the ratio of means; 0 / 0 counts as 0."""
    x = torch.zeros(2, 1, 2, 2, dtype=torch.float64)
    x[0, 0] = torch.tensor([[1.0, 2.0], [1.0, 1.0]])
    x[1, 0] = 1e6
    assert error(lambda x: x[:, :, 0, 0], x) == pytest.approx((1 / 3) / 2, rel=1e-12)
    assert error(lambda x: 0 * x.mean((2, 3)), x) == 0.0
    x[1, :, 0, 0] = 0.0  # f vanishes on the second sample, but not on its turned pictures
    assert error(lambda x: x[:, :, 0, 0], x) == math.inf
    assert math.isnan(error(lambda x: x * math.nan, x, output="scalar"))


@pytest.mark.parametrize("group", ["c8", "c4"])
@pytest.mark.parametrize("make", MAKERS)
def test_value_does_not_depend_on_the_batches(make, group):
    """Whatever their sizes, and with labels or without; the mean over elements is the error."""
    network, x = spoil(make()), images(batch=9, channels=1, size=8)
    options = {"group": group, "per_layer": group == "c4"}  # c4: that of the feature maps
    whole = equivariance_errors(network, [(x, torch.zeros(9))], **options)
    for size in (1, 4):
        parts = equivariance_errors(network, list(x.split(size)), **options)
        for got, expected in zip(parts, whole):
            assert got == pytest.approx(expected, rel=1e-12, abs=1e-13)
    assert whole.overall == pytest.approx(fmean(whole.per_element.values()), rel=1e-14)
    assert equivariance_error(network, [x], group) == whole.overall


def test_elements_all_and_exact():
    seen, x = [], images()
    model = Function(lambda x: seen.append(x) or x.mean((2, 3)))
    all_elements = equivariance_errors(model, [x], "c8")
    assert len(seen) == 8
    exact = equivariance_errors(model, [x], "c8", elements="exact")
    assert list(exact.per_element) == [2, 4, 6]
    assert exact.overall < 1e-12 < all_elements.overall
    for got, quarters in zip(seen[9:], (1, 2, 3), strict=True):
        assert torch.equal(got, torch.rot90(x, quarters, (-2, -1)))


def test_strict_layers_have_no_error_but_between_quarter_turns_and_broken_ones_do():
    network, x = spoil(strict_network()), [images(channels=1, size=8)]
    found = equivariance_errors(network, x, "c4")
    assert found.overall < 1e-12
    assert list(found.per_layer) == ["blocks.0", "blocks.1", "blocks.2"]
    assert max(found.per_layer.values()) < 1e-12
    finer = equivariance_errors(network, x, "c12", per_layer=False).per_element
    assert [a for a, e in finer.items() if e < 1e-12] == [3, 6, 9]
    network = relaxed_network()  # a broken layer is found
    assert equivariance_error(network, x, "c4") < 1e-12
    network.blocks[1][0].relaxed_weights.data[0, 2] = -4.0
    found = equivariance_errors(network, x, "c4")
    assert found.per_layer["blocks.0"] < 1e-12
    assert min(found.overall, found.per_layer["blocks.1"]) > 0.05


def test_layers_are_measured_as_networks_that_end_there():
    """Without a group axis as scalar fields, also over c1; without a picture as invariants."""
    network, x = spoil(ordinary_network()), images(channels=1, size=8)
    network.blocks.append(nn.Flatten())
    per_layer = equivariance_errors(network, [x], "c4").per_layer
    for number, kind in enumerate(["scalar", "scalar", "scalar", "invariant"]):
        function = nn.Sequential(*network.blocks[: number + 1])
        expected = equivariance_error(function, [x], "c4", output=kind)
        assert expected > 0.1
        assert per_layer[f"blocks.{number}"] == pytest.approx(expected, rel=1e-12)
    network = Network(LiftingConv(1, 2, 3, "c1")).double()
    expected = error(lambda x: network.blocks[0](x)[:, :, 0], x, output="scalar")
    found = equivariance_errors(network, [x], "c4").per_layer
    assert found == {"blocks.0": pytest.approx(expected, rel=1e-12)}


@pytest.mark.parametrize(
    ("groups", "measured", "layers"),
    [
        ("d4 d4 c4", "c4", 3),
        ("c8 c4 c1", "c4", 3),  # maps on C8 as maps on C4; those on C1 are scalar fields
        ("d4 d2 c2", "c2", 3),
        ("c8 c4 c2", "c8", 1),  # neither C4 nor C2 contains C8
    ],
)
def test_a_group_per_layer(groups, measured, layers):
    """Layers that contain the measured group are equivariant to it, up to where it is lost."""
    groups = groups.split()
    torch.manual_seed(0)
    net = GCNN(group=groups, num_layers=3, hidden_channels=2, pool_after=[2]).double()
    found = equivariance_errors(net, [images(channels=1)], measured, elements="exact")
    assert len(found.per_layer) == layers
    for number, error in enumerate(found.per_layer.values()):
        kept = measured in subgroup_names(make_group(groups[number]))
        assert (error < 1e-12) if kept else (error > 1e-3)
    assert (found.overall < 1e-12) == (measured == groups[-1])
    assert group_of(net).name == group_of(net.blocks).name == groups[-1]
    assert all(map(math.isfinite, lie_derivatives(net, [images(channels=1)])[:2]))


def test_layers_that_do_not_exist_or_do_not_run_once_are_left_out():
    network, x = ordinary_network(), [images(channels=1)]
    assert equivariance_errors(network, x, "c4", per_layer=False).per_layer == {}
    assert equivariance_errors(nn.Flatten(), x, "c4").per_layer == {}
    first, pool, _ = network.blocks
    network.forward = lambda x: pool(pool(first(x))).mean((2, 3))
    assert list(equivariance_errors(network, x, "c4").per_layer) == ["blocks.0"]
    conv = nn.Conv2d(2, 2, 3).double()  # and outputs overwritten in place do no harm
    networks = (Network(conv, nn.ReLU(inplace=inplace)) for inplace in (False, True))
    expected, got = (equivariance_errors(network, [images()], "c4") for network in networks)
    assert got == expected


OBLONG = nn.AdaptiveAvgPool2d((3, 5))  # quarter turns do not swap its height and width


@pytest.mark.parametrize(
    ("model", "x", "options", "match"),
    [
        (nn.Flatten(), [images()], {"group": "c1"}, r"than the identity; group 'c1' has none"),
        (nn.Flatten(), [images()], {"group": "c3", "elements": "exact"}, r"'c3' has none with"),
        (nn.Flatten(), [images()], {"group": "x4"}, "got 'x4'"),
        (nn.Flatten(), [images()], {"elements": "some"}, "`elements` must be one of all, exact"),
        (nn.Flatten(), [images()], {"output": "logits"}, "`output` must be one of invariant, "),
        (nn.Flatten(), [images()], {"input": "regular"}, r"`input` must be .*, vector\+scalar;"),
        (nn.Flatten(), [images()], {"interpolation": "cubic"}, "`interpolation` must be one of"),
        (nn.Flatten(), [images()], {"output": "scalar"}, r"the network .*'scalar'.*\[3, 98\]"),
        (nn.Identity(), [images(2, 3)], {"input": "vector"}, r"input .*\[B, 2 C, H, W\].*two chan"),
        (nn.Identity(), [images()], {"input": "vector+scalar"}, r"\[B, 3 C, H, W\].*three chan"),
        (nn.Identity(), [images()], {"output": "regular"}, r"\[B, C, 4, H, W\]; got .* own group"),
        (nn.Identity(), images(), {}, r"the input .* \[B, C, H, W\]; got \[2, 7, 7\]\. .*a list"),
        (strict_network(), [images(2, 1)], {"group": "c8"}, r"blocks\.0 .*\[B, C, 8, H, W\]"),
        (OBLONG, [images(size=(6, 10))], {"output": "scalar"}, r"\[3, 2, 3, 5\] .*Use square"),
        (nn.Flatten(), [], {}, r"at least one sample; got none\. Pass a list"),
        (nn.Flatten(), [(images(batch=0), torch.zeros(0))], {}, "at least one sample"),
    ],
)
def test_options_inputs_and_outputs_are_checked(model, x, options, match):
    with pytest.raises(ValueError, match=match):
        equivariance_errors(model, x, **{"group": "c4", **options})
