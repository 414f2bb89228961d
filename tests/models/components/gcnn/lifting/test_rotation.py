import torch

from src.models.components.gcnn import LiftingConv


def test_each_element_of_c4_has_its_turned_kernel_and_the_shared_bias():
    layer = LiftingConv(2, 3, 3, "c4")
    kernel = layer.expanded_kernel().unflatten(0, (3, 4))
    for g in range(4):
        assert torch.equal(kernel[:, g], torch.rot90(layer.weight, g, (-2, -1)))
    assert torch.equal(layer.expanded_bias(), layer.bias.repeat_interleave(4))
    assert LiftingConv(1, 3, 3, "c4", bias=False).expanded_bias() is None
