"""What is measured along training is the same, whatever the run computes in."""

import pytest
import torch

from src import callbacks as kinds
from tests.helpers.subjects import classifier
from tests.helpers.tiny import TinyData

RUNS = {  # type of the parameters, and tolerance of what is measured of them
    "bf16-mixed": (torch.float32, 1e-5),
    "bf16-true": (torch.bfloat16, 1e-5),
    "64-true": (torch.float64, 1e-4),
}
NOISE = "residual"  # names of values that say themselves how exact others are


def measured(make_trainer, precision, compiled=False):
    """At the start, of weights that bfloat16 holds, so that they are the same in every precision.

    Also the types of the parameters after a step.
    """
    module = classifier().bfloat16().float()
    if compiled:
        module.net.compile(backend="eager")
    measures = [
        kinds.EquivarianceError("val"),
        kinds.LieDerivative("val"),
        kinds.Sharpness("train"),
        kinds.Hessian("train", num_eigenvalues=1, num_probes=4, lanczos_steps=4),
        kinds.Projection("val"),
        kinds.RelaxedWeights(),
    ]
    callbacks = [kinds.ReestimatedStatistics(), *measures]
    trainer = make_trainer(callbacks, precision=precision, max_steps=1, logger=False)
    trainer.fit(module, datamodule=TinyData())
    values = {n: v for measure in measures for n, v in measure.start_values.items()}
    return values, {p.dtype for p in module.parameters()}


@pytest.mark.slow
def test_runs_of_every_precision_measure_the_same(make_trainer):
    expected, _ = measured(make_trainer, "32-true")
    assert len(expected) > 40
    found = {
        run: (*measured(make_trainer, run), *expectations) for run, expectations in RUNS.items()
    }
    compiled = measured(make_trainer, "32-true", compiled=True)
    found["compiled"] = (*compiled, torch.float32, 1e-5)
    for run, (values, dtypes, dtype, tolerance) in found.items():
        assert dtypes == {dtype}
        assert list(values) == list(expected)
        for name, value in values.items():
            close = pytest.approx(expected[name], rel=tolerance, abs=1e-7)
            assert NOISE in name or value == close, (run, name)
