"""Trained networks as files, which are written only when they give the same outputs."""

import logging
from collections.abc import Callable
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from textwrap import shorten
from typing import NamedTuple

import torch
from lightning import LightningDataModule, LightningModule
from omegaconf import DictConfig
from torch import Tensor, nn

from src.checks import check_choice
from src.data.samples import first_loader
from src.errors import UserError
from src.files import write_bytes
from src.models.components.export import export
from src.runs.run import Run, prepare_evaluation

log = logging.getLogger(__name__)

TOLERANCE = 1e-5
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


NAMES = {"invariant": ("images", "logits")}  # of input and output in ONNX, by kind of output
FRAMES = ("frames", "forecast")  # of other kinds


def _free_axes(inputs: Tensor) -> tuple[int, ...]:
    """Axes that may have another size than in the trace: samples, height and width."""
    return (0, 2, 3) if inputs.dim() == 4 else (0,)


def _write_pt2(network: nn.Module, inputs: Tensor, names: tuple[str, str]) -> bytes:
    free = dict.fromkeys(_free_axes(inputs), torch.export.Dim.AUTO)
    buffer = BytesIO()
    torch.export.save(torch.export.export(network, (inputs,), dynamic_shapes=(free,)), buffer)
    return buffer.getvalue()


def _run_pt2(data: bytes, inputs: Tensor) -> Tensor:
    return torch.export.load(BytesIO(data)).module()(inputs)


def _write_onnx(network: nn.Module, inputs: Tensor, names: tuple[str, str]) -> bytes:
    for name in ("onnx_ir", "onnxscript"):
        logging.getLogger(name).setLevel(logging.WARNING)  # they log every simplification
    axes = {0: "batch", 2: "height", 3: "width"}
    program = torch.onnx.export(
        network,
        (inputs,),
        dynamo=True,
        dynamic_shapes=({axis: axes[axis] for axis in _free_axes(inputs)},),
        input_names=names[:1],
        output_names=names[1:],
        verbose=False,
    )
    return program.model_proto.SerializeToString()


def _run_onnx(data: bytes, inputs: Tensor) -> Tensor:
    from onnxruntime import InferenceSession

    session = InferenceSession(data, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return torch.from_numpy(session.run(None, {name: inputs.numpy()})[0])


class Format(NamedTuple):
    """A kind of file, for inputs of any number, height and width that the network takes."""

    suffix: str
    write: Callable[[nn.Module, Tensor, tuple[str, str]], bytes]  # of inputs to trace it with
    run: Callable[[bytes, Tensor], Tensor]  # outputs of inputs
    loading: str


FORMATS = {
    "pt2": Format(".pt2", _write_pt2, _run_pt2, "torch.export.load(path).module()"),
    "onnx": Format(".onnx", _write_onnx, _run_onnx, "onnxruntime.InferenceSession(path)"),
}


def prepare_export(composed: DictConfig) -> Run:
    """Check what is to be written, and where, before the checkpoint is read.

    Raises:
        UserError, ValueError: naming what is wrong and how to mend it.
    """
    check_choice("format", composed.format, tuple(FORMATS))
    missing = [name for name in ONNX_PACKAGES if find_spec(name) is None]
    if composed.format == "onnx" and missing:
        raise UserError(
            f"format=onnx needs the packages {', '.join(missing)}, which are not installed. Run "
            '`pip install -e ".[export]"`, or use format=pt2.'
        )
    suffix, checkpoint = FORMATS[composed.format].suffix, Path(composed.ckpt_path)
    path = Path(str(composed.out or checkpoint.with_suffix(suffix)))
    composed.out = str(path)
    if path.suffix != suffix or path.is_dir() or path.resolve() == checkpoint.resolve():
        raise UserError(
            f"`out` must be a file name that ends in {suffix} and is not the checkpoint's; got "
            f"{str(path)!r}. Use for example out=network{suffix}."
        )
    return prepare_evaluation(composed)


def run_export(run: Run, model: LightningModule, datamodule: LightningDataModule) -> None:
    """Write the network of a model in plain operations, when its file gives the model's outputs.

    On a batch of the split that the config names, the largest difference, relative to the largest
    absolute output or to 1 where that is larger, must be at most 1e-5.

    Raises:
        UserError: when the network cannot be traced or the outputs differ; nothing is written then.
    """
    kind, path, split = FORMATS[run.config.format], run.config.out, run.config.split
    datamodule.prepare_data()
    datamodule.setup()
    batch = next(iter(first_loader(getattr(datamodule, f"{split}_dataloader")())))
    inputs = model.network_inputs(batch)
    network = model.net.eval()
    with torch.no_grad():
        expected = network(inputs)
        names = NAMES.get(model.output_kind, FRAMES)
        try:
            data = kind.write(export(network), inputs.new_zeros(2, *inputs.shape[1:]), names)
            outputs = kind.run(data, inputs)
        except Exception as error:  # torch's own, of many kinds
            raise UserError(
                f"A network must be one that {run.config.format} can hold, without steps that "
                f"depend on the values of tensors; {type(network).__name__} could not be written: "
                f"{shorten(str(error), 600)} Change its forward, or use another format."
            ) from error
        scale = max(1.0, expected.abs().max().item())
        difference = (outputs - expected).abs().max().item() / scale
    if not difference <= TOLERANCE:
        raise UserError(
            f"An exported network must give the network's outputs to {TOLERANCE:g}; got a "
            f"difference of {difference:.2g} on {len(inputs)} {split} samples. Nothing "
            "was written. Teach src/models/components/export.py what the layers do."
        )
    write_bytes(path, data)
    run.summary |= {
        "task": run.config.task_name,
        "checkpoint": run.config.ckpt_path,
        "out": path,
        "input_shape": list(inputs.shape[1:]),
        "mean": getattr(datamodule, "mean", None),
        "std": getattr(datamodule, "std", None),
        "num_samples": len(inputs),
        "largest_difference": difference,
    }
    for name in ("velocity_scale", "density_scale"):
        if hasattr(model, name):  # frames are divided by it, forecasts multiplied
            run.summary[name] = getattr(model, name).item()
    text = "The outputs on %d %s samples differ by at most %.1g from the network's."
    log.info(text, len(inputs), split, difference)
    log.info("Wrote %s. Load it with %s.", path, kind.loading)
