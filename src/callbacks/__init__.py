"""When to measure and draw; what is measured lives in `src.measures`."""

from src.callbacks.dynamics import DynamicsCallback
from src.callbacks.optimization import OptimizationDynamics
from src.callbacks.pictures import ForecastPictures, WeightPictures
from src.callbacks.predictions import PredictionFile
from src.callbacks.probe import (
    EquivarianceError,
    Hessian,
    LieDerivative,
    Projection,
    RelaxedWeights,
    Sharpness,
)
from src.callbacks.reestimated import ReestimatedStatistics
from src.callbacks.weight_path import WeightPath

__all__ = [
    "DynamicsCallback",
    "EquivarianceError",
    "ForecastPictures",
    "Hessian",
    "LieDerivative",
    "OptimizationDynamics",
    "PredictionFile",
    "Projection",
    "ReestimatedStatistics",
    "RelaxedWeights",
    "Sharpness",
    "WeightPath",
    "WeightPictures",
]
