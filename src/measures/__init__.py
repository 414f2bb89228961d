"""Pure functions that quantify how a network is, and how it changes, during training."""

from .context import evaluation_mode, preserved_rng
from .equivariance import (
    EquivarianceErrors,
    equivariance_error,
    equivariance_errors,
    equivariance_errors_per_layer,
)
from .forecast import ForecastScores, divergence, kinetic_energy, persistence, squared_error
from .objective import Objective, Weights
from .optimization import grad_norm, update_ratio
from .relaxed_weights import relaxation_penalty, relaxed_weight_error, relaxed_weight_errors

__all__ = [
    "EquivarianceErrors",
    "ForecastScores",
    "Objective",
    "Weights",
    "divergence",
    "equivariance_error",
    "equivariance_errors",
    "equivariance_errors_per_layer",
    "evaluation_mode",
    "grad_norm",
    "kinetic_energy",
    "persistence",
    "preserved_rng",
    "relaxation_penalty",
    "relaxed_weight_error",
    "relaxed_weight_errors",
    "squared_error",
    "update_ratio",
]
