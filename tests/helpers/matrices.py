"""Symmetric matrices with known eigenvalues, as operators."""

import numpy as np

from src.measures.krylov import SymmetricOperator


def symmetric_matrix(eigenvalues, seed=0):
    """A dense matrix with these eigenvalues, and random eigenvectors."""
    size = len(eigenvalues)
    vectors = np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))[0]
    matrix = (vectors * np.asarray(eigenvalues, dtype=float)) @ vectors.T
    return (matrix + matrix.T) / 2


def as_operator(matrix, **options):
    """The matrix as an operator that counts its products."""
    return SymmetricOperator(matrix.dot, len(matrix), **options)
