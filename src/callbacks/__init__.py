"""When to measure and draw; what is measured lives in `src.measures`."""

from .dynamics import DynamicsCallback
from .equivariance import EquivarianceError
from .forecast_pictures import ForecastPictures
from .optimization import OptimizationDynamics
from .pictures import WeightPictures
from .relaxed_weights import RelaxedWeights

__all__ = [
    "DynamicsCallback",
    "EquivarianceError",
    "ForecastPictures",
    "OptimizationDynamics",
    "RelaxedWeights",
    "WeightPictures",
]
