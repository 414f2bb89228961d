import pytest
import torch

from src.data.smoke import pressure
from src.data.smoke.pressure import divergence, project, solve
from tests.helpers.equivariance import GATES
from tests.helpers.slow_pressure import slow_project


def faces(columns, rows, count=3, dtype=torch.float64):
    options = {"generator": torch.Generator().manual_seed(0), "dtype": dtype}
    x_faces = torch.randn(count, columns - 1, rows, **options)
    return x_faces, torch.randn(count, columns, rows - 1, **options)


def test_divergence_is_the_net_flow_out_of_a_cell():
    x_faces, y_faces = torch.zeros(1, 2, 3), torch.zeros(1, 3, 2)
    x_faces[0, 1, 0] = 2.0  # from cell (1, 0) to cell (2, 0)
    y_faces[0, 1, 1] = 5.0  # from cell (1, 1) to cell (1, 2)
    expected = torch.zeros(1, 3, 3)
    expected[0, 1, 0], expected[0, 2, 0] = 2, -2
    expected[0, 1, 1], expected[0, 1, 2] = 5, -5
    assert torch.equal(divergence(x_faces, y_faces), expected)


@pytest.mark.parametrize("shape", [(6, 6), (5, 8), (2, 2)])
def test_projection_agrees_with_a_dense_solve_and_leaves_no_divergence(shape):
    given = faces(*shape)
    free = project(*given)
    for u, v, *own in zip(*given, *free):
        for got, expected in zip(own, slow_project(u.numpy(), v.numpy())):
            assert torch.from_numpy(expected).allclose(got, rtol=0, atol=1e-13)
    for dtype, largest in ((torch.float64, 1e-13), (torch.float32, 1e-5)):
        free = project(*faces(64, 64, dtype=dtype))
        assert free[0].dtype == free[1].dtype == dtype
        assert divergence(*free).abs().max() < largest


def test_pressure_has_mean_zero_and_ignores_that_of_the_source():
    source = divergence(*faces(9, 9))
    before = source.clone()
    assert solve(source + 3).allclose(solve(source), atol=1e-12)
    assert solve(source).mean((1, 2)).abs().max() < 1e-14
    assert torch.equal(source, before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", [(64, 64), (5, 8)])
def test_matrices_of_other_devices_agree_with_the_transform(dtype, shape):
    source = divergence(*faces(*shape, dtype=dtype))
    by_fft, by_matrices = pressure.solve_by_fft(source), pressure.solve_by_matrices(source)
    assert (by_fft - by_matrices).norm() < GATES[dtype] * by_fft.norm()
    assert by_fft.dtype == by_matrices.dtype == dtype
