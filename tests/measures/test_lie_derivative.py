import math
import random
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from src.measures.generators import InfinitesimalAction
from src.measures.lie_derivative import lie_derivative, lie_derivatives, terms
from src.measures.substitution import substituted_outputs
from src.models.components.classifiers import CNN, GCNN, RelaxedGCNN
from src.models.components.gcnn import (
    GroupBatchNorm,
    GroupConv,
    GroupPool,
    LiftingConv,
    RelaxedGroupConv,
    RelaxedLiftingConv,
    SpatialPool,
    VectorReadout,
)
from tests.helpers.slow_lie import mean_rms, slow_derivative, slow_derivative_after

TRANSFORMATIONS = ("rotation", "translation_x", "translation_y")
MODELS = Path(__file__).resolve().parents[2] / "configs" / "model"


class Function(nn.Module):
    """Any function of a batch as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Network(nn.Module):
    """Blocks, then a mean over everything but batch and channels."""

    def __init__(self, *blocks):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x.flatten(2).mean(2) if x.ndim > 2 else x


class VectorNetwork(nn.Module):
    """Adds what it computes to the last vector of its input, as networks that forecast do."""

    def __init__(self, in_vectors=2):
        super().__init__()
        conv = RelaxedLiftingConv(in_vectors, 3, 3, "c4", in_type="vector")
        self.blocks = nn.Sequential(
            nn.Sequential(conv, nn.ELU(inplace=True)),
            nn.Sequential(RelaxedGroupConv(3, 2, 3, "c4"), nn.ELU(inplace=True)),
        )
        self.readout = VectorReadout(2, 1, 3, "c4")

    def forward(self, x):
        return x[:, -2:] + self.readout(self.blocks(x))


def images(batch=3, channels=2, size=7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, channels, *((size, size) if isinstance(size, int) else size))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def with_border(x, width):
    """Zeros around."""
    return F.pad(x, (width,) * 4)


def derivative(function, x, transformation="rotation", **options):
    return lie_derivative(Function(function), [x], transformation, **options)


def spoil(network, seed=0):
    """Batch norms and relaxed weights as after some training."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2.0, generator=generator)
        if hasattr(module, "relaxed_weights"):
            module.relaxed_weights.data.uniform_(0, 1, generator=generator)
    return network.double()


def strict_network(group="c4"):
    torch.manual_seed(0)
    first = nn.Sequential(LiftingConv(1, 3, 3, group), GroupBatchNorm(3), nn.ELU(inplace=True))
    second = nn.Sequential(GroupConv(3, 3, 3, group), SpatialPool(), nn.ELU(inplace=True))
    return spoil(Network(first, second, GroupPool()))


def relaxed_network():
    torch.manual_seed(0)
    options = {"num_filter_banks": 2}
    first = nn.Sequential(RelaxedLiftingConv(1, 3, 3, "c4", **options), nn.ELU(inplace=True))
    second = nn.Sequential(RelaxedGroupConv(3, 3, 3, "c4", **options), nn.ELU(inplace=True))
    return spoil(Network(first, second))


def cnn():
    torch.manual_seed(0)
    first = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ELU(inplace=True))
    return spoil(Network(first, nn.MaxPool2d(2), nn.Conv2d(4, 3, 3, padding=1)))


# -- against pictures that are really moved ------------------------------------------------------


@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
@pytest.mark.parametrize("size", [8, (6, 9)])
@pytest.mark.parametrize("kind", ["invariant", "scalar", "vector"])
def test_equals_a_difference_of_moved_pictures(kind, size, transformation):
    torch.manual_seed(0)
    first, second = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1)
    network = nn.Sequential(first, nn.ELU(), second).double()
    if kind == "invariant":
        network.append(nn.Sequential(nn.Flatten(2), Function(lambda x: x.square().mean(2))))
    x = images(size=size)
    for input in ("scalar", "vector"):
        options = {"output": kind, "input": input}
        expected = mean_rms(slow_derivative(network, x, transformation, **options))
        assert expected > 1e-3
        got = lie_derivative(network, [x], transformation, **options)
        assert got == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
