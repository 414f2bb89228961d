"""When to measure and draw; what is measured lives in `src.measures`."""

from src.callbacks.dynamics import DynamicsCallback
from src.callbacks.equivariance import EquivarianceError
from src.callbacks.forecast_pictures import ForecastPictures
from src.callbacks.optimization import OptimizationDynamics
from src.callbacks.pictures import WeightPictures
from src.callbacks.probe import Hessian, LieDerivative, Sharpness
from src.callbacks.relaxed_weights import RelaxedWeights
from src.callbacks.weight_path import WeightPath

__all__ = [
    "DynamicsCallback",
    "EquivarianceError",
    "ForecastPictures",
    "Hessian",
    "LieDerivative",
    "OptimizationDynamics",
    "RelaxedWeights",
    "Sharpness",
    "WeightPath",
    "WeightPictures",
]
