"""Second derivatives of a loss the slow, obvious way, as dense matrices [P, P] in float64."""

import copy

import torch
from torch.autograd.functional import hessian, jacobian
from torch.func import functional_call


def _as_functions(objective):
    """Outputs for all samples as a function of the weights, their loss, and the weights."""
    network = copy.deepcopy(objective.network).eval().double()
    weights = {n: p.detach() for n, p in network.named_parameters() if p.requires_grad}
    inputs, targets = (torch.cat(tensors) for tensors in zip(*objective.data))
    targets = targets.double() if targets.is_floating_point() else targets

    def outputs(vector):
        parts = vector.split([w.numel() for w in weights.values()])
        state = {name: part.view_as(w) for (name, w), part in zip(weights.items(), parts)}
        return functional_call(network, state, (inputs.double(),))

    vector = torch.cat([w.flatten() for w in weights.values()])
    return outputs, lambda predictions: objective.criterion(predictions, targets), vector


def dense_hessian(objective):
    """Second derivatives of the mean loss over samples, by double backward passes."""
    outputs, loss, weights = _as_functions(objective)
    return hessian(lambda w: loss(outputs(w)), weights).numpy()


def dense_gauss_newton(objective):
    """J^T (second derivatives of the loss by the outputs of all samples) J."""
    outputs, loss, weights = _as_functions(objective)
    slopes = jacobian(outputs, weights).flatten(0, -2)
    curvature = hessian(loss, outputs(weights))
    return (slopes.T @ curvature.reshape(len(slopes), -1) @ slopes).numpy()
