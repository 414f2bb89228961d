"""The callbacks as configured by default, on each of the project's networks."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from src.callbacks import (
    EquivarianceError,
    ForecastPictures,
    LieDerivative,
    OptimizationDynamics,
    RelaxedWeights,
    Sharpness,
    WeightPictures,
)
from src.models.components.classifiers import CNN, GCNN, RelaxedGCNN
from tests.helpers.tiny import TinyData, TinyModule, lightning_warnings, read_metrics

pytestmark = lightning_warnings

CONFIGS = Path(__file__).parents[2] / "configs" / "callbacks"
OPTIONS = {"hidden_channels": 3, "num_layers": 2, "pool_after": [1], "num_classes": 3}


def default_callbacks():
    entries = [OmegaConf.load(CONFIGS / f"{name}.yaml") for name in ("dynamics", "pictures")]
    return [
        instantiate(entry)
        for file in entries
        for name, entry in file.items()
        if name != "weight_path"  # needs a run directory
    ]


def test_presets_name_every_callback():
    kinds = [type(callback) for callback in default_callbacks()]
    measures = [RelaxedWeights, EquivarianceError, LieDerivative, Sharpness]
    assert kinds == [*measures, OptimizationDynamics, WeightPictures]


def make_e2cnn(**options):
    from src.models.components.e2cnn import E2CNN

    return E2CNN(**options)


@pytest.mark.parametrize(
    ("make", "starts_at_zero", "is_relaxed"),
    [
        (RelaxedGCNN, True, True),
        (GCNN, True, False),
        (make_e2cnn, True, False),
        (CNN, False, False),
    ],
)
def test_every_network(make_trainer, tmp_path, make, starts_at_zero, is_relaxed):
    callbacks = default_callbacks()
    trainer = make_trainer(callbacks)
    trainer.fit(TinyModule(make(**OPTIONS), lr=0.5), datamodule=TinyData())
    rows = read_metrics(tmp_path)
    measured = {n.removeprefix("dynamics/") for row in rows for n in row if "dynamics" in n}
    equivariance = {f"equivariance_error{layer}" for layer in ("", "/blocks.0", "/blocks.1")}
    lie = {f"lie_derivative{part}" for part in ("", "_relative", "_floor")}
    sharpness = {"sharpness", "sharpness_relative", "sharpness_worst_case"}
    sharpness |= {f"{n}_standard_error" for n in ("sharpness", "sharpness_relative")}
    optimization = {"grad_norm", "learning_rate", "step_time", "update_ratio"}
    relaxed = {f"relaxed_weight_error{layer}" for layer in ("", "/blocks.0.0", "/blocks.1.0")}
    everywhere = equivariance | lie | sharpness | optimization
    assert measured == everywhere | (relaxed if is_relaxed else set())
    start = {n: v for c in callbacks for n, v in getattr(c, "start_values", {}).items()}
    assert (start["dynamics/equivariance_error"] < 1e-5) == starts_at_zero
    end = trainer.callback_metrics["dynamics/equivariance_error"]
    assert (end < 1e-5) == (starts_at_zero and not is_relaxed)
    if is_relaxed:
        assert start["dynamics/relaxed_weight_error"] == 0.0
    pictures = {"kernels", "relaxed_weights"} if is_relaxed else {"kernels"}
    names = {f"{name}_{time}.png" for name in pictures for time in ("start", "end")}
    assert {path.name for path in (tmp_path / "images").iterdir()} == names


def test_the_preset_for_forecasts_differs_where_it_must():
    """Least error is best; inputs and outputs turn as vectors; forecasts are drawn."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        default, smoke = (
            OmegaConf.to_container(compose(name), resolve=False) for name in ("default", "smoke")
        )
    drawing = instantiate(smoke.pop("forecast_pictures"))
    assert isinstance(drawing, ForecastPictures)
    changes = {
        (name, key): value
        for name, options in smoke.items()
        for key, value in options.items()
        if value != default[name].get(key)
    }
    assert changes == {
        ("checkpoint", "monitor"): "val/rmse",
        ("checkpoint", "mode"): "min",
        ("equivariance_error", "num_samples"): 32,
        ("lie_derivative", "num_samples"): 32,
        ("sharpness", "num_samples"): 32,
    }
    assert smoke.keys() == default.keys()
    instantiate(smoke["equivariance_error"])
