import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from src.measures.directions import (
    check_fits,
    filter_normalized,
    moved,
    norm,
    random_directions,
)
from src.models.components.gcnn import RelaxedGroupConv, RelaxedLiftingConv
from src.models.components.translation import RelaxedTranslationConv
from tests.helpers.objectives import MODELS, configured_objective

SHAPES = {"a": torch.zeros(2, 3), "b": torch.zeros(4), "c": torch.zeros(())}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def flat(direction):
    return torch.cat([d.flatten() for d in direction.values()])


def draw(number, weights=SHAPES, seed=0):
    return list(random_directions(weights, number, generator(seed)))


def weights_of(network):
    return {name: p.detach() for name, p in network.named_parameters()}


def test_directions_have_the_shapes_of_the_weights_and_norm_one():
    for direction in draw(5):
        assert {n: d.shape for n, d in direction.items()} == {n: w.shape for n, w in SHAPES.items()}
        assert flat(direction).norm() == pytest.approx(1, abs=1e-14)


def test_directions_are_uniform_on_the_sphere():
    """Mean 0, covariance I / P, and E[d_p^4] = 3 / (P (P + 2)): within 5 standard errors."""
    number, size = 8_000, 11
    d = torch.stack([flat(direction) for direction in draw(number)])
    tolerance = 5 / (size * math.sqrt(number))
    assert d.mean(0).abs().max() < 5 / math.sqrt(number * size)
    covariance = d.mT @ d / number
    assert (covariance - torch.eye(size) / size).abs().max() < 1.5 * tolerance
    fourth = d.pow(4).mean().item()
    assert fourth == pytest.approx(3 / (size * (size + 2)), rel=0.02)


def test_directions_depend_on_nothing_but_the_generator_and_the_number_of_weights():
    torch.manual_seed(5)
    half = {name: w.to(torch.bfloat16) for name, w in SHAPES.items()}
    one_tensor = {"all": torch.zeros(11)}
    torch.manual_seed(6)
    for first, second, third in zip(draw(3), draw(3, half), draw(3, one_tensor)):
        assert torch.equal(flat(first), flat(second))
        assert torch.equal(flat(first), flat(third))
    assert not torch.equal(flat(draw(1)[0]), flat(draw(1, seed=1)[0]))


def test_directions_are_drawn_one_at_a_time():
    source = generator()
    before = source.get_state()
    directions = random_directions(SHAPES, 2, source)
    assert torch.equal(source.get_state(), before)
    next(directions)
    assert not torch.equal(source.get_state(), before)


def test_generators_must_be_on_the_cpu():
    elsewhere = SimpleNamespace(device=torch.device("cuda:0"))
    with pytest.raises(ValueError, match=r"drawn on the CPU.*got a generator on cuda:0\. Use"):
        random_directions(SHAPES, 1, elsewhere)


def test_the_norm_is_that_of_all_tensors_together():
    vector = {"a": torch.full((2, 2), 2.0), "b": torch.tensor([3.0])}
    assert norm(vector) == 5.0
    many = {"a": torch.full((10_000_001,), 1e-3)}  # 10 squares of 1e-6 are lost in float32
    assert norm(many) == pytest.approx(math.sqrt(10.000001), rel=1e-7)


def test_moves_add_up_and_are_rounded_once():
    weights = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([[0.1]])}
    first = {"a": torch.tensor([1.0, 0.0]).double(), "b": torch.tensor([[1e-9]]).double()}
    second = {"a": torch.tensor([0.0, 1.0]).double(), "b": torch.tensor([[1e-8]]).double()}
    result = moved(weights, (2.0, first), (-0.5, second))
    assert torch.equal(result["a"], torch.tensor([3.0, 1.5]))
    exact = weights["b"].double() + 2e-9 - 0.5e-8
    assert result["b"].dtype == torch.float32
    assert torch.equal(result["b"], exact.float())


def test_no_step_changes_nothing_not_even_the_memory_layout():
    network = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    weights = weights_of(network)
    result = moved(weights, (0.0, draw(1, weights)[0]))
    for name, w in weights.items():
        assert torch.equal(result[name], w)
        assert result[name].stride() == w.stride()
        assert result[name].data_ptr() != w.data_ptr()


