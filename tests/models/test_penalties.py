"""Penalties on departures and on outputs are those of the loops, and apply or are refused."""

import pytest
import torch
from torch import nn

from src.models.components.classifiers import CNN, GCNN, RelaxedGCNN
from src.models.components.gcnn import make_group
from src.models.components.gcnn.relaxation import relaxed_layers, set_relaxation
from src.models.penalties import (
    chosen_group,
    departure_penalty,
    output_penalty,
    turn_each,
    weight_penalty,
)
from tests.helpers.equivariance import act
from tests.helpers.layer_cases import FREE, RELAXABLE, RELAXED, make_layer, randomize

NETWORK = {"num_classes": 3, "hidden_channels": 3, "num_layers": 2, "pool_after": []}


@pytest.mark.parametrize("theta", [None, 0.0, 0.3])
@pytest.mark.parametrize("name", [*RELAXABLE, *FREE])
def test_the_penalty_on_departures_is_the_mean_of_their_squares(name, theta):
    """And so is its gradient; a new layer has none, and a strict one."""
    layer = make_layer(name)
    net = nn.Sequential(layer, nn.ReLU(), make_layer(name)).double()
    assert departure_penalty(net) == 0
    randomize(net)
    set_relaxation(net, theta)
    slow = 0.0
    for one in relaxed_layers(net).values():
        axes = (-1,) if name in (*RELAXED, *FREE) else (-2, -1)
        shared = ["weight"] if name == "steerable" else ["relaxed_weights", "group_biases"]
        for part in [*shared, "kernel_biases", "free_kernel"]:
            w = getattr(one, part, None)
            if w is None:
                continue
            w_bar = w.mean(axes, keepdim=True) if part in shared else 0
            slow = slow + ((1 if theta is None else theta) * (w - w_bar)).square().mean()
    torch.testing.assert_close(departure_penalty(net), slow)
    assert (slow > 0.01) == (theta != 0)
    weights = list(net.parameters())
    ours, theirs = (
        torch.autograd.grad(p, weights, allow_unused=True, materialize_grads=True)
        for p in (departure_penalty(net), slow)
    )
    torch.testing.assert_close(ours, theirs)


KINDS = {  # of what is turned, and how the helper counts its axes
    "scalar": torch.Size([5, 3, 6, 6]),
    "vector": torch.Size([5, 4, 6, 6]),
    "frames": torch.Size([5, 3, 2, 6, 6]),
}


@pytest.mark.parametrize("group", ["c4", "d4"])
@pytest.mark.parametrize("kind", KINDS)
def test_each_sample_turns_by_an_element_of_its_own(group, kind):
    x, elements = torch.randn(KINDS[kind]), torch.tensor([1, 3, 1, 0, 2])
    of_type = "scalar" if kind == "scalar" else "vector"
    turned = turn_each(of_type, x, elements, make_group(group))
    for sample, element, found in zip(x, elements.tolist(), turned):
        planes = sample.flatten(0, -3)[None]
        assert torch.equal(found.flatten(0, -3), act(planes, group, element, of_type)[0])
    assert turn_each("invariant", x, elements, make_group(group)) is x


@pytest.mark.parametrize("group", ["c4", "c8"])
def test_the_output_penalty_and_its_gradient_are_those_of_the_loop(group):
    """One element other than the identity for each sample; both sides have a gradient."""
    torch.manual_seed(0)
    net, x = CNN(norm="none", **NETWORK).double(), torch.randn(6, 1, 8, 8).double()
    group, kinds = make_group(group), ("scalar", "invariant")
    torch.manual_seed(3)
    ours = output_penalty(net, x, net(x), group, *kinds)
    torch.manual_seed(3)
    elements = torch.randint(1, group.order, (6,))
    slow = sum(
        (net(turn_each("scalar", one[None], g[None], group)) - net(one[None])).square().mean() / 6
        for one, g in zip(x, elements)
    )
    torch.testing.assert_close(ours, slow)
    weights = list(net.parameters())
    pairs = zip(*(torch.autograd.grad(p, weights, allow_unused=True) for p in (ours, slow)))
    for mine, other in pairs:
        torch.testing.assert_close(mine, other)
    drawn = [torch.randint(1, group.order, (1,)).item() for _ in range(200)]
    assert set(drawn) == set(range(1, group.order))


def test_an_invariant_network_has_no_output_penalty_and_steps_lower_that_of_an_ordinary_one():
    torch.manual_seed(0)
    x, kinds = torch.randn(8, 1, 8, 8), ("scalar", "invariant")
    group, strict = make_group("c4"), GCNN(**NETWORK).eval()
    assert output_penalty(strict, x, strict(x), group, *kinds) < 1e-10
    net = CNN(norm="none", **NETWORK)
    optimizer, found = torch.optim.Adam(net.parameters(), lr=0.01), []
    for _ in range(60):
        found.append(output_penalty(net, x, net(x), group, *kinds))
        optimizer.zero_grad()
        found[-1].backward()
        optimizer.step()
    assert found[-1] < 0.2 * found[0]


def test_the_group_is_the_one_named_or_the_networks_own():
    relaxed, plain = RelaxedGCNN(group="d4", **NETWORK), CNN(**NETWORK)
    assert chosen_group(relaxed, "output", None).name == "d4"
    assert chosen_group(plain, "projection", "c4").name == "c4"
    assert chosen_group(plain, "output", "c8").name == "c8"
    assert chosen_group(plain, "output", None).name == "c4", "there is none of its own"
    assert chosen_group(relaxed, "l1", None) is None
    assert weight_penalty(plain, "l1", None, "scalar", "invariant") == 0


@pytest.mark.parametrize(
    ("make", "penalty", "group", "message"),
    [
        (CNN, "l3", None, "`penalty` must be one of l1, l2, projection, output; got 'l3'"),
        (GCNN, "l2", None, "network without relaxed layers; got 'l2, with GCNN'. Use"),
        (CNN, "l1", None, "projection or output for .* got 'l1, with CNN'. Use model.penalty"),
        (CNN, "projection", "c1", "of two elements or more.*got 'c1'"),
        (CNN, "projection", "c8", "got 'projection, with c8'"),
        (CNN, "output", "c0", "`group` must be 'cN'"),
    ],
)
def test_penalties_that_do_not_apply_are_refused(make, penalty, group, message):
    with pytest.raises(ValueError, match=message):
        chosen_group(make(**NETWORK), penalty, group)
