"""What imposing its symmetry on a relaxed network costs, and whether the loss asks to leave it."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from math import sqrt
from statistics import fmean

import torch
from torch import Tensor, nn

from src.measures.context import preserved_rng, unchanged
from src.measures.objective import Objective
from src.measures.relaxed_kernels import kernel_energy, used_weights
from src.models.components.gcnn.relaxation import Relaxable, relaxed_by, relaxed_layers


@dataclass(frozen=True)
class Projection:
    """Scores ``before`` and ``after`` the projection, by name; and `departure_gradients`."""

    scores: dict[str, dict[str, float]]
    departure_gradients: dict[str, float]


@torch.no_grad()
def projection(
    network: nn.Module,
    score: Callable[[], Mapping[str, float]],
    objective: Objective,
    reestimated: Callable[[], AbstractContextManager] = nullcontext,
) -> Projection:
    """What changes when every relaxed layer of a network is made strict.

    The projection is theta = 0 (see `Relaxable`): relaxed weights are replaced by their means,
    which are the nearest strict ones; see `departure` for when the kernel is the nearest strict
    one too. All other weights stay. Measured in eval mode; the network and random states do not
    change.

    Args:
        network: any network; without relaxed layers it is its own projection.
        score: gives scores of the network as it stands when called, by name, such as its loss on
            fixed data; called before and after the projection, from the same random state.
        objective: the loss on fixed data, for `departure_gradients`.
        reestimated: makes a context in which batch norms have the statistics of the weights as
            they are, such as `Subject.reestimated`; entered for the projected network.
    """

    def scores() -> dict[str, float]:
        with preserved_rng():
            return {name: float(value) for name, value in score().items()}

    with unchanged(network):
        before = scores()
        with relaxed_by(network, 0.0), reestimated():
            after, gradients = scores(), departure_gradients(network, objective)
    changes = {
        name: {"before": old, "after": after[name], "difference": after[name] - old}
        for name, old in before.items()
    }
    return Projection(changes, gradients)


@torch.no_grad()
def departure_gradients(network: nn.Module, objective: Objective) -> dict[str, float]:
    r"""How fast the loss would fall if the layers of the strict network were free to depart.

    .. math:: \frac{1}{2} \sum_{(a, b)} \frac{\|W\|}{100} \frac{q_a \cdot q_b}{\|W(q_a)\|}, \qquad
              q_a = \frac{\partial L_a}{\partial w} - \overline{\frac{\partial L_a}{\partial w}}
              \quad \text{at } w = \bar w

    with w the weights that the layer shares if it is strict (see `Relaxable`), the gradient's mean
    taken over what they are shared over, W the strict kernel and W(q) the kernel with q in place
    of w. One step of gradient descent moves w - w_bar along -q: the value is the fall of the loss,
    to first order, for each per cent of `departure` that is gained along it. The step is that of
    one half of the samples and the loss that of the other half, (a, b) = (1, 2) and (2, 1): on the
    samples that it is taken on, every step gains, whether the data ask for it or not. So of data
    as symmetric as the layer the mean is zero, and single values are of either sign.

    All layers are strict at once, whatever their theta, and each departs alone. Of free kernels
    (see `RelaxedLayer`) w_bar = 0 and nothing is shared. Biases play no part.

    Args:
        network: contains the relaxed layers.
        objective: L, of a network that contains ``network``; batch norms are as they stand.

    Returns:
        By the name of the layer in ``network``, in the unit of L per per cent; nothing of a single
        sample, which has no halves.
    """
    if objective.num_samples < 2:
        return {}
    layers, state, found = relaxed_layers(network), {}, {}
    prefixes = {m: f"{name}." if name else "" for name, m in objective.network.named_modules()}
    with relaxed_by(network, 0.0):
        strict = {name: used_weights(layer) for name, layer in layers.items()}
        for name, layer in layers.items():
            state |= {prefixes[layer] + key: w for key, w in strict[name].items()}
            if getattr(layer, "group_biases", None) is not None:
                state[f"{prefixes[layer]}group_biases"] = layer.effective_biases()
    with relaxed_by(network, None):  # so that the gradient reaches departures
        gradients = [half.gradient(state) for half in _halves(objective)]
    for name, layer in layers.items():
        wholes = [{k: g[prefixes[layer] + k] for k in strict[name]} for g in gradients]
        steps = [_departing(layer, whole) for whole in wholes]
        energies = [kernel_energy(layer, step).item() for step in steps]
        norm = kernel_energy(layer, strict[name]).sqrt().item()
        products = [(q.double() * steps[1][key].double()).sum() for key, q in steps[0].items()]
        fall = sum(products).item() * norm / 100
        found[name] = fmean(fall / sqrt(e) if e > 0 else 0.0 for e in energies)
    return found


def _departing(layer: Relaxable, gradient: dict[str, Tensor]) -> dict[str, Tensor]:
    """Gradients of a layer's `used_weights`, less their means over what these are shared over."""
    departing = {}
    for name, q in gradient.items():
        axes = layer.shared_axes.get(name)  # None: the banks of a layer without relaxed weights
        whole = q.double()
        mean = whole.mean(tuple(range(-axes, 0)), keepdim=True) if axes else 0.0
        departing[name] = torch.zeros_like(q) if axes is None else (whole - mean).to(q)
    return departing


def _halves(objective: Objective) -> list[Objective]:
    """The loss on every other sample, counted over all batches, and on those between."""
    halves, seen = ([], []), 0
    for x, y in objective.data:
        for number, half in enumerate(halves):
            first = (number + seen) % 2
            if len(x) > first:
                half.append((x[first::2], y[first::2]))
        seen += len(x)
    return [replace(objective, data=half) for half in halves]
