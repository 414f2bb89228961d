"""The relaxed-weight equivariance error along training."""

from lightning import LightningModule, Trainer

from src.callbacks.dynamics import DynamicsCallback
from src.measures import network_of, relaxed_weight_error, relaxed_weight_errors


class RelaxedWeights(DynamicsCallback):
    """Logs how far relaxed layers are from strict ones, see `src.measures.relaxed_weight_error`.

    Names: ``dynamics/relaxed_weight_error`` (mean over layers) and
    ``dynamics/relaxed_weight_error/<layer>``; none for networks without relaxed layers.
    """

    def measure(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float]:
        network = network_of(pl_module)
        errors = relaxed_weight_errors(network)
        if not errors:
            return {}
        values = {"dynamics/relaxed_weight_error": relaxed_weight_error(network)}
        values |= {f"dynamics/relaxed_weight_error/{name}": e for name, e in errors.items()}
        return {name: value.item() for name, value in values.items()}