@pytest.mark.parametrize("group", ["c4", "c5", "d3"])
def test_equals_a_difference_of_moved_feature_maps(group, transformation):
    """With pooling: the maps have half the pixels of the input."""
    torch.manual_seed(0)
    network = nn.Sequential(LiftingConv(2, 3, 3, group), nn.ELU(), SpatialPool()).double()
    x = images(size=8)
    num_rotations = int(group[1:])
    expected = slow_derivative(network, x, transformation, "regular", "scalar", num_rotations)
    got = lie_derivative(network, [x], transformation, output="regular")
    assert got == pytest.approx(mean_rms(expected), rel=1e-5)


@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
@pytest.mark.parametrize("make", [strict_network, relaxed_network, cnn])
def test_networks_and_their_layers_equal_differences(make, transformation):
    network, x = make().eval(), images(channels=1, size=8)
    assert_layers_equal_differences(network, x, transformation)


@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
def test_networks_with_a_skip_connection_equal_differences(transformation):
    torch.manual_seed(0)
    network = spoil(VectorNetwork())
    options = {"input": "vector", "output": "vector"}
    assert_layers_equal_differences(network, images(channels=4), transformation, **options)


def assert_layers_equal_differences(network, x, transformation, **options):
    with torch.no_grad():
        h = [slow_derivative(network, x, transformation, num_rotations=4, **options)]
        for last in range(len(network.blocks)):
            h.append(
                slow_derivative_after(network, last, x, transformation, num_rotations=4, **options)
            )
        y = network(x)
    got = lie_derivatives(network, [x], transformation, **options)
    assert got.overall == pytest.approx(mean_rms(h[0]), rel=1e-5)
    sizes = zip(h[0], y)
    ratios = [(a.square().mean() / b.square().mean()).sqrt().item() for a, b in sizes]
    assert got.relative == pytest.approx(np.mean(ratios), rel=1e-5)
    names = [f"blocks.{i}" for i in range(len(network.blocks))]
    assert list(got.per_layer) == [*names, "head"]
    expected = [*(a - b for a, b in pairwise(h)), h[-1]]
    expected = dict(zip(got.per_layer, map(mean_rms, expected)))
    assert got.per_layer == pytest.approx(expected, rel=1e-5, abs=1e-6 * got.overall)


# -- closed forms --------------------------------------------------------------------------------


def squared_radius(x):
    rows, columns = (torch.arange(n, dtype=x.dtype) - (n - 1) / 2 for n in x.shape[-2:])
    return rows[:, None] ** 2 + columns**2


@pytest.mark.parametrize("size", [9, 10, (8, 11)])
@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.square().sum((2, 3)),
        lambda x: (squared_radius(x) * x).sum((2, 3)),
        lambda x: x.sum((2, 3)).sin(),
    ],
)
def test_functions_that_turning_leaves_alone(function, size):
    x = with_border(images(size=size), 1)
    value = function(x).square().mean().sqrt()
    assert derivative(function, x) < 1e-12 * value


def test_known_value_of_a_rotation():
    """f(x) = x at a pixel p: d/dt x(R_t^-1 p) = -p_row dx/dcolumn + p_column dx/drow."""
    x = images(batch=1, channels=1, size=5)
    row, column = 1, 4
    by_column, by_row = (0 - x[0, 0, 1, 3]) / 2, (x[0, 0, 2, 4] - x[0, 0, 0, 4]) / 2
    expected = abs(-(row - 2) * by_column + (column - 2) * by_row).item()
    got = derivative(lambda x: x[:, :, row, column], x)
    assert got == pytest.approx(expected, rel=1e-12)


