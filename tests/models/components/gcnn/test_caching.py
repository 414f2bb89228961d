"""A changed parameter must never meet a stale kernel, and an unchanged one builds it once."""

import copy
import io

import pytest
import torch
from torch.func import functional_call

from src.models.components.e2cnn import E2Conv
from src.models.components.gcnn import (
    GroupConv,
    LiftingConv,
    RelaxedGroupConv,
    RelaxedLiftingConv,
    RelaxedVectorReadout,
    VectorReadout,
    kernels_built_once,
)
from src.models.components.steerable import RelaxedSteerableConv

LAYERS = {
    "lifting": lambda: LiftingConv(2, 3, 3, "c4"),
    "group": lambda: GroupConv(2, 3, 3, "c4"),
    "relaxed lifting": lambda: RelaxedLiftingConv(2, 3, 3, "c4", num_filter_banks=2),
    "relaxed group": lambda: RelaxedGroupConv(2, 3, 3, "c4", num_filter_banks=2),
    "readout": lambda: VectorReadout(2, 3, 3, "c4"),
    "relaxed readout": lambda: RelaxedVectorReadout(2, 3, 3, "c4", num_filter_banks=2),
    "e2cnn": lambda: E2Conv(2, 3, 3, "c4"),
    "relaxed steerable": lambda: RelaxedSteerableConv(2, 3, 3, "c4"),
    "large relaxed group": lambda: RelaxedGroupConv(2, 3, 5, "c8", num_filter_banks=2),
}


@pytest.fixture(params=LAYERS)
def layer(request):
    layer = LAYERS[request.param]()
    layer.built = 0
    build = layer.expanded_kernel

    def counting():
        layer.built += 1
        return build()

    layer.expanded_kernel = counting
    return layer


def inputs(layer):
    group = () if layer.in_type == "scalar" else (layer.group.order,)
    return torch.randn(2, 2, *group, 6, 6)


def fresh(layer, x):
    """What the layer gives without any cache."""
    twin = type(layer).__new__(type(layer))
    twin.__dict__.update({k: v for k, v in layer.__dict__.items() if k != "expanded_kernel"})
    twin.kernel_cache = type(layer.kernel_cache)()
    with torch.no_grad():
        return twin(x)


@torch.no_grad()
def test_evaluation_builds_once(layer):
    layer.eval()
    x = inputs(layer)
    first = layer(x)
    assert all(torch.equal(layer(x), first) for _ in range(3))
    assert layer.built == 1


def test_training_builds_each_time_without_the_context(layer):
    x = inputs(layer)
    layer(x), layer(x)
    assert layer.built == 2


def in_place(layer):
    with torch.no_grad():
        layer.weight.mul_(2)


def through_data(layer):
    layer.weight.data.mul_(2)


def one_number_through_data(layer):
    layer.weight.data.view(-1)[-1] += 1


def new_data(layer):
    layer.weight.data = torch.randn_like(layer.weight)


def state_dict(layer):
    layer.load_state_dict({k: torch.randn_like(v) for k, v in layer.state_dict().items()})


def optimizer_step(layer):
    for p in layer.parameters():
        p.grad = torch.randn_like(p)
    torch.optim.Adam(layer.parameters(), lr=0.1).step()


def swap_in_an_average(layer):
    """As an exponential moving average is put in for evaluation."""
    averages = [torch.randn_like(p) for p in layer.parameters()]
    for parameter, average in zip(layer.parameters(), averages):
        parameter.data, average.data = average.data, parameter.data


def new_parameter(layer):
    layer.weight = torch.nn.Parameter(torch.randn_like(layer.weight))


def dtype_and_back(layer):
    layer.double().float()
    in_place(layer)


