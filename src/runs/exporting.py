"""Plain networks as files, which are written only when they give the same outputs."""

import logging
from collections.abc import Callable
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import torch
from lightning import LightningDataModule, LightningModule
from omegaconf import DictConfig
from torch import Tensor, nn

from src.checks import check_choice
from src.errors import UserError
from src.files import write_bytes
from src.models.components.export import export
from src.runs.run import Run, prepare_evaluation

log = logging.getLogger(__name__)

TOLERANCE = 1e-5
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def _write_torch(network: nn.Module, images: Tensor) -> bytes:
    buffer = BytesIO()
    torch.save(network, buffer)
    return buffer.getvalue()


def _run_torch(data: bytes, images: Tensor) -> Tensor:
    return torch.load(BytesIO(data), weights_only=False)(images)


def _write_pt2(network: nn.Module, images: Tensor) -> bytes:
    free = dict.fromkeys((0, 2, 3), torch.export.Dim.AUTO)
    buffer = BytesIO()
    torch.export.save(torch.export.export(network, (images,), dynamic_shapes=(free,)), buffer)
    return buffer.getvalue()


def _run_pt2(data: bytes, images: Tensor) -> Tensor:
    return torch.export.load(BytesIO(data)).module()(images)


def _write_onnx(network: nn.Module, images: Tensor) -> bytes:
    for name in ("onnx_ir", "onnxscript"):
        logging.getLogger(name).setLevel(logging.WARNING)  # they log every simplification
    program = torch.onnx.export(
        network,
        (images,),
        dynamo=True,
        dynamic_shapes=({0: "batch", 2: "height", 3: "width"},),
        input_names=["images"],
        output_names=["logits"],
        verbose=False,
    )
    return program.model_proto.SerializeToString()


def _run_onnx(data: bytes, images: Tensor) -> Tensor:
    from onnxruntime import InferenceSession

    session = InferenceSession(data, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


class Format(NamedTuple):
    """A kind of file, for images of any number, height and width."""

    suffix: str
    write: Callable[[nn.Module, Tensor], bytes]  # of a network and images to trace it with
    run: Callable[[bytes, Tensor], Tensor]  # logits of images
    loading: str


FORMATS = {
    "pt2": Format(".pt2", _write_pt2, _run_pt2, "torch.export.load(path).module()"),
    "onnx": Format(".onnx", _write_onnx, _run_onnx, "onnxruntime.InferenceSession(path)"),
    "torch": Format(".pt", _write_torch, _run_torch, "torch.load(path, weights_only=False)"),
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
    """Write the plain network of a model, when its file gives the model's logits.

    On a batch of the split that the config names, the largest difference, relative to the largest
    absolute logit or to 1 where that is larger, must be at most 1e-5.

    Raises:
        UserError: when the outputs differ; nothing is written then.
    """
    kind, path, split = FORMATS[run.config.format], run.config.out, run.config.split
    datamodule.prepare_data()
    datamodule.setup()
    images = next(iter(getattr(datamodule, f"{split}_dataloader")()))[0]
    network = model.net.eval()
    with torch.no_grad():
        data = kind.write(export(network), images.new_zeros(2, *images.shape[1:]))
        expected = network(images)
        scale = max(1.0, expected.abs().max().item())
        difference = (kind.run(data, images) - expected).abs().max().item() / scale
    if not difference <= TOLERANCE:
        raise UserError(
            f"An exported network must give the network's outputs to {TOLERANCE:g}; got a "
            f"difference of {difference:.2g} on {len(images)} {split} images. Nothing "
            "was written. Teach src/models/components/export.py what the layers do."
        )
    write_bytes(path, data)
    run.summary |= {
        "task": run.config.task_name,
        "checkpoint": run.config.ckpt_path,
        "out": path,
        "input_shape": list(images.shape[1:]),
        "mean": getattr(datamodule, "mean", None),
        "std": getattr(datamodule, "std", None),
        "num_images": len(images),
        "largest_difference": difference,
    }
    text = "The outputs on %d %s images differ by at most %.1g from the network's."
    log.info(text, len(images), split, difference)
    log.info("Wrote %s. Load it with %s.", path, kind.loading)
