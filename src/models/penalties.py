"""What pulls a network back to equivariance: penalties on its weights or on its outputs."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from src.checks import check_choice, wrong
from src.measures.actions import act, group_to_use
from src.models.components.gcnn.actions import transform_each
from src.models.components.gcnn.groups import Group
from src.models.components.gcnn.relaxation import relaxation_penalty, relaxed_layers
from src.models.components.projection import check_projection, projection_penalty

PENALTIES = ("l1", "l2", "projection", "output")


def chosen_group(
    net: nn.Module, penalty: str, group: str | None, counts: bool = True
) -> Group | None:
    """The group that a penalty needs: the one of that name, the network's own, or else C4.

    Args:
        net, penalty, group: see `RelaxedModule`.
        counts: whether the penalty is ever weighted by more than 0.

    Raises:
        ValueError: for an unknown penalty or group, and where the penalty does not apply.
    """
    check_choice("penalty", penalty, PENALTIES)
    if penalty in ("l1", "l2"):
        if counts and not relaxed_layers(net):
            rule = "projection or output for a network without relaxed layers"
            got, fix = f"{penalty}, with {type(net).__name__}", "model.penalty=output"
            raise ValueError(wrong("penalty", rule, got, f"{fix}, or model.alpha=0"))
        return None
    found = group_to_use(net, group)
    if found.order == 1:
        rule = "a group of two elements or more"
        raise ValueError(wrong("penalty_group", rule, group, "model.penalty_group=c4"))
    if penalty == "projection":
        check_projection(net, found)
    return found


def weight_penalty(
    net: nn.Module, penalty: str, group: Group | None, input_kind: str, output_kind: str
) -> Tensor:
    """``"l1"``, ``"l2"`` or ``"projection"``, of the weights as they are."""
    if penalty == "projection":
        return projection_penalty(net, group, input_kind, output_kind)
    return departure_penalty(net) if penalty == "l2" else relaxation_penalty(net)


def departure_penalty(network: nn.Module) -> Tensor:
    r"""Sum over relaxed layers, and over what is free in them, of mean [theta (w - w_bar)]^2.

    With w and w_bar of `Relaxable.departures`. The gradient fades as the layers become strict.

    Reference: M. Finzi, G. Benton, A. Wilson, Residual Pathway Priors for Soft Equivariance
    Constraints, NeurIPS 2021 (a Gaussian prior on what is free).
    """
    layers = relaxed_layers(network).values()
    return sum(d.square().mean() for layer in layers for d in layer.departures())


def output_penalty(
    f: Callable[[Tensor], Tensor],
    inputs: Tensor,
    outputs: Tensor,
    group: Group,
    input_kind: str,
    output_kind: str,
) -> Tensor:
    r"""How far a network is from equivariant on a batch.

    .. math:: \mathrm{mean}_{b, i} \left[ f(g_b x_b) - g_b f(x_b) \right]_i^2

    with one element g_b other than the identity for each sample, drawn uniformly from the global
    generator of the CPU. Elements that map the pixel grid to itself permute pixels; others
    interpolate them.

    Args:
        f: the network, or a rollout of it.
        inputs, outputs: x and f(x), [B, ...]; fields end with height and width, and vectors lie
            in the axes before, components last.
        group: a group of two elements or more.
        input_kind, output_kind: ``"scalar"``, ``"vector"`` or (outputs) ``"invariant"``.

    Reference: A. Elhag, T. K. Rusch, F. Di Giovanni, M. Bronstein, Relaxed Equivariance via
    Multitask Learning, arXiv 2410.17878, 2024.
    """
    elements = torch.randint(1, group.order, (len(inputs),))
    turned = turn_each(input_kind, inputs, elements, group)
    difference = f(turned) - turn_each(output_kind, outputs, elements, group)
    return difference.square().mean()


def turn_each(kind: str, x: Tensor, elements: Tensor, group: Group) -> Tensor:
    """g_b x_b: each sample of that kind acted on by an element of its own, [B] on the CPU."""
    if kind == "invariant":
        return x

    def turn(own: Tensor, element: int) -> Tensor:
        return act(kind, own.flatten(1, -3), element, group, "bilinear").view_as(own)

    return transform_each(x, elements, turn)
