import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import rotate

from src.models.components.gcnn import kernel_transform, make_group
from src.models.components.gcnn.harmonics import degrees_of_freedom, sample_harmonics
from tests.helpers.slow_layers import turn

SIZES = [1, 3, 5, 7]


def apply(transform, kernel):
    return (transform @ kernel.flatten()).view(kernel.shape)


@pytest.mark.parametrize("kernel_size", SIZES)
@pytest.mark.parametrize("name", ["c4", "c8", "c16"])
def test_nearest_is_torchvision_rotate(name, kernel_size):
    psi = torch.randn(kernel_size, kernel_size, dtype=torch.float64)
    group = make_group(name)
    transform = kernel_transform(name, kernel_size, "nearest")
    for g in range(group.order):
        angle = 360 * g / group.order
        expected = rotate(psi[None], angle, InterpolationMode.NEAREST)[0]
        assert torch.equal(apply(transform[g], psi), expected)


@pytest.mark.parametrize("kernel_size", SIZES)
@pytest.mark.parametrize("name", ["c1", "c2", "c3", "c4", "c8", "d1", "d4", "d3"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_transform_is_grid_sampling(name, kernel_size, interpolation):
    psi = torch.randn(kernel_size, kernel_size, dtype=torch.float64)
    transform = kernel_transform(name, kernel_size, interpolation)
    for g in range(len(transform)):
        expected = turn(psi, name, g, interpolation)
        assert torch.allclose(apply(transform[g], psi), expected, atol=1e-13)


@pytest.mark.parametrize("kernel_size", SIZES)
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
def test_quarter_turns_and_mirror_images_are_permutations(kernel_size, interpolation):
    psi = torch.randn(kernel_size, kernel_size, dtype=torch.float64)
    transform = kernel_transform("d4", kernel_size, interpolation)
    assert torch.equal(transform, (transform == 1).double())
    for g, matrix in enumerate(transform):
        mirrored = psi.flip(-1) if g >= 4 else psi
        assert torch.equal(apply(matrix, psi), torch.rot90(mirrored, g % 4, (0, 1)))


def test_larger_groups_contain_the_exact_quarter_turns():
    assert torch.equal(
        kernel_transform("c16", 5, "bilinear")[::4], kernel_transform("c4", 5, "bilinear")
    )


@pytest.mark.parametrize("kernel_size", [2, 4])
def test_even_kernel_size(kernel_size):
    with pytest.raises(ValueError, match=rf"`kernel_size` must be odd.*got {kernel_size}\. Use"):
        kernel_transform("c4", kernel_size, "bilinear")


@pytest.mark.parametrize("kernel_size", [0, -3, 3.0, True, "3"])
def test_kernel_size_is_a_positive_integer(kernel_size):
    with pytest.raises(ValueError, match="`kernel_size` must be an integer of at least 1"):
        kernel_transform("c4", kernel_size, "bilinear")


def test_unknown_interpolation():
    with pytest.raises(ValueError, match=r"`interpolation` must be one of nearest, .*got 'cubic'"):
        kernel_transform("c4", 3, "cubic")


@pytest.mark.parametrize("kernel_size", SIZES)
@pytest.mark.parametrize("name", ["c3", "c8", "d4", "d8"])
def test_harmonic_transform_is_a_representation_on_its_range(name, kernel_size):
    group = make_group(name)
    transform = kernel_transform(name, kernel_size, "harmonic")
    products = torch.einsum("gij,hjk->ghik", transform, transform)
    assert torch.allclose(products, transform[group.cayley], atol=1e-12)
    assert torch.linalg.matrix_rank(transform[0]) == degrees_of_freedom(kernel_size)
    assert torch.allclose(transform[0], transform[0].T, atol=1e-12)  # an orthogonal projection


@pytest.mark.parametrize("kernel_size", SIZES)
def test_harmonic_quarter_turns_and_mirror_images_permute_the_projected_kernel(kernel_size):
    psi = torch.randn(kernel_size, kernel_size, dtype=torch.float64)
    transform = kernel_transform("d8", kernel_size, "harmonic")
    projected = apply(transform[0], psi)
    for g in (2, 4, 6, 8, 10, 12, 14):
        mirrored = projected.flip(-1) if g >= 8 else projected
        turned = torch.rot90(mirrored, g % 8 // 2, (0, 1))
        assert torch.allclose(apply(transform[g], psi), turned, rtol=0, atol=1e-14)


def test_a_harmonic_kernel_turns_exactly_by_an_eighth():
    """cos(m (theta - pi / 4)) on a ring is what an eighth turn makes of cos(m theta)."""
    axis = torch.arange(5, dtype=torch.float64) - 2
    row, column = torch.meshgrid(axis, axis, indexing="ij")
    points = torch.stack([column.flatten(), row.flatten()], -1)
    basis = sample_harmonics(points, 2)
    transform = kernel_transform("c8", 5, "harmonic")[1]
    ring, cos, sin = basis[:, 1], basis[:, 2], basis[:, 3]
    assert torch.allclose(transform @ ring, ring, atol=1e-12)
    half = 0.5**0.5  # counter-clockwise on the display: (column, row) -> row decreases
    assert torch.allclose(transform @ cos, half * (cos - sin), atol=1e-12)
