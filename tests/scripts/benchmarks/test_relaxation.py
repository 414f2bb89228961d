from pathlib import Path

import pytest
import torch

from scripts.benchmarks import relaxation
from scripts.benchmarks.timing import Settings

SETTINGS = Settings(1, torch.device("cpu"), torch.float32, compile=False)
SMALL = ["data.batch_size=2", "model.net.hidden_channels=2"]


def test_what_is_timed_are_choices_of_the_configs():
    configs = Path(__file__).resolve().parents[3] / "configs" / "relaxation"
    assert set(relaxation.AIMS) <= {path.stem for path in configs.glob("*.yaml")}


@pytest.mark.slow
@pytest.mark.parametrize("data", relaxation.WIDTHS)
def test_a_row_for_every_choice(monkeypatch, data):
    monkeypatch.setattr("scripts.benchmarks.timing.SHORTEST_SAMPLE", 0.0)
    small = [*SMALL, "data.coarsen=8"] if data == "smoke" else SMALL
    table = relaxation.benchmark(data, SETTINGS, small)
    assert [row["relaxation"] for row in table.rows] == list(relaxation.AIMS)
    assert all(row["step / strict"].value > 0 for row in table.rows)
