import pytest
import torch

from src.measures import principal_components as module
from src.measures.principal_components import principal_components


def double(values):
    return torch.tensor(values, dtype=torch.float64)


def assert_equal(got, expected, tolerance=1e-14):
    assert (got - expected).abs().max() < tolerance


def path_of(points):
    """States with the columns of [T, P] in two tensors, and something that is not a weight."""
    count = torch.tensor(3)
    return [{"a": p[:4].view(2, 2), "count": count, "b": p[4:]} for p in points]


def components_of(points):
    return principal_components(path_of(points), ["a", "b"])


def random_path(length=6, size=9, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(length, size, generator=generator, dtype=torch.float64).to(dtype)


def test_components_along_two_axes():
    """Steps of 4 and 2 from the end along two axes, the second backwards."""
    end = torch.arange(6.0)
    points = torch.stack([end, end, end])
    points[0, 5] += 4
    points[1, 2] -= 2
    result = components_of(points)
    assert_equal(result.coordinates, double([[4, 0], [0, 2], [0, 0]]))
    assert_equal(result.explained_variance, double([0.8, 0.2]))
    assert_equal(result.coefficients, double([[0.25, 0, 0], [0, 0.5, 0]]))
    assert_equal(result.distances, 0)


def test_all_agrees_with_a_singular_value_decomposition():
    points = random_path()
    result = components_of(points)
    differences = points - points[-1]
    u, s, vh = torch.linalg.svd(differences, full_matrices=False)
    signs = torch.stack([column[column.abs().argmax()].sign() for column in u[:, :2].mT])
    expected = u[:, :2] * s[:2] * signs
    assert_equal(result.coordinates, expected, 1e-12)
    fractions = s.square() / s.square().sum()
    assert_equal(result.explained_variance, fractions[:2], 1e-12)
    assert_equal(result.coefficients @ differences, vh[:2] * signs[:, None], 1e-12)
    off_plane = differences - differences @ vh[:2].mT @ vh[:2]
    assert_equal(result.distances, off_plane.norm(dim=1), 1e-12)
    assert result.distances[:-1].min() > 0.5


def test_components_have_length_one_and_are_orthogonal():
    points = random_path(dtype=torch.float32).double()
    components = components_of(points).coefficients @ (points - points[-1])
    assert_equal(components @ components.mT, torch.eye(2).double(), 1e-13)


def test_the_end_is_the_origin_and_the_farthest_points_lie_on_the_positive_side():
    for seed in range(5):
        coordinates = components_of(random_path(seed=seed)).coordinates
        assert coordinates[-1].abs().max() < 1e-14
        assert torch.equal(coordinates.max(0).values, coordinates.abs().max(0).values)


def test_a_path_in_a_plane_is_reproduced():
    generator = torch.Generator().manual_seed(0)
    plane = torch.linalg.qr(torch.randn(9, 2, generator=generator, dtype=torch.float64)).Q
    inside = torch.randn(7, 2, generator=generator, dtype=torch.float64)
    points = 3 + inside @ plane.mT
    result = components_of(points)
    assert result.explained_variance.sum() == pytest.approx(1, abs=1e-14)
    assert result.distances.max() < 1e-14
    components = result.coefficients @ (points - points[-1])
    again = points[-1] + result.coordinates @ components
    assert_equal(again, points, 1e-13)


def test_large_tensors_are_compared_in_pieces(monkeypatch):
    points = random_path()
    whole = components_of(points)
    monkeypatch.setattr(module, "CHUNK", 3)
    for expected, got in zip(whole, components_of(points)):
        assert_equal(got, expected, 1e-13)


@pytest.mark.parametrize("length", [2, 3, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_straight_path_has_one_component(length, dtype):
    start, end = random_path(2)
    positions = torch.linspace(0, 1, length).double()[:, None]
    result = components_of(torch.lerp(start, end, positions).to(dtype))
    distance = (start - end).norm()
    expected = torch.cat([distance * (1 - positions), torch.zeros(length, 1)], 1)
    assert_equal(result.coordinates, expected, 1e-6)
    assert result.explained_variance[0] == pytest.approx(1, abs=1e-12)
    for part in (result.coordinates[:, 1], result.explained_variance[1], result.coefficients[1]):
        assert not part.any()
    assert result.distances.max() < 1e-6


def test_points_may_be_equal_as_long_as_not_all_are():
    points = random_path(4)[[0, 0, 1, 1, 2, 3, 3]]
    result = components_of(points)
    assert_equal(result.coordinates[0], result.coordinates[1], 1e-14)
    assert_equal(result.coordinates[-2:], 0)


def test_only_the_named_tensors_count():
    states = path_of(random_path())
    alone = principal_components([{"b": state["b"]} for state in states], ["b"])
    assert torch.equal(principal_components(states, iter(["b"])).coordinates, alone.coordinates)


@pytest.mark.parametrize("length", [0, 1])
def test_a_path_has_two_points(length):
    with pytest.raises(ValueError, match=rf"at least two points; got {length}\. Store the weights"):
        components_of(random_path()[:length])


def test_a_path_moves():
    with pytest.raises(ValueError, match=r"must not all be equal; got .* of 0\.0\. Leave out"):
        components_of(random_path(1).expand(4, -1))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_path_is_finite(value):
    points = random_path()
    points[2, 3] = value
    with pytest.raises(ValueError, match=r"must be finite .* got .* of nan|inf\. Leave out states"):
        components_of(points)
