import pytest
import torch
from torch import nn

from src.measures import probes
from tests.helpers.objectives import Snapshot, draw_everything
from tests.helpers.subjects import classifier, path_of, subject_of


class Watched(nn.Module):
    """Changes nothing, but draws at random; fails in train mode, and where gradients are kept."""

    def __init__(self, gradients):
        super().__init__()
        self.gradients = gradients

    def forward(self, x):
        assert not self.training
        assert self.gradients or not torch.is_grad_enabled()
        return x + draw_everything()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("equivariance_error", {}),
        ("lie_derivative", {"transformations": ["rotation"]}),
        ("sharpness", {"num_directions": 2}),
        ("hessian", {"num_eigenvalues": 1, "num_probes": 2, "lanczos_steps": 3}),
        ("landscape", {"resolution": 2, "line_points": 2}),
        ("symmetry", {}),
        ("projection", {}),
    ],
)
def test_nothing_of_the_module_changes(name, options):
    """Nor do modes, gradients and random states; compiled networks are measured as written."""
    module = classifier()
    subject = subject_of(module, path=lambda: path_of(module.net))
    expected = getattr(probes, name)(subject, **options)
    module.net.blocks[0].append(Watched(name in ("sharpness", "hessian", "projection")))
    module.net.blocks[1][0].eval()  # modes may differ
    module.net.compile(backend=lambda graph, inputs: pytest.fail("compiled"))
    before = Snapshot(module.net)
    assert getattr(probes, name)(subject, **options) == expected
    before.assert_unchanged()
    assert not any(m._forward_hooks or "forward" in vars(m) for m in module.net.modules())
    assert module.net._compiled_call_impl is not None
