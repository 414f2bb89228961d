import math

import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import rotate

from src.data.rotation import rotate_images, turn_vectors, uniform_angles
from src.models.components.gcnn.actions import transform_vector_field
from src.models.components.gcnn.groups import make_group


def random_images(*shape, dtype=torch.float64):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize("size", [28, 27])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_quarter_turns_are_rot90(size, dtype, tolerance):
    images = random_images(4, 2, size, size, dtype=dtype)
    turned = rotate_images(images, torch.arange(4, dtype=torch.float64) * math.pi / 2)
    expected = torch.stack([torch.rot90(image, a, (-2, -1)) for a, image in enumerate(images)])
    assert turned.dtype == dtype
    torch.testing.assert_close(turned, expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("shape", [(28, 28), (17, 24)])
def test_each_image_is_turned_by_its_own_angle_as_torchvision_turns_it(shape):
    images = random_images(6, 1, *shape)
    degrees = torch.tensor([0.0, 10.0, 45.0, 123.0, -30.0, 300.0], dtype=torch.float64)
    turned = rotate_images(images, degrees.deg2rad())
    for image, angle, got in zip(images, degrees, turned):
        expected = rotate(image, angle.item(), InterpolationMode.BILINEAR)
        torch.testing.assert_close(got, expected, atol=1e-9, rtol=0)


def test_half_precision_is_rotated_in_float32_and_images_have_gradients():
    images, angles = random_images(2, 1, 4, 5).bfloat16(), torch.tensor([0.3, 2.0])
    turned = rotate_images(images, angles)
    assert turned.dtype == torch.bfloat16
    assert torch.equal(turned, rotate_images(images.float(), angles).bfloat16())
    images = images.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: rotate_images(x, angles), images)


@pytest.mark.parametrize(
    ("max_angle", "span"), [(180, (0, 2 * math.pi)), (45, (-math.pi / 4, math.pi / 4))]
)
def test_uniform_angles_fill_their_range(max_angle, span):
    angles = uniform_angles(100_000, torch.Generator().manual_seed(0), max_angle)
    assert span[0] <= angles.min() < angles.max() < span[1]
    share = torch.histc(angles, bins=8, min=span[0], max=span[1]) / len(angles)
    torch.testing.assert_close(share, torch.full((8,), 1 / 8), atol=0.005, rtol=0)


@pytest.mark.parametrize("max_angle", [0, 30, 179.999])
def test_equal_random_numbers_give_the_same_fraction_of_every_largest_angle(max_angle):
    drawn = [uniform_angles(100, torch.Generator().manual_seed(0), a) for a in (180, max_angle)]
    whole = torch.remainder(drawn[0] + math.pi, 2 * math.pi) - math.pi
    torch.testing.assert_close(drawn[1], whole * max_angle / 180, atol=1e-5, rtol=0)


def test_vectors_turn_as_the_group_turns_them():
    fields = random_images(8, 4, 9, 9)
    angles = torch.arange(8, dtype=torch.float64) * math.pi / 4
    turned, group = turn_vectors(fields, angles), make_group("c8")
    for element, (field, got) in enumerate(zip(fields, turned)):
        matrix = group.matrices[element]
        expected = torch.einsum("pq,iqyx->ipyx", matrix, field.unflatten(0, (2, 2))).flatten(0, 1)
        torch.testing.assert_close(got, expected)
    turned = turn_vectors(rotate_images(fields[:1], angles[2:3]), angles[2:3])
    expected = transform_vector_field(fields[:1], make_group("c4"), 1)
    torch.testing.assert_close(turned, expected)
