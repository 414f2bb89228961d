import math

import pytest
import torch
from torch import nn

from src.measures.directions import check_fits, filter_normalized, moved, norm, random_directions
from src.models.components.gcnn import RelaxedGroupConv, RelaxedLiftingConv
from src.models.components.translation import RelaxedTranslationConv
from tests.helpers.objectives import MODELS, configured_objective

SHAPES = {"a": torch.zeros(2, 3), "b": torch.zeros(4), "c": torch.zeros(())}


def flat(direction):
    return torch.cat([d.flatten() for d in direction.values()])


def draw(number, weights=SHAPES, seed=0):
    return list(random_directions(weights, number, torch.Generator().manual_seed(seed)))


def weights_of(network):
    return {name: p.detach() for name, p in network.named_parameters()}


def test_directions_are_uniform_on_the_sphere():
    """Norm 1, mean 0, covariance I / P, E[d_p^4] = 3 / (P (P + 2)): within 5 standard errors."""
    number, size = 4_000, 11
    directions = draw(number)
    assert {n: d.shape for n, d in directions[0].items()} == {n: w.shape for n, w in SHAPES.items()}
    d = torch.stack([flat(direction) for direction in directions])
    assert (d.norm(dim=1) - 1).abs().max() < 1e-14
    assert d.mean(0).abs().max() < 5 / math.sqrt(number * size)
    tolerance = 1.5 * 5 / (size * math.sqrt(number))
    assert (d.mT @ d / number - torch.eye(size) / size).abs().max() < tolerance
    assert d.pow(4).mean().item() == pytest.approx(3 / (size * (size + 2)), rel=0.03)


def test_directions_depend_on_nothing_but_the_generator_and_the_number_of_weights():
    half, before = {n: w.to(torch.bfloat16) for n, w in SHAPES.items()}, torch.get_rng_state()
    for first, *others in zip(draw(3), draw(3, half), draw(3, {"all": torch.zeros(11)})):
        assert all(torch.equal(flat(first), flat(other)) for other in others)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(flat(draw(1)[0]), flat(draw(1, seed=1)[0]))
    for number in (0, 2.5):
        with pytest.raises(ValueError, match="`num_directions` must be an integer of at least 1"):
            draw(number)


def test_the_norm_is_that_of_all_tensors_together():
    assert norm({"a": torch.full((2, 2), 2.0), "b": torch.tensor([3.0])}) == 5.0
    many = {"a": torch.full((10_000_001,), 1e-3)}  # 10 squares of 1e-6 are lost in float32
    assert norm(many) == pytest.approx(math.sqrt(10.000001), rel=1e-7)


def test_moves_add_up_are_rounded_once_and_keep_the_memory_layout():
    weights = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([[0.1]])}
    first = {"a": torch.tensor([1.0, 0.0]).double(), "b": torch.tensor([[1e-9]]).double()}
    second = {"a": torch.tensor([0.0, 1.0]).double(), "b": torch.tensor([[1e-8]]).double()}
    result = moved(weights, (2.0, first), (-0.5, second))
    exact = (weights["b"].double() + 2e-9 - 0.5e-8).float()
    assert torch.equal(result["a"], torch.tensor([3.0, 1.5])) and torch.equal(result["b"], exact)
    assert result["b"].dtype == torch.float32
    weights = weights_of(nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last))
    result = moved(weights, (0.0, draw(1, weights)[0]))  # no step changes nothing
    for name, w in weights.items():
        assert torch.equal(result[name], w) and result[name].stride() == w.stride()
        assert result[name].data_ptr() != w.data_ptr()


LIFTING = RelaxedLiftingConv(2, 4, 3, "c4", num_filter_banks=3, group_biases=True)
GROUP = RelaxedGroupConv(2, 4, 3, "c4", num_filter_banks=3)
FREE = RelaxedGroupConv(2, 4, 3, "c4", kernel_biases=True, free_kernel=1.0)
TRANSLATION = RelaxedTranslationConv(2, 4, 3, (5, 6))


@pytest.mark.parametrize(
    ("network", "name", "number", "axes"),
    [
        (nn.Linear(3, 5), "weight", 5, (1,)),
        (nn.Linear(3, 5), "bias", 1, (0,)),
        (nn.BatchNorm2d(4), "weight", 1, (0,)),
        (LIFTING, "weight", 12, (2, 3, 4)),
        (LIFTING, "group_biases", 1, (0, 1)),
        (GROUP, "weight", 12, (2, 3, 4, 5)),
        (GROUP, "relaxed_weights", 1, (0, 1)),
        (FREE, "free_kernel", 16, (2, 3, 4, 5)),
        (FREE, "kernel_biases", 1, tuple(range(6))),
        (TRANSLATION, "weight", 8, (2, 3, 4)),
        (TRANSLATION, "relaxed_weights", 1, (0, 1, 2)),
        (nn.Sequential(nn.Conv2d(3, 4, 3)), "0.weight", 4, (1, 2, 3)),
    ],
)
def test_filters_are_rescaled_one_by_one(network, name, number, axes):
    """Filters of the direction have the weights' norms, and point where they pointed."""
    if name.endswith("_biases"):
        nn.init.normal_(getattr(network, name))
    weights = weights_of(network)
    direction = draw(1, weights)[0]
    before, w = direction[name], weights[name].double()
    d = filter_normalized(direction, weights, network)[name]
    norms = [torch.linalg.vector_norm(t, dim=axes).flatten() for t in (w, d, before)]
    assert len(norms[0]) == number
    assert torch.allclose(norms[1], norms[0], rtol=1e-12)
    cosines = (d * before).sum(axes).flatten() / (norms[1] * norms[2])
    assert torch.allclose(cosines[norms[0] > 0], torch.ones(()).double(), rtol=1e-12)


def test_filters_of_zeros_stay_and_a_number_by_itself_keeps_its_sign():
    layer = nn.Linear(2, 2)
    layer.weight.data[0] = 0
    layer.register_parameter("factor", nn.Parameter(torch.tensor(-3.0)))
    weights = weights_of(layer)
    direction = draw(1, weights)[0] | {"factor": torch.tensor(-0.25).double()}
    direction["weight"][1] = 0  # there is no way to give this one a norm
    result = filter_normalized(direction, weights, layer)
    assert torch.equal(result["weight"], torch.zeros(2, 2).double())
    assert result["factor"].item() == -3.0


@pytest.mark.parametrize("model", MODELS)
def test_filter_normalised_directions_have_the_norm_of_the_weights(model):
    objective = configured_objective(model)
    weights = objective.weights()
    result = filter_normalized(draw(1, weights)[0], weights, objective.network)
    assert list(result) == list(weights)
    assert norm(result) == pytest.approx(norm(weights), rel=1e-12)


def test_names_and_shapes_must_fit():
    check_fits("a direction", SHAPES, SHAPES)
    for changes, message in (
        ({"b": torch.zeros(2)}, r"got \[2\] in place of \[4\] for 'b'"),
        ({"d": torch.zeros(1)}, r"got \[1\] in place of no tensor for 'd'"),
    ):
        with pytest.raises(ValueError, match=f"direction must have the names and .*{message}"):
            check_fits("a direction", SHAPES | changes, SHAPES)
    with pytest.raises(ValueError, match=r"got no tensor in place of \[4\] for 'b'"):
        check_fits("a direction", {"a": torch.zeros(2, 3)}, SHAPES)
