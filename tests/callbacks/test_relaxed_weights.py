import pytest

from src.callbacks import RelaxedWeights
from src.measures import relaxed_weight_error
from tests.helpers.tiny import (
    TinyData,
    TinyModule,
    TinyNetwork,
    dynamics_rows,
    lightning_warnings,
    read_metrics,
)

pytestmark = lightning_warnings

NAMES = [
    "dynamics/relaxed_weight_error",
    "dynamics/relaxed_weight_error/blocks.0.0",
    "dynamics/relaxed_weight_error/blocks.1",
]


def test_error_per_layer_and_overall_along_training(make_trainer, tmp_path):
    network = TinyNetwork("c4")
    callback = RelaxedWeights()
    trainer = make_trainer([callback], max_epochs=3)
    trainer.fit(TinyModule(network), datamodule=TinyData())
    rows = dynamics_rows(tmp_path, "relaxed_weight_error")
    assert [row["epochs_trained"] for row in rows] == [0, 1, 2, 3]
    assert [rows[0][name] for name in NAMES] == [0.0, 0.0, 0.0]
    assert rows[0] == {"epoch": 0, "step": 0, "epochs_trained": 0, **callback.start_values}
    for row in rows[1:]:
        assert {name for name in row if name.startswith("dynamics")} == set(NAMES)
        assert row[NAMES[0]] > 0
        assert row[NAMES[0]] == pytest.approx((row[NAMES[1]] + row[NAMES[2]]) / 2, rel=1e-6)
    final = relaxed_weight_error(network).item()
    assert rows[-1][NAMES[0]] == pytest.approx(final, rel=1e-6)
    assert trainer.callback_metrics[NAMES[0]].item() == pytest.approx(final, rel=1e-6)


def test_ordinary_networks_have_none(make_trainer, tmp_path):
    callback = RelaxedWeights()
    trainer = make_trainer([callback])
    trainer.fit(TinyModule(TinyNetwork()), datamodule=TinyData())
    assert not any("relaxed" in name for row in read_metrics(tmp_path) for name in row)
    assert not any("relaxed" in name for name in trainer.callback_metrics)
    assert callback.start_values == {}
