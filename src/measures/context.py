"""Contexts in which a model is measured: they leave neither the model nor random states changed."""

import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import nn

_NEWER = "fp32_precision"  # attribute of these members of `torch.backends`, from torch 2.9 on
_PRODUCTS = ("cuda.matmul", "cudnn.conv", "cudnn.rnn")
_PRODUCTS += ("mkldnn.matmul", "mkldnn.conv", "mkldnn.rnn")


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
def full_precision() -> Iterator[None]:
    """Compute with all digits of the tensors: no TF32 or bfloat16 in products, no autocast.

    torch has an older and a newer setting for most products, and refuses to read the older one
    where they disagree: both are set, and the older ones are restored first.
    """
    cudnn = torch.backends.cudnn
    matmul = _or_none(torch.get_float32_matmul_precision)
    convolutions = _or_none(lambda: cudnn.allow_tf32)
    products = [product for product in map(_backend, _PRODUCTS) if hasattr(product, _NEWER)]
    newer = [getattr(product, _NEWER) for product in products]
    try:
        torch.set_float32_matmul_precision("highest")
        cudnn.allow_tf32 = False
        for product in products:
            setattr(product, _NEWER, "ieee")
        with ExitStack() as stack:
            for device in filter(torch.is_autocast_enabled, ("cpu", "cuda", "mps")):
                stack.enter_context(torch.autocast(device, enabled=False))
            yield
    finally:
        if matmul is not None:
            torch.set_float32_matmul_precision(matmul)
        if convolutions is not None:
            cudnn.allow_tf32 = convolutions
        for product, setting in zip(products, newer):
            setattr(product, _NEWER, setting)


def _or_none(older_setting: Callable[[], Any]) -> Any:
    """An older setting; None where newer ones were set instead."""
    try:
        return older_setting()
    except RuntimeError:
        return None


def _backend(name: str) -> Any:
    """A member of `torch.backends` by its dotted name; None where torch is too old for it."""
    return reduce(lambda parent, part: getattr(parent, part, None), name.split("."), torch.backends)


@contextmanager
def single_precision(network: nn.Module) -> Iterator[nn.Module]:
    """Give a network of half precision float32 weights of the same values, until it is left."""
    halves = (torch.float16, torch.bfloat16)
    half = next((p.dtype for p in network.parameters() if p.dtype in halves), None)
    if half is not None:
        network.float()
    try:
        yield network
    finally:
        if half is not None:
            network.to(half)


@contextmanager
def unchanged(model: nn.Module) -> Iterator[nn.Module]:
    """Measure a model in eval mode, as it is written and in full precision; all is restored."""
    with evaluation_mode(model), as_written(model), preserved_rng(), full_precision():
        yield model


@contextmanager
def without_jit_warnings() -> Iterator[None]:
    """Ignore the warning of torch's own `torch.jit` that forward mode raises when first used."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.script` is deprecated")
        yield
