import pytest
import torch
from scipy.fft import dctn, idctn

from src.data.smoke.pressure import divergence, project, solve
from tests.helpers.slow_pressure import slow_project


def faces(size, count=3):
    options = {"generator": torch.Generator().manual_seed(0), "dtype": torch.float64}
    return torch.randn(2, count, size - 1, size, **options)


def test_divergence_is_the_net_flow_out_of_a_cell():
    flow = torch.zeros(2, 1, 2, 3)
    flow[0, 0, 1, 0] = 2.0  # from cell (1, 0) to cell (2, 0)
    flow[1, 0, 1, 1] = 5.0  # from cell (1, 1) to cell (1, 2)
    expected = torch.zeros(1, 3, 3)
    expected[0, 1, 0], expected[0, 2, 0] = 2, -2
    expected[0, 1, 1], expected[0, 1, 2] = 5, -5
    assert torch.equal(divergence(flow), expected)


@pytest.mark.parametrize("size", [6, 5, 2])
def test_projection_agrees_with_a_dense_solve_and_leaves_no_divergence(size):
    free = project(faces(size))
    for given, own in zip(faces(size).unbind(1), free.unbind(1)):
        expected = slow_project(given[0].numpy(), given[1].mT.numpy())
        assert torch.from_numpy(expected[0]).allclose(own[0], rtol=0, atol=1e-13)
        assert torch.from_numpy(expected[1]).allclose(own[1].mT, rtol=0, atol=1e-13)
    assert divergence(project(faces(64))).abs().max() < 1e-13


@pytest.mark.parametrize("size", [64, 65])
def test_pressure_agrees_with_the_fast_cosine_transform_and_commutes_with_quarter_turns(size):
    source = divergence(faces(size))
    along = 2 * torch.cos(torch.arange(size).double() * torch.pi / size) - 2
    eigenvalues = along[:, None] + along
    eigenvalues[0, 0] = torch.inf
    spectrum = dctn(source.numpy(), axes=(1, 2)) / eigenvalues.numpy()
    expected = torch.from_numpy(idctn(spectrum, axes=(1, 2)))
    assert (solve(source) - expected).norm() < 1e-12 * expected.norm()
    turned = solve(source.rot90(1, (1, 2))).rot90(-1, (1, 2))
    assert (turned - solve(source)).norm() < 1e-15 * expected.norm()


def test_pressure_has_mean_zero_and_ignores_that_of_the_source():
    source = divergence(faces(9))
    before = source.clone()
    assert solve(source + 3).allclose(solve(source), atol=1e-12)
    assert solve(source).mean((1, 2)).abs().max() < 1e-14
    assert torch.equal(source, before)
