"""All classification networks, those of test_e2cnn.py too."""

import time
from functools import partial

import pytest
import torch

from src.measures.macs import count_macs
from src.models.components.classifiers import CNN, GCNN, RelaxedGCNN
from src.models.components.e2cnn import E2CNN
from src.models.components.gcnn.actions import transform_image, transform_vector_field
from src.models.components.gcnn.groups import make_group, subgroup_elements
from src.models.components.gcnn.norm import NORMS
from src.models.components.widths import count_parameters

FREE = {"num_filter_banks": None, "group_biases": True, "kernel_biases": True}
FREE_GCNN = partial(RelaxedGCNN, free_kernel="zero", **FREE)
GROUP_NETWORKS = [GCNN, RelaxedGCNN, FREE_GCNN, E2CNN]
NETWORKS = [CNN, *GROUP_NETWORKS]
every_network = pytest.mark.parametrize("network", NETWORKS)


@every_network
def test_logits(network):
    options = {"num_classes": 7, "in_channels": 2, "pool_after": [1]}
    net = network(num_layers=3, hidden_channels=[2, 3, 4], **options)
    assert net(torch.randn(5, 2, 12, 12)).shape == (5, 7)
    for shape in ((5, 3, 12, 12), (2, 12, 12)):
        with pytest.raises(ValueError, match=r"must have the shape \[B, 2, H, W\].*; got"):
            net(torch.randn(shape))
    assert [block[0].out_channels for block in net.blocks] == [2, 3, 4]
    assert [len(block) for block in net.blocks] == [4, 3, 3]


@pytest.mark.parametrize("group", ["c4", "d4", "c8", None])
@pytest.mark.parametrize("network", GROUP_NETWORKS)
@torch.no_grad()
def test_logits_are_invariant_to_exact_elements_at_the_start(network, group):
    """Those of a network without a group are not."""
    x = torch.randn(3, 1, 28, 28)
    turned = [torch.rot90(x, a, (-2, -1)) for a in range(4)]
    if group == "d4":
        turned += [t.flip(-1) for t in turned]
    for group_pool, norm in (("max", "batch"), ("mean", "group"), ("max", "none")):
        options = {"hidden_channels": 3, "num_layers": 3, "pool_after": [2], "norm": norm}
        net = network(group=group or "c1", group_pool=group_pool, **options).eval()
        y = net(x)
        errors = [(net(t) - y).norm() / y.norm() for t in turned]
        assert (max(errors) > 1e-4) if group is None else (max(errors) < 1e-5)


@pytest.mark.parametrize(
    ("group", "kept"),
    [(["d4", "d4", "c4"], "c4"), (["d4", "d2", "c2"], "c2"), (["c8", "c4", "c1"], "c1")],
)
@pytest.mark.parametrize("network", [GCNN, RelaxedGCNN])
@torch.no_grad()
def test_a_group_per_layer_leaves_the_symmetry_of_the_last(network, group, kept):
    """Of the elements of D4: invariant to those kept, and to no other."""
    net = network(group=group, num_layers=3, hidden_channels=3, pool_after=[2]).eval()
    assert net.group == make_group(kept)
    x, d4 = torch.randn(3, 1, 14, 14), make_group("d4")
    y = net(x)
    for g in range(d4.order):
        error = (net(transform_image(x, d4, g)) - y).norm() / y.norm()
        is_kept = g in subgroup_elements(d4, make_group(kept))
        assert (error < 1e-5) if is_kept else (error > 1e-4)


@torch.no_grad()
def test_a_network_without_free_banks_starts_as_the_strict_one_of_its_seed():
    outputs, images = [], torch.randn(2, 1, 12, 12)
    for make in (GCNN, FREE_GCNN):
        torch.manual_seed(0)
        outputs.append(make(num_layers=3, hidden_channels=3, pool_after=[]).eval()(images))
    torch.testing.assert_close(*outputs)


@pytest.mark.parametrize("network", GROUP_NETWORKS)
@torch.no_grad()
def test_logits_of_vector_fields_are_invariant_when_their_vectors_turn_too(network):
    options = {"hidden_channels": 3, "num_layers": 3, "pool_after": [2], "in_channels": 4}
    x, group = torch.randn(3, 4, 14, 14), make_group("d4")
    actions = {"vector": transform_vector_field, "scalar": transform_image}
    for in_type in actions:
        net = network(group="d4", in_type=in_type, **options).eval()
        y = net(x)
        for kind, action in actions.items():
            error = max((net(action(x, group, g)) - y).norm() / y.norm() for g in range(8))
            assert (error < 1e-5) if kind == in_type else (error > 1e-3)
    with pytest.raises(
        ValueError, match=r"`in_channels` must be two for each vector; got 3\. Use 2"
    ):
        network(**options | {"in_channels": 3}, in_type="vector")
    with pytest.raises(ValueError, match="`in_type` must be one of scalar, vector; got 'regular'"):
        network(**options, in_type="regular")


@pytest.mark.parametrize("options", [{}, {"group": "c1"}, {"group": "d4", "kernel_size": 5}])
@pytest.mark.parametrize("network", [CNN, GCNN, RelaxedGCNN, E2CNN])
def test_number_of_parameters_and_time_to_build(network, options):
    if network is CNN:
        options = {"kernel_size": options.get("kernel_size", 7)}
    start = time.process_time()
    net = network(num_parameters=58_000, **options)
    assert time.process_time() - start < (3 if options else 1)
    assert count_parameters(net) == pytest.approx(58_000, rel=0.03)


