"""Layers relaxed over a group; that they equal their slow twin is tested in test_base.py."""

import pytest
import torch

from scripts.benchmarks import layers
from src.models.components.gcnn import (
    GroupConv,
    LiftingConv,
    RelaxedGroupConv,
    RelaxedLiftingConv,
    RelaxedVectorReadout,
)
from src.models.components.gcnn.relaxation import set_relaxation
from tests.helpers.equivariance import assert_equivariant, equivariance_error
from tests.helpers.layer_cases import (
    FREE,
    RELAXED,
    assert_equals_twin,
    make_input,
    make_layer,
    randomize,
)

PARTS = ["relaxed_weights", "group_biases", "kernel_biases", "free_kernel"]
every_free_layer = pytest.mark.parametrize("name", FREE)


def arguments_of(layer):
    return layer, make_input(layer), layer.group.name, layer.in_type, layer.out_type


@pytest.mark.parametrize("group", ["c2", "c4", "d1", "d4"])
@pytest.mark.parametrize("moved", PARTS)
@pytest.mark.parametrize("name", [*RELAXED, *FREE])
def test_every_part_starts_strict_and_moving_it_breaks_equivariance(name, group, moved):
    layer = make_layer(name, 3, group)
    if layer.relaxed_weights is not None:
        assert torch.equal(layer.relaxed_weights, torch.ones(3, layer.group.order))
    assert equivariance_error(*arguments_of(layer)) < 1e-5
    if getattr(layer, moved) is not None:
        with torch.no_grad():
            getattr(layer, moved)[0, 1].view(-1)[0] += 0.5
        assert equivariance_error(*arguments_of(layer)) > 1e-2


@pytest.mark.parametrize("name", [*RELAXED, *FREE])
def test_one_step_of_training_breaks_equivariance(double_precision, name):
    layer = make_layer(name)
    (layer(make_input(layer)) ** 3).sum().backward()  # no gradient that all elements share
    torch.optim.SGD(layer.parameters(), lr=0.1).step()
    assert equivariance_error(*arguments_of(layer)) > 1e-3


def test_parts_do_not_need_each_other(double_precision):
    assert_equals_twin(make_layer("relaxed group", 3, "d2", bias=False))
    assert_equals_twin(make_layer("free group", 3, "d2", num_filter_banks=None, bias=False))
    layer = RelaxedLiftingConv(2, 3, 3, "c4")
    assert layer.group_biases is layer.kernel_biases is layer.free_kernel is None
    assert set(layer.state_dict()) == {"weight", "relaxed_weights", "bias"}
    with pytest.raises(TypeError, match="group_biases"):  # a constant vector does not turn
        RelaxedVectorReadout(2, 3, 3, "c4", group_biases=True)


@every_free_layer
def test_free_kernels_count_theta_times(double_precision, name):
    """Exactly nothing at theta = 0, whatever their values, and linearly at any other number."""
    layer = make_layer(name, num_filter_banks=None)
    strict = layer.expanded_kernel().detach()
    randomize(layer)
    with torch.no_grad():
        layer.weight.copy_(make_layer(name, num_filter_banks=None).weight)
        if getattr(layer, "group_biases", None) is not None:
            layer.group_biases.zero_()
    free = layer.expanded_kernel().detach() - strict
    for theta in (0.0, 0.3, 1.0):
        set_relaxation(layer, theta)
        torch.testing.assert_close(layer.expanded_kernel(), strict + theta * free)
    layer.relaxation.fill_(-2.0)  # as a learned one may be
    torch.testing.assert_close(layer.expanded_kernel(), strict - 2 * free)
    set_relaxation(layer, 0.0)
    assert torch.equal(layer.expanded_kernel(), strict)
    assert layer.relaxation_penalty() == layer.relaxed_weight_error() == 0
    assert_equivariant(*arguments_of(layer))


@every_free_layer
def test_penalty_and_error_of_free_kernels(double_precision, name):
    """Sums and means of absolute values, of what is used at theta."""
    layer = make_layer(
        name, num_filter_banks=None, **({} if "readout" in name else {"bias": False})
    )
    randomize(layer)
    if getattr(layer, "group_biases", None) is not None:
        layer.group_biases.data.zero_()
    set_relaxation(layer, 0.5)
    free = [layer.kernel_biases, layer.free_kernel]
    penalty = 0.5 * sum(kernel.abs().sum() for kernel in free)
    torch.testing.assert_close(layer.relaxation_penalty(), penalty)
    error = 0.5 * sum(kernel.abs().mean() for kernel in free) / layer.weight.abs().mean()
    torch.testing.assert_close(layer.relaxed_weight_error(), error)


@pytest.mark.parametrize("group", ["c4", "c8"])
@pytest.mark.parametrize("strict", [LiftingConv, GroupConv])
def test_without_banks_a_layer_starts_as_the_strict_one_of_its_seed(strict, group):
    relaxed = {LiftingConv: RelaxedLiftingConv, GroupConv: RelaxedGroupConv}[strict]
    options = {"num_filter_banks": None, "kernel_biases": True, "free_kernel": "zero"}
    made = []
    for make, own in ((strict, {}), (relaxed, options)):
        torch.manual_seed(0)
        made.append(make(2, 3, 3, group, **own))
    torch.testing.assert_close(*(layer.expanded_kernel() for layer in made))
    assert torch.equal(made[0].weight, made[1].weight[0])
    assert torch.equal(made[0].bias, made[1].bias)


def test_a_free_kernel_starts_at_zero_or_as_a_draw_of_a_new_kernel_times_a_number():
    for start, factor in (("zero", 0.0), (0, 0.0), (1.0, 1.0), (0.2, 0.2)):
        layer = make_layer("free group", 5, "c4", (6, 8), free_kernel=start)
        variance = layer.free_kernel.square().mean() * layer.free_kernel[0, 0].numel()
        assert variance.item() == pytest.approx(factor**2 / 3, rel=0.05)
    message = "`free_kernel` must be a number of at least 0; got {!r}. Use zero, a number"
    for bad in ("one", -1.0, True):
        with pytest.raises(ValueError, match=message.format(bad)):
            make_layer("free group", free_kernel=bad)


SPEED_CASES = [(kind, size) for kind, sizes in layers.SIZES.items() for size in sizes]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "size"), SPEED_CASES, ids=str)
@pytest.mark.parametrize("run", layers.PASSES)
@pytest.mark.parametrize("version", ["bank", "sum", "ours"])
def test_speed_of_building_the_kernel(benchmark, kind, size, run, version):
    """`make bench`; `scripts/benchmark_layers.py` times the versions in turn instead."""
    benchmark.group = f"{kind} {size}, {run}"
    layer = layers.make_layer(kind, size)
    build = layers.make_builders(layer)[version]
    kernel = benchmark(layers.PASSES[run](build, list(layer.parameters())))
    assert kernel is not None