def assert_rescaled(network, name, number, axes):
    """Filters of the direction have the weights' norms, and point where they pointed."""
    weights = weights_of(network)
    direction = draw(1, weights)[0]
    before, w = direction[name], weights[name].double()
    d = filter_normalized(direction, weights, network)[name]
    norms = [torch.linalg.vector_norm(t, dim=axes).flatten() for t in (w, d, before)]
    assert len(norms[0]) == number
    assert torch.allclose(norms[1], norms[0], rtol=1e-12)
    cosines = (d * before).sum(axes).flatten() / (norms[1] * norms[2])
    assert torch.allclose(cosines[norms[0] > 0], torch.ones(()).double(), rtol=1e-12)


@pytest.mark.parametrize(
    ("network", "name", "number", "axes"),
    [
        (nn.Linear(3, 5), "weight", 5, (1,)),
        (nn.Linear(3, 5), "bias", 1, (0,)),
        (nn.Conv2d(3, 4, 3), "weight", 4, (1, 2, 3)),
        (nn.BatchNorm2d(4), "weight", 1, (0,)),
        (RelaxedLiftingConv(2, 4, 3, "c4", num_filter_banks=3), "weight", 12, (2, 3, 4)),
        (RelaxedLiftingConv(2, 4, 3, "c4", num_filter_banks=3), "relaxed_weights", 1, (0, 1)),
        (RelaxedGroupConv(2, 4, 3, "c4", num_filter_banks=3), "weight", 12, (2, 3, 4, 5)),
        (RelaxedTranslationConv(2, 4, 3, (5, 6)), "weight", 8, (2, 3, 4)),
        (RelaxedTranslationConv(2, 4, 3, (5, 6)), "relaxed_weights", 1, (0, 1, 2)),
        (nn.Sequential(nn.Conv2d(3, 4, 3)), "0.weight", 4, (1, 2, 3)),
    ],
)
def test_filters_are_rescaled_one_by_one(network, name, number, axes):
    assert_rescaled(network, name, number, axes)


def test_group_biases_are_rescaled_as_a_whole():
    layer = RelaxedLiftingConv(2, 4, 3, "c4", group_biases=True)
    with torch.no_grad():
        layer.group_biases.normal_()
    assert_rescaled(layer, "group_biases", 1, (0, 1))


def test_filters_of_zeros_stay():
    layer = nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight[0] = 0
    weights = weights_of(layer)
    direction = draw(1, weights)[0]
    direction["weight"][1] = 0  # there is no way to give this one a norm
    d = filter_normalized(direction, weights, layer)["weight"]
    assert torch.equal(d, torch.zeros(2, 2).double())


def test_a_number_by_itself_keeps_its_sign():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.factor = nn.Parameter(torch.tensor(-3.0))

    direction = {"factor": torch.tensor(-0.25).double()}
    result = filter_normalized(direction, weights_of(Scale()), Scale())
    assert result["factor"].item() == -3.0


@pytest.mark.parametrize("model", MODELS)
def test_filter_normalised_directions_have_the_norm_of_the_weights(model):
    objective = configured_objective(model)
    weights = objective.weights()
    direction = draw(1, weights)[0]
    result = filter_normalized(direction, weights, objective.network)
    assert list(result) == list(weights)
    assert norm(result) == pytest.approx(norm(weights), rel=1e-12)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"a": torch.zeros(2, 3)}, r"got no tensor in place of \[4\] for 'b'"),
        ({"a": torch.zeros(3), "b": torch.zeros(4)}, r"got \[3\] in place of \[2, 3\] for 'a'"),
        ({**SHAPES, "d": torch.zeros(1)}, r"got \[1\] in place of no tensor for 'd'"),
    ],
)
def test_names_and_shapes_must_fit(tensors, message):
    check_fits("a direction", SHAPES, SHAPES)
    with pytest.raises(ValueError, match=r"a direction must have the names and shapes.*" + message):
        check_fits("a direction", tensors, SHAPES)
