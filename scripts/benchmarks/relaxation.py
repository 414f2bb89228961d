"""Training steps of every way to relax a network, against the strict one of the same widths."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.utils.data import default_collate

from scripts.benchmarks.tables import Table
from scripts.benchmarks.timing import Settings
from scripts.estimate_cost import compose_experiment, training_data
from src.models.optimization import make_optimizer
from src.runs.building import build

# widths of the presets of `rgcnn`
WIDTHS = {"rotmnist": [8, 8, 12, 12, 17, 17], "smoke": [10, 10, 9, 9]}
# what configs/relaxation chooses, and the most that its step shall take of a strict one
AIMS = dict.fromkeys(("filter_banks", "group_biases", "kernel_biases", "l1", "l2"), 1.05)
AIMS |= dict.fromkeys(("free_kernel", "annealed", "learned", "dual_ascent", "projection"), 1.15)
AIMS |= {"output": 2.1}
NOTE = (
    "Widths {widths} for all; batch and optimizer of the experiments. A step is forward, loss with "
    "penalty, backward, update and what follows it, without Lightning's loop. Strict: gcnn; the "
    "others: rgcnn with relaxation=..., of 2 filter banks where the choice leaves them. Ratios of "
    "minima (10-90 % of the rounds' ratios)."
)


def make_training_step(
    experiment: str, settings: Settings, overrides: Sequence[str]
) -> Callable[[], object]:
    """A step as the experiment's module takes it; the learning rate is 0, so that all are alike."""
    config = compose_experiment(experiment, list(overrides))
    torch.manual_seed(0)
    module = build(config, "model").to(settings.device, settings.parameter_dtype)
    if settings.compile:
        module.net.compile()
    module.log = lambda *_, **__: None  # without a trainer
    batch = default_collate([training_data(config)[0]] * config.data.batch_size)
    is_one = isinstance(batch, Tensor)  # windows of frames; else images and labels
    batch = batch.to(settings.device) if is_one else [t.to(settings.device) for t in batch]
    optimizer = make_optimizer(module.net, module.optimizer)
    for parameters in optimizer.param_groups:
        parameters["lr"] = 0.0

    def closure() -> Tensor:
        optimizer.zero_grad()
        with settings.precision():
            loss = module.training_step(batch, 0)
        loss.backward()
        return loss

    return partial(module.optimizer_step, 0, 0, optimizer, closure)


def benchmark(data: str, settings: Settings, overrides: Sequence[str] = ()) -> Table:
    """A row for each choice, on ``rotmnist`` or ``smoke``."""
    widths = WIDTHS[data]
    same = ["model.net.num_parameters=null", f"model.net.hidden_channels={widths}", *overrides]
    steps = {"strict": make_training_step(f"gcnn_{data}", settings, same)}
    for choice in AIMS:
        chosen = [f"relaxation={choice}", *same]
        steps[choice] = make_training_step(f"rgcnn_{data}", settings, chosen)
    timings = settings.time(steps, f"relaxation {data}")
    rows = [
        {
            "relaxation": choice,
            "step / strict": timings.ratio(choice, "strict"),
            "aim": aim,
            "step, ms": timings.minimum(choice) * 1e3,
            "strict, ms": timings.minimum("strict") * 1e3,
        }
        for choice, aim in AIMS.items()
    ]
    return Table(f"Training step of relaxed networks, {data}", rows, NOTE.format(widths=widths))
