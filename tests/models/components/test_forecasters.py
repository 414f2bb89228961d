"""All networks that forecast velocity fields, of dilated.py, e2forecasters.py and unets.py too."""

import logging
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from src.measures import equivariance_error, equivariance_errors
from src.models.components.dilated import DilatedResNetForecaster
from src.models.components.e2forecasters import E2CNNForecaster, RelaxedSteerableForecaster
from src.models.components.first_guess import RESIDUALS, FirstGuess
from src.models.components.forecasters import (
    CNNForecaster,
    GCNNForecaster,
    RelaxedGCNNForecaster,
    RelaxedTranslationForecaster,
)
from src.models.components.gcnn import GroupBatchNorm, ImageBatchNorm, SampleNorm
from src.models.components.gcnn.norm import NORMS
from src.models.components.unets import (
    GroupUNetForecaster,
    RelaxedGroupUNetForecaster,
    UNetForecaster,
)
from src.models.components.widths import count_parameters
from tests.helpers.equivariance import assert_equivariant

STRICT = {"gcnn": GCNNForecaster, "e2cnn": E2CNNForecaster, "gunet": GroupUNetForecaster}
RELAXED = {
    "rgcnn": RelaxedGCNNForecaster,
    "rgcnn, free": partial(
        RelaxedGCNNForecaster,
        num_filter_banks=None,
        group_biases=True,
        kernel_biases=True,
        free_kernel="zero",
    ),
    "rsteer": RelaxedSteerableForecaster,
    "rgunet": RelaxedGroupUNetForecaster,
}
PLAIN = {
    "cnn": CNNForecaster,
    "unet": UNetForecaster,
    "dilresnet": DilatedResNetForecaster,
    "rtrans": partial(RelaxedTranslationForecaster, grid_size=(10, 10)),
}
NETWORKS = {**PLAIN, **STRICT, **RELAXED}
U_SHAPED = ("unet", "gunet", "rgunet")  # 3 levels by default, of one width at the first
every_network = pytest.mark.parametrize("name", NETWORKS)
every_norm = pytest.mark.parametrize("norm", NORMS)
VECTORS = {"input": "vector", "output": "vector"}


def make(name, **options):
    torch.manual_seed(0)
    return NETWORKS[name](**{"num_inputs": 2, "hidden_channels": 3, **options})


