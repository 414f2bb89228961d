"""Layers relaxed over a group; that they equal their slow twin is tested in test_base.py."""

import pytest
import torch

from scripts.benchmarks import layers
from src.models.components.gcnn import RelaxedLiftingConv, RelaxedVectorReadout
from tests.helpers.equivariance import equivariance_error
from tests.helpers.layer_cases import RELAXED, assert_equals_twin, make_input, make_layer


@pytest.mark.parametrize("group", ["c2", "c4", "d1", "d4"])
@pytest.mark.parametrize("moved", ["relaxed_weights", "group_biases"])
@pytest.mark.parametrize("name", RELAXED)
def test_weights_start_equal_and_moving_one_breaks_equivariance(name, group, moved):
    layer = make_layer(name, 3, group)
    arguments = make_input(layer), group, layer.in_type, layer.out_type
    assert torch.equal(layer.relaxed_weights, torch.ones(3, layer.group.order))
    assert equivariance_error(layer, *arguments) < 1e-5
    if getattr(layer, moved) is not None:
        with torch.no_grad():
            getattr(layer, moved)[0, 1] += 0.5
        assert equivariance_error(layer, *arguments) > 1e-2


def test_group_biases_and_a_bias_do_not_need_each_other(double_precision):
    assert_equals_twin(make_layer("relaxed group", 3, "d2", bias=False))
    layer = RelaxedLiftingConv(2, 3, 3, "c4")
    assert layer.group_biases is None
    assert set(layer.state_dict()) == {"weight", "relaxed_weights", "bias"}
    with pytest.raises(TypeError, match="group_biases"):  # a constant vector does not turn
        RelaxedVectorReadout(2, 3, 3, "c4", group_biases=True)


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
