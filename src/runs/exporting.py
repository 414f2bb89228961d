"""Plain networks as files, which are written only when they give the same outputs."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import torch
from lightning import LightningDataModule, LightningModule
from omegaconf import DictConfig
from torch import Tensor, nn

from src.errors import UserError
from src.files import write_bytes
from src.models.components.export import export
from src.runs.run import Run, prepare_evaluation

log = logging.getLogger(__name__)

TOLERANCE = 1e-5


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        suffix: of its name.
        write: the file's bytes for a network and images [B, C, H, W] to trace it with; the file
            is for images of any number, height and width.
        run: logits of images, from such bytes.
        loading: how its user loads it.
        packages: needed besides torch.
    """

    suffix: str
    write: Callable[[nn.Module, Tensor], bytes]
    run: Callable[[bytes, Tensor], Tensor]
    loading: str
    packages: tuple[str, ...] = ()


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
        logging.getLogger(name).setLevel(logging.WARNING)  # they tell every simplification
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


FORMATS = {
    "pt2": Format(".pt2", _write_pt2, _run_pt2, "torch.export.load(path).module()"),
    "onnx": Format(
        ".onnx",
        _write_onnx,
        _run_onnx,
        "onnxruntime.InferenceSession(path)",
        ("onnx", "onnxscript", "onnxruntime"),
    ),
    "torch": Format(".pt", _write_torch, _run_torch, "torch.load(path, weights_only=False)"),
}


def prepare_export(composed: DictConfig) -> Run:
    """Check what is to be written, and where, before the checkpoint is read.

    Raises:
        UserError: naming what is wrong and how to mend it.
    """
    if composed.format not in FORMATS:
        raise UserError(
            f"`format` must be one of {', '.join(FORMATS)}; got {composed.format!r}. Use "
            "format=pt2."
        )
    missing = [name for name in FORMATS[composed.format].packages if find_spec(name) is None]
    if missing:
        raise UserError(
            f"format={composed.format} needs the packages {', '.join(missing)}, which are not "
            'installed. Run `pip install -e ".[export]"`, or use format=pt2.'
        )
    _check_out(composed)
    return prepare_evaluation(composed)


def run_export(run: Run, model: LightningModule, datamodule: LightningDataModule) -> Path:
    """Write the plain network of a model, when its file gives the model's logits.

    It must on a batch of the split that the config names: the largest difference, relative to
    the largest absolute logit or to 1 where that is larger, is at most 1e-5.

    Returns:
        The file.

    Raises:
        UserError: when the outputs differ; nothing is written then.
    """
    written, path = FORMATS[run.config.format], _out(run.config)
    images = _images(datamodule, run.config.split)
    network = model.net.eval()
    with torch.no_grad():
        data = written.write(export(network), images.new_zeros(2, *images.shape[1:]))
        difference = _largest_difference(written.run(data, images), network(images))
    if not difference <= TOLERANCE:
        raise UserError(
            f"An exported network must give the network's outputs to {TOLERANCE:g}; got a "
            f"difference of {difference:.2g} on {len(images)} {run.config.split} images. Nothing "
            "was written. Teach src/models/components/export.py what the layers do."
        )
    write_bytes(path, data)
    run.summary |= {
        "task": run.config.task_name,
        "checkpoint": run.config.ckpt_path,
        "out": str(path),
        "input_shape": list(images.shape[1:]),
        "mean": getattr(datamodule, "mean", None),
        "std": getattr(datamodule, "std", None),
        "num_images": len(images),
        "largest_difference": difference,
    }
    log.info(
        "The outputs on %d %s images differ by at most %.1g from the network's.",
        *(len(images), run.config.split, difference),
    )
    log.info("Wrote %s. Load it with %s.", path, written.loading)
    return path


def _check_out(config: DictConfig) -> None:
    path, suffix = _out(config), FORMATS[config.format].suffix
    same = path.resolve() == Path(config.ckpt_path).resolve()
    if path.suffix != suffix or path.is_dir() or same:
        raise UserError(
            f"`out` must be a file name that ends in {suffix} and is not the checkpoint's; got "
            f"{str(path)!r}. Use for example out=network{suffix}."
        )


def _out(config: DictConfig) -> Path:
    """The file to write: as named, or beside the checkpoint."""
    if config.out is not None:
        return Path(str(config.out))
    return Path(config.ckpt_path).with_suffix(FORMATS[config.format].suffix)


def _images(datamodule: LightningDataModule, split: str) -> Tensor:
    """Images of the first batch of a split."""
    datamodule.prepare_data()
    datamodule.setup()
    return next(iter(getattr(datamodule, f"{split}_dataloader")()))[0]


def _largest_difference(result: Tensor, expected: Tensor) -> float:
    scale = max(1.0, expected.abs().max().item())
    return (result - expected).abs().max().item() / scale
