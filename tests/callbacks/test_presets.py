"""The callbacks as configured by default, together, on each of the project's networks."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch.utils.data import DataLoader

from src import callbacks as kinds
from src.models.components.classifiers import CNN, GCNN, RelaxedGCNN
from src.models.components.e2cnn import E2CNN
from tests.helpers.tiny import TinyData, TinyModule, TinyNetwork, read_metrics

CONFIGS = Path(__file__).parents[2] / "configs" / "callbacks"
OPTIONS = {"hidden_channels": 3, "num_layers": 2, "pool_after": [1], "num_classes": 3}
ERROR = "dynamics/equivariance_error"


def default_callbacks(**options):
    files = [OmegaConf.load(CONFIGS / f"{name}.yaml") for name in ("dynamics", "pictures")]
    entries = OmegaConf.merge(*files)
    del entries.weight_path  # needs a run directory
    return [instantiate(e, **options if "every_n_epochs" in e else {}) for e in entries.values()]


@pytest.mark.parametrize(
    ("make", "starts_at_zero", "is_relaxed"),
    [
        (RelaxedGCNN, True, True),
        pytest.param(GCNN, True, False, marks=pytest.mark.slow),
        pytest.param(E2CNN, True, False, marks=pytest.mark.slow),
        (CNN, False, False),
    ],
)
def test_every_network(make_trainer, tmp_path, drawn, make, starts_at_zero, is_relaxed):
    callbacks = default_callbacks()
    trainer = make_trainer(callbacks)
    trainer.fit(TinyModule(make(**OPTIONS), lr=0.5), datamodule=TinyData())
    rows = read_metrics(tmp_path)
    measured = {n.removeprefix("dynamics/") for row in rows for n in row if "dynamics" in n}
    everywhere = {"grad_norm", "learning_rate", "step_time", "update_ratio"}
    everywhere |= {f"first_step{layer}" for layer in ("", "/blocks.0.0", "/blocks.1.0")}
    everywhere |= {f"equivariance_error{layer}" for layer in ("", "/blocks.0", "/blocks.1")}
    everywhere |= {f"lie_derivative{part}" for part in ("", "_relative")}
    changes = ("sharpness", "sharpness_curvature")
    everywhere |= {*changes, *(f"{n}_standard_error" for n in changes)}
    everywhere |= {"sharpness_from_gradient", "sharpness_worst_case"}
    layered = ("relaxed_weight_error", "departure", "departure_gradient")
    relaxed = {f"{n}{layer}" for n in layered for layer in ("", "/blocks.0.0", "/blocks.1.0")}
    relaxed |= {"projected_loss", "projected_loss_change"}
    assert measured == everywhere | (relaxed if is_relaxed else set())
    start = {n: v for c in callbacks for n, v in getattr(c, "start_values", {}).items()}
    assert (start[ERROR] < 1e-5) == starts_at_zero
    end = trainer.callback_metrics[ERROR]
    assert (end < 1e-5) == (starts_at_zero and not is_relaxed)
    if is_relaxed:
        names = ("relaxed_weight_error", "departure", "projected_loss_change")
        assert [start[f"dynamics/{name}"] for name in names] == [0.0] * 3
    pictures = {"kernels", "relaxed_weights"} if is_relaxed else {"kernels"}
    assert set(drawn) == {f"{name}_{time}.png" for name in pictures for time in ("start", "end")}


KINDS = {"fast_dev_run": True, "logger": False, "num_sanity_val_steps": 2}
KINDS |= {"overfit_batches": 1, "limit_val_batches": 0}


@pytest.mark.parametrize(("option", "value"), KINDS.items())
def test_other_kinds_of_runs(make_trainer, tmp_path, drawn, option, value):
    error = kinds.EquivarianceError("val")
    callbacks = [kinds.RelaxedWeights(), error, kinds.OptimizationDynamics()]
    trainer = make_trainer([*callbacks, kinds.WeightPictures()], **{option: value})
    trainer.fit(TinyModule(TinyNetwork("c4")), datamodule=TinyData())
    assert 0 <= error.start_values[ERROR] < 1e-5
    for name in (ERROR, "dynamics/relaxed_weight_error", "dynamics/update_ratio"):
        assert trainer.callback_metrics[name] > 0
    assert len(drawn) == (0 if option == "fast_dev_run" else 4)
    if option == "num_sanity_val_steps":
        rows = [row for row in read_metrics(tmp_path) if ERROR in row]
        assert [row["epochs_trained"] for row in rows] == [0, 2]


def test_measuring_does_not_change_training(make_trainer, tmp_path):
    """Not even with loaders that shuffle by the global random state, and dropout."""

    class Random(TinyData):
        def train_dataloader(self):
            return DataLoader(self.train, batch_size=4, shuffle=True)

        def val_dataloader(self):
            return DataLoader(self.val, batch_size=4, shuffle=True)

    states = []
    for callbacks in ([], default_callbacks(every_n_epochs=1)):
        network = TinyNetwork("c4")
        network.head = torch.nn.Sequential(torch.nn.Dropout(), network.head)
        torch.manual_seed(5)
        options = {"limit_val_batches": 0, "folder": tmp_path / str(len(states))}
        make_trainer(callbacks, **options).fit(TinyModule(network), datamodule=Random())
        states.append(([p.detach().clone() for p in network.parameters()], torch.rand(3)))
    assert torch.equal(states[0][1], states[1][1])
    assert all(torch.equal(*pair) for pair in zip(states[0][0], states[1][0]))


def test_the_preset_for_forecasts_differs_where_it_must():
    """Measures look at fewer samples; forecasts are drawn; what is best the model's config says."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        presets = [OmegaConf.to_container(compose(n), resolve=False) for n in ("default", "smoke")]
    default, smoke = presets
    assert isinstance(instantiate(smoke.pop("forecast_pictures")), kinds.ForecastPictures)
    assert default["checkpoint"]["monitor"] == "${model.monitor}"
    assert default["checkpoint"]["mode"] == "${model.monitor_mode}"
    names = ("equivariance_error", "projection", "lie_derivative", "sharpness")
    for measure in (*names, "reestimated_statistics"):
        assert smoke[measure].pop("num_samples") < default[measure].pop("num_samples")
    assert smoke == default