PER_LAYER = {"group": ["d4", "c4", "c1"]}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    "network", [*NETWORKS, partial(GCNN, **PER_LAYER), partial(FREE_GCNN, **PER_LAYER)]
)
def test_the_counted_number_of_parameters_is_the_real_one(monkeypatch, network, norm):
    counted = []

    def resolve(hidden_channels, num_layers, target, count):
        counted.append(count([3, 1, 4]))
        return [3, 1, 4]

    monkeypatch.setattr("src.models.components.classifiers.resolve_widths", resolve)
    net = network(norm=norm, in_channels=2, num_layers=3, pool_after=[1])
    assert counted == [count_parameters(net)]
    names = [name for name, _ in net.blocks.named_parameters() if name.endswith("0.bias")]
    assert not names or norm == "none", "a norm has shifts of its own"


@pytest.mark.parametrize("options", [{}, {"group": "d4", "in_type": "vector"}, PER_LAYER])
@pytest.mark.parametrize("network", [CNN, GCNN, FREE_GCNN, E2CNN])
def test_the_counted_macs_are_the_real_ones(monkeypatch, network, options):
    counted = []

    def resolve(hidden_channels, num_layers, target, count, name):
        counted.append(count([3, 1, 4]))
        return [3, 1, 4]

    monkeypatch.setattr("src.models.components.classifiers.resolve_widths", resolve)
    if network is CNN or (network is E2CNN and options is PER_LAYER):
        options = {"kernel_size": 5}
    size = {"num_macs": 1, "image_size": (11, 9), "in_channels": 2, "num_layers": 3}
    net = network(**size, pool_after=[1, 2], **options)
    assert counted == [count_macs(net, torch.zeros(2, 2, 11, 9))]


def compiled(network):
    torch.compiler.reset()
    return torch.compile(network, fullgraph=True, backend="aot_eager")  # needs no C++ compiler


def in_bfloat16(network):
    return torch.autocast("cpu", torch.bfloat16)(network.__call__)


@pytest.mark.parametrize(
    ("change", "tolerance"),
    [
        pytest.param(compiled, 1e-4, marks=pytest.mark.slow),
        (in_bfloat16, 0.2),
    ],
)
@pytest.mark.parametrize(
    ("network", "options"),
    [
        (GCNN, {}),
        (RelaxedGCNN, {}),
        (RelaxedGCNN, {"group": "c8", "kernel_size": 5}),
        (FREE_GCNN, {"group": ["d4", "c4", "c1"]}),
    ],
)
def test_logits_and_gradients_stay_the_same(network, options, change, tolerance):
    """Relative to the largest number of all tensors."""
    torch.manual_seed(1)
    net = network(hidden_channels=2, num_layers=3, pool_after=(2,), **options)
    images = torch.randn(16, 1, 10, 10, generator=torch.Generator().manual_seed(1))
    parameters, run = list(net.parameters()), change(net)
    for training in (True, False):
        net.train(training)
        both = []
        for logits in (run(images), net(images)):
            gradients = torch.autograd.grad(logits.float().square().sum(), parameters)
            both.append((logits, *gradients))
        assert both[0][0].dtype is (torch.bfloat16 if change is in_bfloat16 else torch.float32)
        largest = max(plain.abs().max() for plain in both[1])
        for ours, plain in zip(*both, strict=True):
            assert (ours - plain).abs().max() <= tolerance * largest


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        (CNN, {"num_layers": 1}, "`num_layers` must be an integer of at least 2; got 1"),
        (CNN, {"kernel_size": 4}, "`kernel_size` must be odd.*got 4. Use 3 or 5"),
        (E2CNN, {"kernel_size": 4}, "`kernel_size` must be odd.*got 4. Use 3 or 5"),
        (GCNN, {"in_channels": 0}, "`in_channels` must be an integer of at least 1"),
        (GCNN, {"num_classes": 0}, "`num_classes` must be an integer of at least 1"),
        (RelaxedGCNN, {"num_parameters": 50}, "must be met within 3%; widths .* Ask for more"),
        (RelaxedGCNN, {"num_macs": 50}, "`num_macs` must be met within 3%; widths .* Ask for more"),
        (CNN, {"num_macs": 9, "num_parameters": 9}, "`num_macs` must be given without num_param"),
        (RelaxedGCNN, {"num_filter_banks": 0}, "`num_filter_banks` must be an integer of at"),
        (E2CNN, {"pool_after": [7]}, "`pool_after` must be numbers of layers, 1 to 6; got 7"),
        (CNN, {"norm": "layer"}, "`norm` must be one of batch, group, none; got 'layer'"),
        (CNN, {"dropout": 1.5}, "between 0 and 1, but got 1.5"),
        (E2CNN, {"group": "so2"}, "`group` must be 'cN'"),
        (GCNN, {"group": ["c8", "c4"]}, "one group, or one for each of 6 layers; got .* Use 6"),
        (GCNN, {"group_pool": "sum"}, "`mode` must be one of max, mean"),
    ],
)
def test_bad_arguments(network, options, message):
    with pytest.raises(ValueError, match=message):
        network(**options)
