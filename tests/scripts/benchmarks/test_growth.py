import pytest
import torch

from scripts.benchmarks import growth
from scripts.benchmarks.timing import Settings


def test_memory_grows_with_the_batch(monkeypatch):
    monkeypatch.setattr("scripts.benchmarks.timing.SHORTEST_SAMPLE", 0.0)
    settings = Settings(1, torch.device("cpu"), torch.float32, compile=False)
    base = {"order": 4, "banks": 2, "width": 2, "image": 8, "batch": 2}
    table = growth.benchmark(settings, base, {"batch": (16, 64), "order": (4, 8)})
    by_batch, by_order = table.rows
    assert (by_batch["against"], by_order["against"]) == ("batch 16, 64", "order 4, 8")
    assert by_batch["plain, in memory"] == pytest.approx(1, abs=0.1)
    assert by_batch["memory, last"] < 1.2
    assert by_batch["time, last"].value > 0


def test_stacks_have_one_expanded_shape():
    stacks = growth.make_stacks(order=4, banks=3, width=2)
    outputs = [stack(torch.randn(1, 1, 8, 8)).flatten(1, -3) for stack in stacks.values()]
    assert outputs[0].shape == outputs[1].shape == (1, 8, 8, 8)