CHANGES = [
    in_place,
    through_data,
    one_number_through_data,
    new_data,
    state_dict,
    optimizer_step,
    swap_in_an_average,
    new_parameter,
    dtype_and_back,
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("once", [False, True])
def test_a_changed_parameter_meets_no_stale_kernel(layer, change, once):
    x = inputs(layer)
    with torch.set_grad_enabled(once), kernels_built_once(layer if once else torch.nn.Identity()):
        before = layer.train(once)(x)
        change(layer)
        after = layer(x)
    assert not torch.allclose(before, after)
    assert torch.equal(after.detach(), fresh(layer, x))


def test_relaxed_weights_count_too():
    layer = LAYERS["relaxed group"]().eval()
    x = inputs(layer)
    with torch.no_grad():
        before = layer(x)
        layer.relaxed_weights.data[0, 1] += 1
        assert not torch.allclose(layer(x), before)


@torch.no_grad()
def test_functional_call_uses_its_own_parameters(layer):
    x = inputs(layer)
    before = layer.eval()(x)
    other = {name: torch.randn_like(p) for name, p in layer.named_parameters()}
    called = functional_call(layer, other, (x,))
    assert torch.equal(layer(x), before)
    layer.load_state_dict(other)
    assert torch.equal(called, layer(x))


def test_functional_gradients(layer):
    x = inputs(layer)
    with torch.no_grad():
        layer.eval()(x)
    parameters = {name: p.detach() for name, p in layer.named_parameters()}
    grads = torch.func.grad(lambda p: functional_call(layer, p, (x,)).square().sum())(parameters)
    expected = torch.autograd.grad(layer(x).square().sum(), list(layer.parameters()))
    for name, value in zip(parameters, expected):
        assert torch.allclose(grads[name], value, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_deep_copy_and_a_pickle_keep_nothing(layer):
    x = inputs(layer)
    del layer.expanded_kernel
    before = layer.eval()(x)
    twin = copy.deepcopy(layer)
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    thawed = torch.load(file, weights_only=False)
    twin.weight.mul_(2)
    for other in (twin, thawed):
        assert torch.equal(other(x), fresh(other, x))
    assert torch.equal(layer(x), before)
    assert not torch.allclose(twin(x), before)


def test_one_kernel_for_a_rollout_with_the_same_gradients(layer):
    xs = [inputs(layer) for _ in range(6)]
    parameters = list(layer.parameters())
    apart = torch.autograd.grad(sum(layer(x).square().mean() for x in xs), parameters)
    assert layer.built == 6
    with kernels_built_once(layer):
        loss = sum(layer(x).square().mean() for x in xs)
    assert layer.built == 7
    for ours, theirs in zip(torch.autograd.grad(loss, parameters), apart):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_a_second_backward_inside_the_context_has_a_new_graph(layer):
    x = inputs(layer)
    with kernels_built_once(layer):
        for _ in range(2):
            layer(x).sum().backward()
    assert layer.built == 2


def test_gradients_flow_after_evaluation(layer):
    x = inputs(layer)
    with torch.inference_mode():
        layer.eval()(x)
    with torch.no_grad():
        layer(x)
    layer(x).sum().backward()
    assert layer.weight.grad.abs().sum() > 0


@torch.no_grad()
def test_autocast_has_its_own_kernel(layer):
    x = inputs(layer)
    full = layer.eval()(x)
    with torch.autocast("cpu", torch.bfloat16):
        half = layer(x)
    assert half.dtype == torch.bfloat16
    assert torch.equal(layer(x), full)


def test_state_has_the_same_keys_in_training_and_evaluation(layer):
    keys = layer.state_dict().keys()
    with torch.no_grad():
        layer.eval()(inputs(layer))
    assert layer.state_dict().keys() == keys


def test_a_kernel_of_a_transform_ends_with_the_transform(layer):
    """What `torch.func` wraps is of no use outside, nor in the next transform."""
    layer.requires_grad_(False)
    x, one = inputs(layer), torch.ones(())
    expected = fresh(layer, x)
    slope = torch.func.grad(lambda scale: (scale.square() * layer(x)).sum())
    for _ in range(2):
        torch.func.grad(slope)(one)
        assert layer.kernel_cache._kernel is None
    assert torch.equal(layer(x), expected)