def frames(num=3, num_inputs=2, size=10, dtype=torch.float32, seed=0, channels=2):
    """Random frames [num, channels num_inputs, size, size] of RMS 1: velocities, maybe density."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num, channels * num_inputs, size, size, generator=generator, dtype=dtype)


@every_norm
@every_network
def test_shapes_gradients_and_norms(name, norm):
    if name in U_SHAPED:
        net, widths = make(name, num_levels=3, norm=norm, hidden_channels=2), "2244884422"
    elif name == "dilresnet":
        net, widths = make(name, num_blocks=2, norm=norm, hidden_channels=2), "2" * 15
    else:
        net, widths = make(name, num_layers=4, norm=norm, hidden_channels=[2, 5, 4]), "254"
    x = frames()
    y = net(x)
    assert [block[0].out_channels for block in net.blocks] == [int(width) for width in widths]
    assert y.shape == (3, 2, 10, 10)
    assert torch.equal(x, frames()), "the input is not written to"
    kinds = [type(module) for module in net.modules()]
    batch_norm = ImageBatchNorm if name in PLAIN else GroupBatchNorm
    kind = {"batch": batch_norm, "group": SampleNorm, "none": nn.Identity}[norm]
    assert kinds.count(kind) == kinds.count(nn.SiLU) == len(widths)
    F.mse_loss(y, frames(num_inputs=1, seed=5)).backward()
    smallest = min(p.grad.abs().max() for p in net.parameters())
    assert smallest > 1e-10, "gradients reach all parameters"


@every_network
@torch.no_grad()
def test_is_not_linear_and_adds_a_tenth_of_the_readout_to_the_first_guess(name):
    """f(x + y) - f(0) differs from f(x) - f(0) + f(y) - f(0): not even affine."""
    net, x, y = make(name), frames(seed=1), frames(seed=2)
    at_zero = net(torch.zeros_like(x))
    together, apart = net(x + y) - at_zero, net(x) + net(y) - 2 * at_zero
    assert (together - apart).norm() > 1e-2 * (together - (x + y)[:, -2:]).norm()
    change = 0.1 * make(name, residual="none")(x)
    torch.testing.assert_close(net(x), x[:, -2:] + change)
    going_on = make(name, residual="linear", slope=0.8)(x)
    torch.testing.assert_close(going_on, 1.8 * x[:, 2:] - 0.8 * x[:, :2] + change)


@pytest.mark.parametrize("group", ["c4", "d4", "c8"])
@pytest.mark.parametrize("name", [*STRICT, *RELAXED])
def test_vectors_turn_with_the_frames_at_the_start(name, group):
    for norm, residual in (("none", "linear"), ("batch", "none"), ("group", "none")):
        net = make(name, group=group, norm=norm, residual=residual, learn_slope=True).eval()
        assert_equivariant(net, frames(), group, "vector", "vector")
    for size in (8, 11):  # U-Nets pool with and without a rest
        x = frames(size=size, dtype=torch.float64)
        assert_equivariant(net.double(), x, group, "vector", "vector")
    net = make(name, group=group, residual="linear", density=True)
    assert_equivariant(net, frames(channels=3), group, "vector+scalar", "vector+scalar")


@every_network
@torch.no_grad()
def test_the_density_is_a_third_channel_that_every_network_takes_and_forecasts(name):
    """With its own first guess; velocity and density each depend on the other."""
    net = make(name, density=True, residual="linear", slope=0.8)
    x = frames(channels=3)
    (past, last), change = x.chunk(2, 1), 0.1 * make(name, density=True, residual="none")(x)
    torch.testing.assert_close(net(x), 1.8 * last - 0.8 * past + change)
    for given, changed in ((slice(2), slice(2, 3)), (slice(2, 3), slice(2))):
        other = x.clone()
        other[:, given] += 1
        assert not torch.allclose(net(other)[:, changed], net(x)[:, changed], atol=1e-5)
    with pytest.raises(ValueError, match=r"2 frames of 3 components.*`density` of the network"):
        net(frames())


@pytest.mark.parametrize(
    ("group", "kept"),
    [("d4 d4 c4 c4", "c4"), ("d8 d4 d4 c2", "c2"), ("c4 c1 c1 c1", "c1")],
)
@pytest.mark.parametrize("name", ["gcnn", "rgcnn", "rgcnn, free"])
def test_a_group_per_layer_leaves_the_symmetry_of_the_last(name, group, kept):
    group = group.split()
    net = make(name, group=group, num_layers=4, residual="none")
    assert net.group.name == kept
    if kept != "c1":
        assert_equivariant(net, frames(), kept, "vector", "vector")
    assert equivariance_error(net, [frames()], "d4", **VECTORS) > 0.05
    counted = count_parameters(make(name, group=group, num_layers=4, num_parameters=30_000))
    assert counted == pytest.approx(30_000, rel=0.03)


@every_network
@torch.no_grad()
def test_only_relaxed_and_plain_networks_can_leave_the_symmetry(name):
    net = make(name, residual="none")
    for parameter in net.parameters():
        parameter.add_(torch.randn_like(parameter), alpha=0.3)
    error = equivariance_error(net, [frames()], "c4", **VECTORS)
    assert (error < 1e-5) if name in STRICT else (error > 0.05)


@pytest.mark.parametrize("name", ["cnn", "rtrans"])
@torch.no_grad()
def test_networks_without_a_group_are_equivariant_to_translation_alone(name):
    """An output within 3 pixels of a wall sees padding; a shift by (2, 1) brings 2 more in."""
    options = {"grid_size": (16, 16)} if name == "rtrans" else {}
    net, x = make(name, num_layers=3, residual="none", **options), frames(size=16)
    shifted, expected = net(x.roll((2, 1), (-2, -1))), net(x).roll((2, 1), (-2, -1))
    inside = (..., slice(5, -3), slice(4, -3))
    torch.testing.assert_close(shifted[inside], expected[inside], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(shifted, expected, rtol=1e-2)


@every_network
def test_measures_see_every_block(name):
    """And a frame turned without its vectors gives another forecast."""
    net = make(name, residual="none")
    errors = equivariance_errors(net, [frames()], "c4", **VECTORS)
    assert list(errors.per_layer) == [f"blocks.{n}" for n in range(len(net.blocks))]
    if name not in PLAIN:
        assert max(errors.overall, *errors.per_layer.values()) < 1e-5
    assert equivariance_error(net, [frames()], "c4", input="scalar", output="scalar") > 0.05


@pytest.mark.parametrize("options", [{"kernel_size": 5}, {"group": "c3", "norm": "batch"}])
@every_network
def test_equal_number_of_parameters(name, options):
    if name in PLAIN:
        options = {key: value for key, value in options.items() if key != "group"}
    net = make(name, num_parameters=60_000, **options)
    assert count_parameters(net) == pytest.approx(60_000, rel=0.03)


@every_norm
@every_network
def test_the_counted_number_of_parameters_is_the_real_one(monkeypatch, name, norm):
    counted = []

    def resolve(hidden_channels, num_layers, num_parameters, count):
        widths = [3, 1, 4, 2, 5, 2, 1, 2, 6, 2][:num_layers]
        counted.append(count(widths))
        return widths

    monkeypatch.setattr("src.models.components.forecasters.resolve_widths", resolve)
    options = {"num_inputs": 3, "norm": norm, "residual": "linear", "learn_slope": True}
    options["density"] = norm == "group"
    assert [count_parameters(make(name, **options))] == counted


@pytest.mark.parametrize("residual", [*RESIDUALS, True, False])
def test_the_first_guess(residual, caplog):
    """And a slope is learned where there is one. Stored configs have true and false."""
    with caplog.at_level(logging.WARNING):
        guess = FirstGuess(residual, 2, slope=0.5, learn_slope=True)
    assert caplog.messages == (
        [f"`residual={residual}` is read as '{guess.residual}': it is a name now."]
        if isinstance(residual, bool)
        else []
    )
    x = frames()
    past, last = x[:, :2], x[:, 2:]
    expected = {"none": 0 * last, "last": last, "linear": 1.5 * last - 0.5 * past}
    names = {True: "last", False: "none"} | {name: name for name in RESIDUALS}
    torch.testing.assert_close(guess(x), expected[names[residual]])
    assert [name for name, _ in guess.named_parameters()] == ["slope"] * (residual == "linear")


@pytest.mark.parametrize("name", U_SHAPED)
@torch.no_grad()
def test_u_nets_against_the_obvious_one(name):
    """Three levels, each written out: by pixels, and elements as channels."""
    net, x = make(name, residual="none").double(), frames(size=12, dtype=torch.float64)

    def pool(x):
        return torch.stack([x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)]).amax(0)

    def up(x):
        flat = x.flatten(1, -3)
        return F.interpolate(flat, scale_factor=2, mode="bilinear").unflatten(1, x.shape[1:-2])

    down_1, down_2, bottom, up_2, up_1 = (
        lambda x, first=first, second=second: second(first(x))
        for first, second in zip(net.blocks[::2], net.blocks[1::2])
    )
    one = down_1(x)
    two = down_2(pool(one))
    x = up_2(torch.cat((two, up(bottom(pool(two)))), 1))
    expected = net.readout(up_1(torch.cat((one, up(x)), 1)))
    torch.testing.assert_close(net(frames(size=12, dtype=torch.float64)), expected)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cnn", {"kernel_size": 4}, "`kernel_size` must be odd.*got 4. Use 3 or 5"),
        ("rtrans", {"num_layers": 2}, "`num_layers` must be an integer of at least 3; got 2"),
        ("rgcnn", {"norm": "instance"}, "`norm` must be one of batch, group, none; got 'instance'"),
        ("rsteer", {"num_parameters": 50}, "must be met within 3%; widths .* Ask for more"),
        ("gunet", {"group": ["c8", "c4"]}, "`group` must be one for all levels of a U-Net; got"),
        ("unet", {"num_levels": 0}, "`num_levels` must be an integer of at least 1; got 0"),
        ("dilresnet", {"num_blocks": 0}, "`num_blocks` must be an integer of at least 1; got 0"),
        ("cnn", {"num_inputs": 1, "residual": "linear"}, "one of none, last with one input fr.*2"),
        ("cnn", {"residual": "first"}, "`residual` must be one of none, last, linear; got 'first'"),
        ("cnn", {"slope": None}, "`slope` must be a finite number; got None. Use 1.0"),
        ("cnn", {"num_inputs": 0}, "`num_inputs` must be an integer of at least 1; got 0"),
        ("gcnn", {"hidden_channels": [4] * 5}, "one per hidden layer; got 5 for 4. Give 4"),
        ("gcnn", {"group": "so2"}, "`group` must be 'cN'"),
        ("e2cnn", {"group": "so2"}, "`group` must be 'cN'"),
        ("rgcnn", {"num_filter_banks": 0}, "`num_filter_banks` must be an integer of at least 1"),
        ("rtrans", {"num_filter_banks": 0}, "`num_filter_banks` must be an integer of at least 1"),
    ],
)
def test_bad_arguments(name, options, message):
    with pytest.raises(ValueError, match=message):
        make(name, **options)


@pytest.mark.parametrize("shape", [(2, 4, 8, 8), (6, 8, 8), (2, 3, 2, 8, 8), (2, 6, 8, 8)])
def test_wrong_input(shape):
    message = r"shape \[B, 6, H, W\] \(3 frames.*got .*`num_inputs`"
    if shape == (2, 6, 8, 8):  # of another size than the maps
        message = r"\[B, 6, 10, 10\].*got \[2, 6, 8, 8\]"
    with pytest.raises(ValueError, match=message):
        make("rtrans", num_inputs=3)(torch.randn(shape))
