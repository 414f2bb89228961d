"""Learned strengths of relaxation, pulled to zero by multipliers: dual ascent."""

import math

import torch
from torch import Tensor, nn

from src.checks import check_number
from src.models.components.gcnn.learned import learn_relaxations
from src.models.components.gcnn.relaxation import relaxed_layers


class DualAscent(nn.Module):
    r"""Minimises the loss under the constraint that every layer is strict, theta_i = 0.

    .. math:: J + \sum_i \left( \lambda_i \theta_i + \frac{c}{2} \theta_i^2 \right), \qquad
              \lambda_i \leftarrow \lambda_i + \eta\, \theta_i

    Weights and theta descend by the optimizer; after each of its steps the multipliers ascend.
    Theta is 1 at the start and of either sign, lambda is 0. Where the data do not ask for a theta
    nothing stops lambda and theta from swinging about 0 but c.

    Of data that are symmetric in part theta = 0 asks too much. The elastic form lets each layer
    choose its own bound u_i, at a price:

    .. math:: J + \sum_i \left( \lambda_i (|\theta_i| - u_i) + \frac{\rho}{2} u_i^2 +
              \frac{c}{2} \theta_i^2 \right), \quad u_i = \frac{\lambda_i}{\rho}, \quad
              \lambda_i \leftarrow \max(0, \lambda_i + \eta\, (|\theta_i| - u_i))

    with the u that makes it least. It comes to rest at lambda = rho |theta|. What depends on
    neither weights nor theta is left out of the loss.

    Args:
        rate: eta, the multipliers' learning rate; at most rho, else they step over where they rest.
        elastic: rho, the price of a bound, above 0; None: theta = 0 is asked for.
        damping: c, as in an augmented Lagrangian; 0 as published.

    Attributes:
        multipliers: [number of relaxed layers], lambda, a buffer.

    Reference: A. Manolache, L. Chamon, M. Niepert, Learning (Approximately) Equivariant Networks
    via Constrained Optimization, NeurIPS 2025; a rate of 1e-3 as there, swept from 1e-5 to 1e-1.
    """

    multipliers: Tensor

    def __init__(
        self, rate: float = 1e-3, elastic: float | None = None, damping: float = 0.0
    ) -> None:
        super().__init__()
        check_number("damping", damping, 0, fix="model.relaxation.damping=0.1, or 0.0")
        if elastic is not None:
            fix = "model.relaxation.elastic=1.0, or null for theta = 0"
            check_number("elastic", elastic, 1e-12, fix=fix)
        most = math.inf if elastic is None else elastic
        check_number("rate", rate, 0, most, fix="model.relaxation.rate=1e-3, at most `elastic`")
        self.rate, self.elastic, self.damping = rate, elastic, damping

    def start(self, network: nn.Module) -> None:
        """Let the network learn its thetas, each with a multiplier of zero.

        ValueError if there is no relaxed layer.
        """
        learn_relaxations(network)
        thetas = self._thetas(network)
        self.register_buffer("multipliers", torch.zeros_like(thetas))

    def forward(self, network: nn.Module) -> Tensor:
        """What is added to the loss J."""
        thetas = self._thetas(network)
        pulled = self.multipliers * (thetas if self.elastic is None else thetas.abs())
        return (pulled + self.damping / 2 * thetas.square()).sum()

    @torch.no_grad()
    def ascend(self, network: nn.Module) -> None:
        """Take one step of the multipliers."""
        thetas = self._thetas(network)
        if self.elastic is None:
            self.multipliers.add_(self.rate * thetas)
        else:
            slack = thetas.abs() - self.multipliers / self.elastic
            self.multipliers.add_(self.rate * slack).clamp_(min=0)

    def named_multipliers(self, network: nn.Module) -> dict[str, float]:
        """Lambda of each relaxed layer, by its name in the network."""
        return dict(zip(relaxed_layers(network), self.multipliers.tolist()))

    def _thetas(self, network: nn.Module) -> Tensor:
        return torch.stack([layer.relaxation for layer in relaxed_layers(network).values()])
