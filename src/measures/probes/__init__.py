"""Every measure of a network on fixed batches, with its options, under the names that are logged.

Callbacks take them along training and `src/measure.py` takes them of checkpoints, so both agree
on the same samples.
Options that are not listed are those of the functions that the first line names; ``output`` and
``input``, how the network's output and input transform, are by default as the module says.
"""

from src.measures.probes.equivariance import equivariance_error, lie_derivative
from src.measures.probes.loss import hessian, sharpness
from src.measures.probes.path import landscape
from src.measures.probes.relaxation import projection, symmetry

__all__ = [
    "equivariance_error",
    "hessian",
    "landscape",
    "lie_derivative",
    "projection",
    "sharpness",
    "symmetry",
]
