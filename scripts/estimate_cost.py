"""Estimate how long experiments train on this machine, from a few measured steps of each.

python scripts/estimate_cost.py rgcnn_rotmnist rgcnn_smoke_rotation --batch-size 1
"""

from math import ceil
from time import perf_counter
from typing import Any

import rootutils

ROOT = rootutils.setup_root(__file__, indicator=".project-root", pythonpath=True, dotenv=False)

import torch  # noqa: E402
from hydra import compose, initialize_config_dir  # noqa: E402
from lightning import Trainer  # noqa: E402
from lightning.pytorch.callbacks import LambdaCallback  # noqa: E402
from omegaconf import DictConfig, OmegaConf  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.utils.data import DataLoader, default_collate  # noqa: E402

from scripts.benchmarks.tables import Table, make_parser, parse, report  # noqa: E402
from scripts.benchmarks.timing import wait_for  # noqa: E402
from src.data.smoke.datamodule import SmokeDataModule  # noqa: E402
from src.measures.macs import count_macs  # noqa: E402
from src.models.components.widths import count_parameters  # noqa: E402
from src.runs.building import build  # noqa: E402
from src.runs.console import quiet_third_party  # noqa: E402
from src.runs.environment import describe_environment  # noqa: E402
from src.runs.resolvers import register_resolvers  # noqa: E402

WARM_UP = 1  # steps that are not counted
NOTE = (
    "s/step: fastest of {steps} steps (forward, backward, update) on random samples of the right "
    "shape; where the timed batch is smaller, proportionally more. MACs: multiply-accumulates of "
    "one image, or of one frame that is forecast. Hours: of all steps of the training, without "
    "validation, tests and measures."
)


def compose_experiment(name: str, overrides: list[str]) -> DictConfig:
    """The config of an experiment."""
    register_resolvers()
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose("train", [f"experiment={name}", *overrides], return_hydra_config=True)


def training_data(config: DictConfig) -> tuple[tuple[Tensor, Tensor] | Tensor, int]:
    """A random sample of the shape of the training samples, and how many of these there are.

    The data set is neither simulated nor downloaded: its size and shapes follow from the config.
    """
    data = build(OmegaConf.merge(config, {"data": {"data_dir": "data"}}), "data")
    if isinstance(data, SmokeDataModule):
        windows = data.windows["train"]
        return torch.randn(windows.length, *data.image_shape), len(windows)
    num_images = data.num_train or data.source.sizes["train"]
    return (torch.randn(data.image_shape), torch.tensor(0)), num_images


def estimate(
    config: DictConfig, device: torch.device, num_steps: int, most: int | None
) -> dict[str, Any]:
    """Time steps of an experiment's network, and multiply them by the steps of its training.

    The fastest of `num_steps` counts. A step of the whole batch is taken to be proportional to
    the timed one, of at most `most` samples.
    """
    model = build(config, "model")
    sample, num_samples = training_data(config)
    batch = config.data.batch_size
    timed_batch = batch if most is None else min(batch, most)
    ticks: list[float] = []  # at the start and the end of each step

    def tick(*_: Any) -> None:
        wait_for(device)
        ticks.append(perf_counter())

    quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    trainer = Trainer(
        accelerator=device.type,
        devices=1 if device.index is None else [device.index],
        max_epochs=1,
        limit_val_batches=0,
        callbacks=[LambdaCallback(on_train_batch_start=tick, on_train_batch_end=tick)],
        **dict.fromkeys(quiet, False),
    )
    loader = DataLoader([sample] * (WARM_UP + num_steps) * timed_batch, batch_size=timed_batch)
    trainer.fit(model, loader, loader)
    starts, ends = ticks[::2], ticks[1::2]
    seconds = min(end - start for start, end in list(zip(starts, ends))[WARM_UP:])
    seconds *= batch / timed_batch
    steps = config.trainer.max_epochs * ceil(num_samples / batch)
    return {
        "model": config.hydra.runtime.choices.model,
        "parameters": f"{count_parameters(model):,}",
        "MACs": f"{count_macs(model, model.network_inputs(default_collate([sample]))):,}",
        "batch": batch,
        "timed batch": timed_batch,
        "steps": f"{steps:,}",
        "s/step": seconds,
        "hours": seconds * steps / 3600,
    }


def main() -> None:
    """Print the table, and write it as JSON where asked to."""
    parser = make_parser(__doc__)
    add = parser.add_argument
    known = sorted(path.stem for path in (ROOT / "configs" / "experiment").glob("*.yaml"))
    add("experiments", nargs="+", choices=known, metavar="experiment")
    add("--models", nargs="+", help="to train in place of the experiments' own")
    add("--override", action="append", default=[], help="such as data.source=rotmnist; repeatable")
    add("--steps", type=int, default=3, help="steps to time, after one to warm up")
    limit = "most samples of a timed step; the whole batch is taken to be proportional"
    add("--batch-size", type=int, help=limit)
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    add("--device", type=torch.device, default=accelerator or torch.device("cpu"))
    given = parse(parser)
    quiet_third_party()
    models = [[f"model={name}"] for name in given.models or []] or [[]]
    rows = []
    for experiment in given.experiments:
        for model in models:
            config = compose_experiment(experiment, [*model, *given.override])
            cost = estimate(config, given.device, given.steps, given.batch_size)
            rows.append({"experiment": experiment} | cost)
    devices = describe_environment(ROOT, seed=0)["devices"]
    place = f"{devices['cpu']}, {devices['torch_threads']} thread(s)"
    if given.device.type == "cuda":
        place = torch.cuda.get_device_name(given.device)
    report([Table(f"Training on {place}", rows, NOTE.format(steps=given.steps))], given)


if __name__ == "__main__":
    main()
