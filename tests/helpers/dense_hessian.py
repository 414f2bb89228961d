"""Second derivatives of a loss the slow, obvious way, as dense matrices in float64."""

import copy

import torch
from torch.autograd.functional import hessian, jacobian
from torch.func import functional_call


def _as_function(objective):
    """The network in eval mode and float64, its weights as one vector, and their names."""
    network = copy.deepcopy(objective.network).eval().double()
    weights = {n: p.detach() for n, p in network.named_parameters() if p.requires_grad}

    def outputs(vector, inputs):
        parts = vector.split([w.numel() for w in weights.values()])
        state = {name: part.view_as(w) for (name, w), part in zip(weights.items(), parts)}
        return functional_call(network, state, (inputs,))

    return outputs, torch.cat([w.flatten() for w in weights.values()])


def _all_samples(objective):
    """All batches as one."""
    inputs, targets = (torch.cat(tensors) for tensors in zip(*objective.data))
    return inputs.double(), targets.double() if targets.is_floating_point() else targets


def dense_hessian(objective):
    """Second derivatives of the mean loss over samples, [P, P], by double backward passes."""
    outputs, weights = _as_function(objective)
    inputs, targets = _all_samples(objective)
    return hessian(lambda w: objective.criterion(outputs(w, inputs), targets), weights).numpy()


def dense_gauss_newton(objective):
    """J^T (second derivatives of the loss by the outputs of all samples) J, [P, P]."""
    outputs, weights = _as_function(objective)
    inputs, targets = _all_samples(objective)
    predictions = outputs(weights, inputs)
    slopes = jacobian(lambda w: outputs(w, inputs), weights).flatten(0, -2)
    curvature = hessian(lambda f: objective.criterion(f, targets), predictions)
    return (slopes.T @ curvature.reshape(len(slopes), -1) @ slopes).numpy()
