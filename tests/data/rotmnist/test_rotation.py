import math

import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import rotate

from src.data.rotmnist.rotation import rotate_images, uniform_angles


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
def test_agrees_with_torchvision(shape):
    images = random_images(6, 1, *shape)
    degrees = torch.tensor([0.0, 10.0, 45.0, 123.0, -30.0, 300.0], dtype=torch.float64)
    turned = rotate_images(images, degrees.deg2rad())
    bilinear = InterpolationMode.BILINEAR
    expected = torch.stack(
        [rotate(image, angle.item(), bilinear) for image, angle in zip(images, degrees)]
    )
    torch.testing.assert_close(turned, expected, atol=1e-9, rtol=0)


def test_a_point_turns_counter_clockwise_as_displayed():
    image = torch.zeros(1, 1, 5, 5)
    image[0, 0, 2, 4] = 1  # to the right of the centre
    up = rotate_images(image, torch.tensor([math.pi / 2]))
    assert up[0, 0].argmax() == 0 * 5 + 2  # above it


def test_a_half_turn_keeps_a_non_square_image():
    images = random_images(2, 1, 6, 9)
    turned = rotate_images(images, torch.full((2,), math.pi, dtype=torch.float64))
    torch.testing.assert_close(turned, images.flip((-2, -1)), atol=1e-12, rtol=0)


def test_zeros_fill_the_corners():
    turned = rotate_images(torch.ones(1, 1, 28, 28), torch.tensor([math.pi / 4]))
    assert turned[0, 0, 0, 0] == 0
    assert turned[0, 0, 14, 14] == pytest.approx(1)


def test_each_image_of_a_batch_is_turned_by_its_own_angle():
    images = random_images(5, 3, 9, 9)
    angles = random_images(5) * 6
    one_by_one = [rotate_images(images[i : i + 1], angles[i : i + 1]) for i in range(5)]
    torch.testing.assert_close(rotate_images(images, angles), torch.cat(one_by_one))


def test_half_precision_is_rotated_in_float32():
    images = random_images(3, 1, 28, 28).bfloat16()
    angles = torch.tensor([0.3, 1.0, 2.0])
    turned = rotate_images(images, angles)
    assert turned.dtype == torch.bfloat16
    assert torch.equal(turned, rotate_images(images.float(), angles).bfloat16())


def test_is_differentiable_in_the_images():
    images = random_images(2, 1, 4, 5).requires_grad_()
    angles = torch.tensor([0.3, 2.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: rotate_images(x, angles), images)


@pytest.mark.parametrize(
    ("images", "rule"),
    [
        (torch.rand(1, 28, 28), r"batch \[B, C, H, W\]; got shape \[1, 28, 28\], torch.float32"),
        (torch.ones(1, 1, 28, 28, dtype=torch.uint8), r"floating-point batch.*got.*torch.uint8"),
    ],
)
def test_images_of_another_kind_are_refused(images, rule):
    with pytest.raises(ValueError, match=rule):
        rotate_images(images, torch.zeros(1))


@pytest.mark.parametrize("shape", [(), (1,), (2, 1)])
def test_another_number_of_angles_is_refused(shape):
    with pytest.raises(ValueError, match=r"one angle per image, shape \[2\]; got shape"):
        rotate_images(torch.rand(2, 1, 8, 8), torch.zeros(shape))


def test_uniform_angles_fill_the_circle():
    angles = uniform_angles(100_000, torch.Generator().manual_seed(0))
    assert angles.min() >= 0
    assert angles.max() < 2 * math.pi
    share = torch.histc(angles, bins=8, min=0, max=2 * math.pi) / len(angles)
    torch.testing.assert_close(share, torch.full((8,), 1 / 8), atol=0.005, rtol=0)
