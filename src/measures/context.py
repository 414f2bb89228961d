"""Contexts in which a model is measured: they leave neither the model nor random states changed."""

import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[nn.Module]:
    """Put every submodule in eval mode; on leaving, give each its own mode back.

    Modes are set through ``module.train(mode)``, not through the flag ``module.training``, so
    that modules which keep something for eval mode (e2cnn's convolutions keep their expanded
    filters as buffers) throw it away again.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield model
    finally:
        for module, mode in modes:  # parents come first, so each child has the last word
            if module.training != mode:
                module.train(mode)


@contextmanager
def as_written(model: nn.Module) -> Iterator[nn.Module]:
    """Call modules as they are written: what `module.compile()` made of them is set aside.

    A compiled module would pass over new hooks, and be compiled again for replaced parameters.
    """
    compiled = [(module, module._compiled_call_impl) for module in model.modules()]
    try:
        for module, _ in compiled:
            module._compiled_call_impl = None
        yield model
    finally:
        for module, implementation in compiled:
            module._compiled_call_impl = implementation


@contextmanager
def preserved_rng() -> Iterator[None]:
    """Restore the random state of Python, NumPy and torch (CPU and every CUDA device)."""
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002


@contextmanager
def unchanged(model: nn.Module) -> Iterator[nn.Module]:
    """Measure a model in eval mode and as it is written; modes and random states are restored."""
    with evaluation_mode(model), as_written(model), preserved_rng():
        yield model


@contextmanager
def without_jit_warnings() -> Iterator[None]:
    """Ignore the warning of torch's own `torch.jit` that forward mode raises when first used."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.script` is deprecated")
        yield
