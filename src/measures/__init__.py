"""Pure functions that quantify how a network is, and how it changes, during training."""

from src.measures.context import evaluation_mode, preserved_rng
from src.measures.equivariance import equivariance_error, equivariance_errors
from src.measures.forecast import ForecastScores, divergence
from src.measures.objective import Objective
from src.measures.optimization import grad_norm, kernels, update_ratio
from src.measures.relaxed_weights import relaxed_weight_error, relaxed_weight_errors
from src.measures.subject import PathPoint, Reading, Subject, network_of

__all__ = [
    "ForecastScores",
    "Objective",
    "PathPoint",
    "Reading",
    "Subject",
    "divergence",
    "equivariance_error",
    "equivariance_errors",
    "evaluation_mode",
    "grad_norm",
    "kernels",
    "network_of",
    "preserved_rng",
    "relaxed_weight_error",
    "relaxed_weight_errors",
    "update_ratio",
]
