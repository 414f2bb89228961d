"""A changed parameter must never meet a stale kernel, and an unchanged one builds it once."""

import copy
import pickle
from functools import partial
from unittest.mock import Mock

import pytest
import torch
from torch.func import functional_call

from src.models.components import gcnn
from src.models.components.gcnn import kernels_built_once
from src.models.components.gcnn.caching import KernelCache
from tests.helpers.layer_cases import LAYERS, make_input, make_layer


def counted(name):
    """A layer that counts how often it builds its kernel, and an input."""
    layer = make_layer(name)
    layer.expanded_fibres = Mock(wraps=layer.expanded_fibres)
    return layer, make_input(layer, 6, 6)


@pytest.fixture(params=[n for n in LAYERS if n not in ("translation", "lifting of vectors")])
def case(request):
    return counted(request.param)


@pytest.fixture(params=["relaxed group", "steerable"])
def one_of_two(request):
    return counted(request.param)


@torch.no_grad()
def fresh(layer, x):
    """What the layer gives without a kept kernel."""
    twin = copy.copy(layer)
    twin.kernel_cache = KernelCache()
    return twin(x)


def test_evaluation_builds_once_and_training_each_time(case):
    """Another one under autocast; none is saved."""
    layer, x = case
    keys = layer.state_dict().keys()
    layer(x), layer(x)
    assert layer.expanded_fibres.call_count == 2
    with torch.no_grad():
        first = layer.eval()(x)
        assert all(torch.equal(layer(x), first) for _ in range(3))
        assert layer.expanded_fibres.call_count == 3
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(x).dtype == torch.bfloat16
        assert torch.equal(layer(x), first)
    assert layer.expanded_fibres.call_count == 5
    assert layer.state_dict().keys() == keys


def random_state(layer):
    return {name: torch.randn_like(value) for name, value in layer.state_dict().items()}


def add_to(layer, name):
    """Change a free parameter; the weight, where there is none."""
    parameter = getattr(layer, name, None)
    (layer.weight if parameter is None else parameter).data[0, 1].add_(1)


CHANGES = {
    "in place": lambda layer: torch.nn.init.constant_(layer.weight, 0.5),
    "number through data": lambda layer: layer.weight.data.view(-1)[-1:].add_(1),
    "new data": lambda layer: setattr(layer.weight, "data", torch.randn_like(layer.weight)),
    "new parameter": lambda layer: setattr(
        layer, "weight", torch.nn.Parameter(torch.randn_like(layer.weight))
    ),
    "state": lambda layer: layer.load_state_dict(random_state(layer)),
    "dtype and back": lambda layer: CHANGES["in place"](layer.double().float()),
    "mixing": partial(add_to, name="relaxed_weights"),
    "kernel biases": partial(add_to, name="kernel_biases"),
    "free kernel": partial(add_to, name="free_kernel"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("once", [False, True])
def test_a_changed_parameter_meets_no_stale_kernel(case, change, once):
    layer, x = case
    with torch.set_grad_enabled(once), kernels_built_once(layer if once else torch.nn.Identity()):
        before = layer.train(once)(x)
        CHANGES[change](layer)
        after = layer(x)
    assert not torch.allclose(before, after)
    assert torch.equal(after.detach(), fresh(layer, x))


def test_functional_calls_use_their_own_parameters(one_of_two):
    layer, x = one_of_two
    other = random_state(layer)
    with torch.no_grad():
        before = layer.eval()(x)
        called = functional_call(layer, other, (x,))
        assert torch.equal(layer(x), before)
    grads = torch.func.grad(lambda p: functional_call(layer, p, (x,)).square().sum())(other)
    layer.load_state_dict(other)
    assert torch.equal(called, layer(x))
    expected = torch.autograd.grad(layer(x).square().sum(), list(layer.parameters()))
    for (name, _), value in zip(layer.named_parameters(), expected):
        torch.testing.assert_close(grads[name], value, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_deep_copy_and_a_pickle_keep_nothing(one_of_two):
    layer, x = one_of_two
    del layer.expanded_fibres
    before = layer.eval()(x)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert twin.kernel_cache._kernel is None
        twin.weight.mul_(2)
        assert torch.equal(twin(x), fresh(twin, x))
        assert torch.equal(layer(x), before)
        assert not torch.allclose(twin(x), before)


def test_one_kernel_for_a_rollout_with_the_same_gradients(case):
    layer, x = case
    xs = [x, *(torch.randn_like(x) for _ in range(5))]
    parameters = list(layer.parameters())
    apart = torch.autograd.grad(sum(layer(x).square().mean() for x in xs), parameters)
    assert layer.expanded_fibres.call_count == 6
    with kernels_built_once(layer):
        loss = sum(layer(x).square().mean() for x in xs)
    assert layer.expanded_fibres.call_count == 7
    for ours, theirs in zip(torch.autograd.grad(loss, parameters), apart):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_each_backward_and_each_parameter_has_its_own_graph(one_of_two):
    """Inside the context, after evaluation, and for a new parameter of equal values."""
    layer, x = one_of_two
    with torch.inference_mode():
        layer.eval()(x)
    with torch.no_grad():
        layer(x)
    layer.expanded_fibres.reset_mock()
    with kernels_built_once(layer):
        for _ in range(2):
            layer(x).sum().backward()
        assert layer.expanded_fibres.call_count == 2
        layer(x)
        layer.weight = torch.nn.Parameter(layer.weight.detach().clone())
        layer(x).sum().backward()
    assert layer.expanded_fibres.call_count == 4
    assert layer.weight.grad.abs().sum() > 0


def test_a_kernel_of_a_transform_ends_with_the_transform(one_of_two):
    """What `torch.func` wraps is of no use outside, nor in the next transform."""
    layer, x = one_of_two
    layer.requires_grad_(False)
    expected = fresh(layer, x)
    slope = torch.func.grad(lambda scale: (scale.square() * layer(x)).sum())
    for _ in range(2):
        torch.func.grad(slope)(torch.ones(()))
        assert layer.kernel_cache._kernel is None
    assert torch.equal(layer(x), expected)


@pytest.mark.parametrize("pool_size", [2, 3])
def test_feature_maps_stay_in_one_order_of_memory(pool_size):
    """Channels last of all, elements before them: no layer copies what the one before gave."""
    layers = [
        gcnn.LiftingConv(1, 3, 3, "c4"),
        gcnn.GroupBatchNorm(3),
        torch.nn.SiLU(),
        gcnn.SpatialPool(pool_size),
        gcnn.RelaxedGroupConv(3, 5, 3, "c4", num_filter_banks=2),
    ]
    x = torch.randn(2, 1, 12, 12)
    for layer in layers:
        x = layer(x)
        assert x.permute(0, 3, 4, 2, 1).is_contiguous(), f"copied by {type(layer).__name__}"


def test_other_orders_of_memory_give_the_same(case):
    layer, x = case
    orders = [x, x.to(memory_format=torch.channels_last) if x.dim() == 4 else x.mT.contiguous().mT]
    results = [fresh(layer, order) for order in orders]
    torch.testing.assert_close(*results)
