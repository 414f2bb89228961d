"""Small modules with data, as subjects of measures."""

from copy import deepcopy
from functools import partial

import torch
from torch import nn

from src.measures import PathPoint, Subject
from src.models.classification_module import ClassificationModule
from src.models.components.classifiers import RelaxedGCNN
from src.models.components.forecasters import RelaxedGCNNForecaster
from src.models.components.gcnn.relaxation import relaxed_layers
from src.models.forecasting_module import ForecastingModule
from tests.helpers.measured import images

SMALL = {"hidden_channels": 2, "num_layers": 2, "pool_after": [1], "num_classes": 3}
OPTIMIZER = partial(torch.optim.SGD, lr=0.1)


def classifier(make=RelaxedGCNN, **options):
    torch.manual_seed(0)
    return relax(ClassificationModule(make(**SMALL, **options), OPTIMIZER))


def forecaster(**options):
    torch.manual_seed(0)
    net = RelaxedGCNNForecaster(num_inputs=2, hidden_channels=2, num_layers=3, **options)
    return relax(ForecastingModule(net, OPTIMIZER, num_inputs=2))


def relax(module):
    """Move the relaxed weights apart."""
    for layer in relaxed_layers(module).values():
        nn.init.uniform_(layer.relaxed_weights)
    return module


DIGITS = (images(6, 1, 8).float(), torch.tensor([0, 1, 2, 2, 1, 1]))
WINDOWS = images(3, 8, 6).float().unflatten(1, (4, 2))


def subject_of(module, **options):
    batch = WINDOWS if isinstance(module, ForecastingModule) else DIGITS
    return Subject(module, [batch], **options)


def path_of(network):
    """Three states, off a straight line."""
    path = []
    for step in range(3):
        state, generator = deepcopy(network.state_dict()), torch.Generator().manual_seed(step)
        for tensor in filter(torch.is_floating_point, state.values()):
            noise = torch.randn(tensor.shape, generator=generator)
            tensor.copy_((tensor + 0.1 * noise).abs())
        path.append(PathPoint(state, float(step), 10 * step))
    return path
