import pytest
import torch

from src.models.components.gcnn import GroupConv
from src.models.components.gcnn.convolution.rotation import permute_rows


def test_element_g_reads_h_with_the_kernel_of_the_element_in_between():
    """W[o, g, i, h] = T_g psi[o, i, g^-1 h]; in C4 g^-1 h is h - g."""
    layer = GroupConv(2, 3, 3, "c4")
    kernel = layer.expanded_kernel().unflatten(1, (2, 4)).unflatten(0, (3, 4))
    for g in range(4):
        for h in range(4):
            expected = torch.rot90(layer.weight[:, :, (h - g) % 4], g, (-2, -1))
            assert torch.equal(kernel[:, g, :, h], expected)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")  # torch's own
def test_a_permutation_of_rows_and_its_derivatives():
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    source = torch.tensor([3, 0, 4, 1, 2])

    def permuted(x):
        return permute_rows(x, source, source.argsort()).square()

    assert torch.equal(permuted(x), x[source].square())
    assert torch.autograd.gradcheck(permuted, x, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(permuted, x)
