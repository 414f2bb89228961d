import pytest
import torch

from src.measures import principal_components as module
from src.measures.principal_components import principal_components


def assert_equal(got, expected, tolerance=1e-12):
    assert (got - torch.as_tensor(expected, dtype=torch.float64)).abs().max() < tolerance


def components_of(points):
    """Of states with the columns of [T, P] in two tensors, and something that is not a weight."""
    states = [{"a": p[:4].view(2, 2), "count": torch.tensor(3), "b": p[4:]} for p in points]
    return principal_components(states, iter(["a", "b"]))


def random_path(length=6, size=9, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(length, size, generator=generator, dtype=torch.float64)


def test_components_along_two_axes():
    """Steps of 4 and 2 from the end along two axes, the second backwards."""
    points = torch.arange(6.0).repeat(3, 1)
    points[0, 5] += 4
    points[1, 2] -= 2
    result = components_of(points)
    assert_equal(result.coordinates, [[4, 0], [0, 2], [0, 0]])
    assert_equal(result.explained_variance, [0.8, 0.2])
    assert_equal(result.coefficients, [[0.25, 0, 0], [0, 0.5, 0]])
    assert_equal(result.distances, 0)


@pytest.mark.parametrize("chunk", [2**18, 3])
def test_all_agrees_with_a_singular_value_decomposition(monkeypatch, chunk):
    """The end is the origin; the farthest points lie on the positive side; in pieces or whole."""
    monkeypatch.setattr(module, "CHUNK", chunk)
    for seed in range(3):
        points = random_path(seed=seed)
        result = components_of(points)
        differences = points - points[-1]
        u, s, vh = torch.linalg.svd(differences, full_matrices=False)
        signs = torch.stack([column[column.abs().argmax()].sign() for column in u[:, :2].mT])
        assert_equal(result.coordinates, u[:, :2] * s[:2] * signs)
        assert torch.equal(result.coordinates.amax(0), result.coordinates.abs().amax(0))
        assert_equal(result.explained_variance, (s.square() / s.square().sum())[:2])
        assert_equal(result.coefficients @ differences, vh[:2] * signs[:, None])
        off_plane = differences - differences @ vh[:2].mT @ vh[:2]
        assert_equal(result.distances, off_plane.norm(dim=1))
        assert result.distances[:-1].min() > 0.5


@pytest.mark.parametrize(("length", "dtype"), [(2, torch.float64), (5, torch.float32)])
def test_a_straight_path_has_one_component(length, dtype):
    start, end = random_path(2)
    positions = torch.linspace(0, 1, length).double()[:, None]
    result = components_of(torch.lerp(start, end, positions).to(dtype))
    assert_equal(result.coordinates[:, :1], (start - end).norm() * (1 - positions), 1e-6)
    assert result.explained_variance[0] == pytest.approx(1, abs=1e-12)
    for part in (result.coordinates[:, 1], result.explained_variance[1], result.coefficients[1]):
        assert not part.any()
    assert result.distances.max() < 1e-6


@pytest.mark.parametrize(
    ("points", "match"),
    [
        (random_path()[:1], r"at least two points; got 1\. Store the weights"),
        (random_path(1).expand(4, -1), r"must not all be equal; got .* of 0\.0\. Leave out"),
        (random_path() * float("nan"), r"must be finite .* got .* of nan\. Leave out states"),
        (random_path() * 1e200, r"must be finite .* of inf\."),
    ],
)
def test_points_are_checked(points, match):
    with pytest.raises(ValueError, match=match):
        components_of(points)
