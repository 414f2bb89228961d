"""When to measure and draw; what is measured lives in `src.measures`."""

from .dynamics import DynamicsCallback
from .equivariance import EquivarianceError
from .forecast_pictures import ForecastPictures
from .optimization import OptimizationDynamics
from .pictures import WeightPictures
from .probe import Hessian, LieDerivative, Sharpness
from .relaxed_weights import RelaxedWeights
from .weight_path import WeightPath

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