def test_known_value_of_a_constant_vector():
    """It does not turn with the input: |A c| = |(c1, -c0)|, except for what the border adds."""

    def constant(x):
        c = torch.tensor([3.0, 4.0], dtype=x.dtype).view(1, 2, 1, 1).expand(len(x), 2, *x.shape[2:])
        return with_border(c[:, :, 1:-1, 1:-1], 1) + 0 * x.sum()

    inner = InfinitesimalAction("rotation", (4, 4))("vector", constant(images(size=4)))
    expected = inner[0].square().mean().sqrt().item()
    assert derivative(constant, images(size=4), output="vector") == pytest.approx(expected)
    x = images(size=61)
    assert derivative(lambda x: constant(x)[..., 20:40, 20:40], x, output="vector") == (
        pytest.approx(mean_border_free(x), rel=1e-12)
    )


def mean_border_free(x):
    c = torch.tensor([3.0, 4.0], dtype=x.dtype).view(1, 2, 1, 1).expand(1, 2, 20, 20)
    return InfinitesimalAction("rotation", (20, 20))("vector", c).square().mean().sqrt().item()


@pytest.mark.parametrize("transformation", ["translation_x", "translation_y"])
def test_convolutions_move_with_what_they_see(transformation):
    x = with_border(images(size=5), 3)
    conv = nn.Conv2d(2, 2, 3, padding=1, bias=False).double()
    assert lie_derivative(conv, [x], transformation, output="scalar") < 1e-12
    assert lie_derivative(conv, [x], transformation, output="vector", input="vector") < 1e-12
    lifting = LiftingConv(2, 2, 3, "c8", bias=False).double()
    assert lie_derivative(lifting, [x], transformation, output="regular") < 1e-12
    assert lie_derivative(conv, [x], "rotation", output="scalar") > 0.1


def test_isotropic_operators_are_nearly_equivariant_under_rotation():
    """The gradient of a smooth spot, a vector field; wrong signs or kinds are far off."""
    axis = torch.arange(31, dtype=torch.float64) - 15
    x = torch.exp(-((axis[:, None] - 3) ** 2 + (axis + 2) ** 2) / 32)[None, None]

    def gradient(x, sign=1):
        padded = F.pad(x, (1, 1, 1, 1))
        columns = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
        rows = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
        return torch.cat([columns, sign * rows], 1)

    right = lie_derivatives(Function(gradient), [x], output="vector").relative
    assert right < 0.05
    assert lie_derivatives(Function(gradient), [x], output="scalar").relative > 0.5
    flipped = Function(lambda x: gradient(x, -1))
    assert lie_derivatives(flipped, [x], output="vector").relative > 0.5


def test_speed_is_a_scalar_of_a_vector_input():
    v = with_border(images(), 1)

    def energy(v):
        return v.square().sum((1, 2, 3), keepdim=True).flatten(1)

    assert derivative(energy, v, input="vector") < 1e-12
    assert derivative(lambda v: v[:, :1].square().mean((2, 3)), v, input="vector") > 1e-3


@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
@pytest.mark.parametrize("kind", ["scalar", "vector"])
def test_the_identity_has_none(kind, transformation):
    found = lie_derivatives(
        Function(lambda x: x), [images()], transformation, output=kind, input=kind
    )
    assert found == (0.0, 0.0, {}, 0.0)


# -- samples -------------------------------------------------------------------------------------


@pytest.mark.parametrize("transformation", ["rotation", "translation_x"])
@pytest.mark.parametrize("size", [1, 8, 64])
@pytest.mark.parametrize("make", [strict_network, relaxed_network, cnn])
def test_value_does_not_depend_on_the_batch_size(make, size, transformation):
    network, x = make(), images(batch=66, channels=1, size=6)
    expected = lie_derivatives(network, [x], transformation)
    got = lie_derivatives(network, list(x.split(size)), transformation)
    assert got.overall == pytest.approx(expected.overall, rel=1e-12)
    assert got.relative == pytest.approx(expected.relative, rel=1e-12)
    assert got.per_layer == pytest.approx(expected.per_layer, rel=1e-12)


def test_samples_count_the_same():
    """The mean of root mean squares, not the root of a mean."""
    x = torch.zeros(2, 1, 5, 5, dtype=torch.float64)
    x[0, 0, 2, 1], x[1, 0, 2, 1] = 2.0, 20.0
    got = derivative(lambda x: x[:, 0, 2, 2], x, "translation_x")
    assert got == pytest.approx((1 + 10) / 2, rel=1e-12)


