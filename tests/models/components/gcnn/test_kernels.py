import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import rotate

from src.models.components.gcnn import kernel_transform, make_group
from src.models.components.gcnn.kernels import INTERPOLATIONS
from tests.helpers.slow_layers import turn


def apply(transform, kernel):
    return (transform @ kernel.flatten()).view(kernel.shape)


@pytest.mark.parametrize(("name", "kernel_size"), [("c3", 1), ("c8", 3), ("c16", 5), ("d4", 7)])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
def test_transform_is_that_of_libraries(name, kernel_size, interpolation):
    """torchvision's rotation to the nearest pixel, torch's grid sampling otherwise."""
    psi = torch.randn(kernel_size, kernel_size, dtype=torch.float64)
    transform, order = kernel_transform(name, kernel_size, interpolation), int(name[1:])
    for g in range(len(transform)):
        if interpolation == "nearest":
            mirrored = psi.flip(-1) if g >= order else psi
            angle = 360 * (g % order) / order
            expected = rotate(mirrored[None], angle, InterpolationMode.NEAREST)[0]
        else:
            expected = turn(psi, name, g, interpolation)
        assert torch.allclose(apply(transform[g], psi), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_quarter_turns_and_mirror_images_are_permutations(kernel_size, interpolation):
    """Of the kernel itself, or in the harmonic case of its projection; also among others."""
    transform = kernel_transform("d8", kernel_size, interpolation)
    psi = torch.randn(kernel_size, kernel_size, dtype=torch.float64)
    if interpolation == "harmonic":
        psi = apply(transform[0], psi)
    for g in range(0, 16, 2):
        turned = torch.rot90(psi.flip(-1) if g >= 8 else psi, g % 8 // 2, (0, 1))
        assert torch.allclose(apply(transform[g], psi), turned, rtol=0, atol=1e-13)
        if interpolation != "harmonic":
            assert torch.equal(transform[g], (transform[g] == 1).double())
    same = kernel_transform(make_group("c4"), kernel_size, interpolation)
    assert torch.equal(transform[:8:2], same)


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"`kernel_size` must be odd.*got 2\. Use 1 or 3"):
        kernel_transform("c4", 2, "bilinear")
    with pytest.raises(ValueError, match=r"`interpolation` must be one of nearest, .*got 'cubic'"):
        kernel_transform("c4", 3, "cubic")
