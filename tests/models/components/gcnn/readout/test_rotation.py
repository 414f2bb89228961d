import pytest
import torch

from src.models.components.gcnn import LiftingConv, VectorReadout


@pytest.mark.parametrize("interpolation", ["nearest", "harmonic"])
@pytest.mark.parametrize("group", ["c8", "d4"])
@pytest.mark.parametrize("kind", ["vector", "vector+scalar"])
def test_is_the_transpose_of_the_lifting_layer(double_precision, kind, group, interpolation):
    readout = VectorReadout(2, 1, 5, group, interpolation=interpolation, out_type=kind)
    lifting = LiftingConv(1, 2, 5, group, interpolation=interpolation, in_type=kind)
    with torch.no_grad():  # psi[i] of one field, seen from either side
        lifting.weight.copy_(readout.weight[0].transpose(0, 1))
    transposed = lifting.expanded_kernel().transpose(0, 1)
    assert torch.allclose(readout.expanded_kernel(), transposed, atol=1e-12)


def test_vectors_are_ordered_by_vector_then_component():
    layer = VectorReadout(1, 2, 1, "c4")
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[1, 0] = 1.0  # the second vector points along columns
    y = layer(torch.eye(4).view(4, 1, 4, 1, 1)).squeeze()  # one element at a time
    along = torch.tensor([[1.0, 0.0], [0.0, -1.0], [-1.0, 0.0], [0.0, 1.0]])
    assert torch.equal(y, torch.cat([torch.zeros(4, 2), along], 1))
    with pytest.raises(TypeError, match="bias"):  # a constant vector does not turn
        VectorReadout(1, 2, 3, "c4", bias=True)
    with pytest.raises(ValueError, match="`out_type` must be one of vector, vector"):
        VectorReadout(1, 2, 3, "c4", out_type="scalar")
