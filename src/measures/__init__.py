"""Pure functions that quantify how a network is, and how it changes, during training."""

from src.measures.context import evaluation_mode, preserved_rng
from src.measures.equivariance import (
    EquivarianceErrors,
    equivariance_error,
    equivariance_error_per_element,
    equivariance_errors,
    equivariance_errors_per_layer,
)
from src.measures.forecast import (
    ForecastScores,
    divergence,
    kinetic_energy,
    persistence,
    squared_error,
)
from src.measures.interpolation_floor import interpolation_floor, interpolation_floor_per_element
from src.measures.objective import Objective, Weights
from src.measures.optimization import grad_norm, update_ratio
from src.measures.relaxed_weights import relaxed_weight_error, relaxed_weight_errors
from src.measures.subject import PathPoint, Reading, Subject, network_of

__all__ = [
    "EquivarianceErrors",
    "ForecastScores",
    "Objective",
    "PathPoint",
    "Reading",
    "Subject",
    "Weights",
    "divergence",
    "equivariance_error",
    "equivariance_error_per_element",
    "equivariance_errors",
    "equivariance_errors_per_layer",
    "evaluation_mode",
    "grad_norm",
    "interpolation_floor",
    "interpolation_floor_per_element",
    "kinetic_energy",
    "network_of",
    "persistence",
    "preserved_rng",
    "relaxed_weight_error",
    "relaxed_weight_errors",
    "squared_error",
    "update_ratio",
]