def test_zero_outputs():
    assert lie_derivatives(Function(lambda x: 0 * x.mean((2, 3))), [images()]).relative == 0.0
    x = torch.zeros(1, 1, 5, 5)
    x[0, 0, 2, 1] = 1.0
    found = lie_derivatives(Function(lambda x: x[:, :, 2, 2]), [x], "translation_x")
    assert found.relative == math.inf


def test_nan_is_not_hidden():
    assert math.isnan(derivative(lambda x: x * math.nan, images(), output="scalar"))


def test_batches_with_labels():
    x = images(channels=1)
    with_labels = lie_derivative(cnn(), [(x, torch.zeros(3))])
    assert with_labels == lie_derivative(cnn(), [x])


def test_half_precision():
    x = images(channels=1).bfloat16()
    got = lie_derivatives(cnn().bfloat16(), [x])
    expected = lie_derivatives(cnn(), [x.double()])
    assert got.overall == pytest.approx(expected.overall, rel=0.1)


# -- layers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
def test_contributions_add_up_to_the_derivative(transformation):
    torch.manual_seed(0)
    network, x = spoil(VectorNetwork()), images(channels=4)
    action = InfinitesimalAction(transformation, (7, 7), "c4")
    layers = {f"blocks.{i}": block for i, block in enumerate(network.blocks)}
    with torch.no_grad():
        with substituted_outputs(network, layers) as substitution:
            value, parts = terms(substitution, x, action, "vector", "vector")
        with substituted_outputs(network, {}) as substitution:
            _, whole = terms(substitution, x, action, "vector", "vector")
        torch.testing.assert_close(value, network(x))
    assert list(whole) == ["head"]
    assert list(parts) == ["blocks.0", "blocks.1", "head"]
    assert min(part.abs().max() for part in parts.values()) > 1e-3
    torch.testing.assert_close(sum(parts.values()), whole["head"], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("broken", [0, 1, 2, 3])
def test_the_broken_layer_is_found(broken):
    """Sharp functions of every pixel by itself move along; one weighs pixels by where they are."""
    x = with_border(images(channels=2), 2)
    blocks = [Function(lambda x: 2 * x) for _ in range(4)]
    ramp = torch.arange(11, dtype=torch.float64)
    blocks[broken] = Function(lambda x: x * ramp)
    network = Network(*blocks)
    for transformation in ("rotation", "translation_x"):
        overall, _, per_layer, _ = lie_derivatives(network, [x], transformation)
        found = per_layer.pop(f"blocks.{broken}")
        assert found == pytest.approx(overall, rel=1e-12)
        assert max(per_layer.values()) < 1e-12 * overall


def test_a_broken_relaxed_layer_is_found():
    """The further from strict, the more; weights vary slowly with the angle, as C16 can show."""
    torch.manual_seed(0)
    options = {"hidden_channels": 4, "num_layers": 4, "pool_after": [], "group_pool": "mean"}
    network = RelaxedGCNN(group="c16", interpolation="harmonic", **options)
    x = smooth_images(4)
    angles = 2 * math.pi / 16 * torch.arange(16)
    found = []
    for departure in (0.0, 0.5, 1.0, 3.0):
        network.blocks[1][0].relaxed_weights.data[:] = 1 + departure * torch.cos(2 * angles)
        found.append(lie_derivatives(normalised(network, x), [x]))
    values = [each.relative for each in found]
    assert 0 < values[0] < 0.3 * values[-1]
    assert values == sorted(values)
    parts = found[-1].per_layer
    assert max(parts, key=parts.get) == "blocks.1"


def smooth_images(batch=8, size=28):
    """Strokes and spots inside of a disc, as digits are."""
    x = F.avg_pool2d(images(batch, 1, size + 4, seed=1), 5, stride=1)
    fade = (1 - squared_radius(x) / (0.35 * size) ** 2).clamp(min=0)
    return (5 * x * fade).float()


@torch.no_grad()
def normalised(network, x):
    """Batch norms hold the statistics of these images, and no constant covers the outputs."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
    network.train()(x)
    network.head.bias.zero_()
    return network


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_symmetric_networks_have_less_under_rotation(seed):
    """Untrained networks of the same widths, in units of their outputs."""
    options = {"hidden_channels": 8, "num_layers": 4, "pool_after": []}
    x = smooth_images()
    torch.manual_seed(seed)
    plain = normalised(CNN(**options), x)
    strict = normalised(GCNN(group="c8", interpolation="harmonic", **options), x)
    plain, strict = (lie_derivatives(network, [x]).relative for network in (plain, strict))
    assert 0 < strict < 0.5 * plain


def test_model_without_blocks_has_no_layers():
    assert lie_derivatives(Function(lambda x: x.mean((2, 3))), [images()]).per_layer == {}


def test_layers_are_left_out_on_request():
    network, x = cnn(), images(channels=1)
    whole = lie_derivatives(network, [x])
    without = lie_derivatives(network, [x], per_layer=False)
    assert without.per_layer == {}
    assert without.overall == lie_derivative(network, [x])
    assert without.overall == pytest.approx(whole.overall, rel=1e-12)


def test_blocks_that_are_not_run_are_left_out():
    network = cnn()
    network.blocks.append(nn.Identity())
    network.forward = lambda x: network.blocks[0](x).mean((2, 3))
    assert list(lie_derivatives(network, [images(channels=1)]).per_layer) == ["blocks.0", "head"]


def test_blocks_are_taken_in_the_order_in_which_they_run():
    network = cnn()
    blocks = list(network.blocks)
    network.blocks = nn.ModuleList([blocks[2], blocks[0]])
    network.forward = lambda x: network.blocks[0](network.blocks[1](x)).mean((2, 3))
    found = lie_derivatives(network, [images(channels=1)])
    assert list(found.per_layer) == ["blocks.1", "blocks.0", "head"]


def test_a_block_that_runs_twice_is_an_error():
    network = Network(nn.Conv2d(2, 2, 3, padding=1).double())
    network.forward = lambda x: network.blocks[0](network.blocks[0](x)).mean((2, 3))
    with pytest.raises(ValueError, match=r"run once in a forward pass.*'blocks\.0' ran again"):
        lie_derivatives(network, [images()])
    assert lie_derivative(network, [images()]) > 0


def test_outputs_overwritten_in_place_do_no_harm():
    torch.manual_seed(0)
    conv = nn.Conv2d(2, 2, 3, padding=1).double()
    x = images()
    copy = x.clone()
    for order in (lambda elu: (conv, elu), lambda elu: (elu, conv)):  # of an output, of the input
        expected = lie_derivatives(Network(*order(nn.ELU())), [x])
        got = lie_derivatives(Network(*order(nn.ELU(inplace=True))), [x])
        assert got.overall == pytest.approx(expected.overall, rel=1e-12)
        assert got.per_layer == pytest.approx(expected.per_layer, rel=1e-12)
    assert torch.equal(x, copy)


def test_blocks_that_join_branches():
    """Both are replaced, in the order in which they run, so that the last leaves nothing over."""
    a, b = Function(lambda x: x * 1.0), Function(lambda x: x**3)
    network = Network(a, b)
    network.forward = lambda x: (a(x) * b(x)).sum((2, 3))
    x = with_border(images(), 2)
    found = lie_derivatives(network, [x], "translation_x")
    assert found.overall < 1e-12 or found.per_layer["blocks.0"] < 1e-12 * found.overall


# -- every network of the project ----------------------------------------------------------------

CLASSIFIERS = ("rgcnn", "gcnn", "e2cnn", "cnn")
FORECASTERS = sorted(path.stem for path in MODELS.glob("*_smoke.yaml"))


def network_of(name, **changes):
    torch.manual_seed(0)
    net = OmegaConf.load(MODELS / f"{name}.yaml").net
    return instantiate(OmegaConf.create({**OmegaConf.to_container(net), **changes}))


@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_classifier(name, transformation):
    x = images(batch=4, channels=1, size=12)
    network = normalised(spoil(network_of(name, num_parameters=3000)), x)
    assert_found(network, x, transformation, "invariant", "scalar", 6)


@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
@pytest.mark.parametrize("name", FORECASTERS)
def test_every_forecaster(name, transformation):
    changes = {"num_inputs": 2, "num_parameters": 4000, "norm": "batch"}
    if name == "rtrans_smoke":
        changes["grid_size"] = [8, 8]
    network = spoil(network_of(name, **changes))
    assert_found(network, images(2, 4, 8), transformation, "vector", "vector", 4)


def assert_found(network, x, transformation, output, input, num_blocks):
    kinds = {"output": output, "input": input}
    with torch.no_grad():
        expected = mean_rms(slow_derivative(network.eval(), x, transformation, **kinds))
    network.train()
    found = lie_derivatives(network, [x], transformation, **kinds)
    assert found.overall == pytest.approx(expected, rel=1e-5)
    assert list(found.per_layer) == [*(f"blocks.{i}" for i in range(num_blocks)), "head"]
    assert all(value > 0 for value in found.per_layer.values())
    assert found.floor == 0


# -- what is left behind -------------------------------------------------------------------------


def draw_everything():
    return 0 * (torch.rand(1).item() + random.random() + np.random.rand())  # noqa: NPY002


def test_nothing_of_the_model_or_the_random_state_changes():
    network = strict_network()
    network.blocks[0].append(Function(lambda x: x + draw_everything()))
    network.blocks[1].eval()
    modes = [module.training for module in network.modules()]
    state = {name: value.clone() for name, value in network.state_dict().items()}
    rng = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    x = images(channels=1, size=8)
    copy = x.clone()
    lie_derivatives(network, [x])
    assert torch.equal(x, copy)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())
    assert not any("forward" in vars(module) for module in network.modules())
    assert torch.equal(torch.get_rng_state(), rng[0])
    assert random.getstate() == rng[1]
    assert np.array_equal(np.random.get_state()[1], rng[2])  # noqa: NPY002


def test_modes_and_blocks_are_restored_after_an_error():
    def fail(_):
        raise RuntimeError("inside")

    network = cnn()
    network.blocks.append(Function(fail))
    own = Function(lambda x: x)
    own.forward = own.forward  # an attribute of the block itself
    network.blocks.insert(0, own)
    kept = own.forward
    with pytest.raises(RuntimeError, match="inside"):
        lie_derivatives(network, [images(channels=1)])
    assert all(module.training for module in network.modules())
    assert [m for m in network.modules() if "forward" in vars(m)] == [own]
    assert own.forward == kept
    assert not any(module._forward_hooks for module in network.modules())
    assert torch.func.jvp(torch.sin, (torch.zeros(1),), (torch.ones(1),))[1] == 1


def test_runs_in_eval_mode_without_gradients():
    def check(x):
        assert not model.training
        assert not torch.is_grad_enabled()
        return x.mean((2, 3))

    model = Function(check)
    lie_derivative(model, [images().requires_grad_()])
    assert model.training
    assert torch.is_grad_enabled()


def test_kept_kernels_are_plain_tensors():
    """Those built in forward mode would hold what ends with it."""
    network, x = relaxed_network(), images(channels=1)
    lie_derivatives(network, [x])
    for block in network.blocks:
        kernel = block[0].kernel_cache._kernel
        assert kernel is None or not torch._C._functorch.is_functorch_wrapped_tensor(kernel)
    with torch.no_grad():
        network.blocks[1][0].weight.mul_(2)
    expected = relaxed_network()
    expected.load_state_dict(network.state_dict())
    assert lie_derivatives(network, [x]) == lie_derivatives(expected, [x])


def test_kernels_are_built_once(monkeypatch):
    network, built = relaxed_network(), []
    layer = network.blocks[1][0]
    build = layer.expanded_kernel
    monkeypatch.setattr(layer, "expanded_kernel", lambda: built.append(1) or build())
    lie_derivatives(network, list(images(batch=4, channels=1).split(2)))
    assert len(built) == 1


def test_inside_inference_mode():
    """Where Lightning runs its callbacks of validation and test."""
    network, x = relaxed_network(), images(channels=1)
    expected = lie_derivatives(network, [x])
    with torch.inference_mode():
        assert lie_derivatives(network, [x.clone()]) == expected
    network.blocks[0](x).sum().backward()


@pytest.mark.slow
def test_a_network_compiled_in_place_is_measured_as_written():
    network, x = cnn().eval(), images(channels=1)
    expected = lie_derivatives(network, [x])
    network.compile(backend="eager")
    with torch.no_grad():
        network(x)
    assert lie_derivatives(network, [x]) == expected


# -- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", [lie_derivative, lie_derivatives])
@pytest.mark.parametrize(
    ("transformation", "options", "match"),
    [
        ("shear", {}, "`transformation` must be one of rotation, translation_x.*got 'shear'"),
        ("rotation", {"output": "logits"}, "`output` must be one of invariant.*got 'logits'"),
        ("rotation", {"input": "regular"}, "`input` must be one of scalar, vector; got 'regular'"),
        ("rotation", {"group": "x4"}, "got 'x4'"),
    ],
)
def test_options_are_checked(measure, transformation, options, match):
    with pytest.raises(ValueError, match=match):
        measure(Function(lambda x: x), [images()], transformation, **options)


@pytest.mark.parametrize(
    ("function", "options", "match"),
    [
        (lambda x: x.mean((2, 3)), {"output": "scalar"}, r"output of the network .*\[3, 2\]"),
        (lambda x: x[:, :1], {"output": "vector"}, r"\[B, 2 C, H, W\]; got \[3, 1, 7, 7\]"),
        (lambda x: x[:, :, None], {"output": "regular"}, r"layers have none\. Pass `group`"),
        (
            lambda x: x[:, :, None],
            {"output": "regular", "group": "c4"},
            r"\[B, C, 4, H, W\]; got \[3, 2, 1, 7, 7\]",
        ),
        (lambda x: x[:, :, :2], {"output": "scalar"}, r"output .* 3 x 3 pixels or more"),
        (lambda x: x.flatten(1).argmax(1), {}, r"output of the network .*got torch\.int64"),
        (lambda x: x.mean(), {}, r"\[B, \.\.\.\]; got \[\]"),
        (lambda x: x.mean(0), {}, r"got \[2, 7, 7\] for 3 samples\. Return one output per sample"),
    ],
)
def test_outputs_are_checked(function, options, match):
    with pytest.raises(ValueError, match=match):
        derivative(function, images(), **options)


def test_inputs_are_checked():
    model = Function(lambda x: x.mean((-2, -1)))
    with pytest.raises(ValueError, match=r"the input .* \[B, C, H, W\]; got \[2, 7, 7\]"):
        lie_derivative(model, images())  # a tensor instead of a list of tensors
    with pytest.raises(ValueError, match=r"the input .*floating-point.* got torch\.uint8"):
        lie_derivative(model, [images().byte()])
    with pytest.raises(ValueError, match=r"the input must have 3 x 3 pixels or more"):
        lie_derivative(model, [images(size=(2, 7))])
    for batches in ([], [images(batch=0)]):
        with pytest.raises(ValueError, match="at least one sample; got none"):
            lie_derivative(model, batches)


def test_layers_are_checked():
    network = Network(Function(lambda x: x.flatten(2)))
    with pytest.raises(ValueError, match=r"output of blocks\.0 .*got \[3, 2, 49\]"):
        lie_derivatives(network, [images()])
    network = Network(LiftingConv(2, 2, 3, "c4").double())
    with pytest.raises(ValueError, match=r"output of blocks\.0 .*\[B, C, 8, H, W\]"):
        lie_derivatives(network, [images()], group="c8")
