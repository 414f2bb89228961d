import pytest
import torch

from scripts.benchmarks.layers import PASSES, make_builders, make_layer, peak_memory

CPU = torch.device("cpu")


def test_peak_counts_what_is_held_at_a_time():
    def run():
        a = torch.zeros(1000)
        b = a + 1
        del a
        return b + 1

    assert peak_memory(run, CPU) == pytest.approx(8000, rel=0.05)


@pytest.mark.parametrize("run", PASSES)
def test_building_a_kernel_takes_little_memory(run):
    layer = make_layer("lifting", (64, 16, 16, 16, 7))
    parameters = list(layer.parameters())
    build = PASSES[run](make_builders(layer)["ours"], parameters)
    needed = sum(p.nbytes for p in parameters) + layer.expanded_kernel().nbytes
    assert peak_memory(build, CPU) < 2 * needed
