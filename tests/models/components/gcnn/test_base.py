"""What holds for all layers: exact values, derivatives, symmetry, precision, errors."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn, get_ema_multi_avg_fn

from src.models.components.gcnn import RelaxedLiftingConv
from src.models.components.gcnn.relaxation import set_relaxation
from tests.helpers.equivariance import assert_equivariant
from tests.helpers.layer_cases import (
    FREE,
    LAYERS,
    RELAXABLE,
    RELAXED,
    STEERABLE,
    STRICT,
    assert_equal_gradients,
    assert_equals_twin,
    make_input,
    make_layer,
)

every_layer = pytest.mark.parametrize("name", LAYERS)

# Group, k and options: with and without mirror, on the grid and off it, one kernel or two at once.
SETTINGS = {
    "one pixel": ("c1", 1, {}),
    "one pixel, turned": ("c3", 1, {}),
    "half turns": ("c2", 7, {}),
    "off the grid": ("c3", 3, {"channels": (1, 3)}),
    "quarter turns": ("c4", 3, {}),
    "partly on the grid": ("c8", 5, {"stride": 2}),
    "pairs of kernels": ("c8", 3, {}),
    "mirror": ("d1", 5, {"stride": 2}),
    "quarter turns and mirror": ("d4", 3, {"stride": 2}),
    "nearest": ("c8", 5, {"interpolation": "nearest"}),
    "bicubic": ("d8", 5, {"interpolation": "bicubic"}),
    "harmonic": ("d4", 5, {"interpolation": "harmonic"}),
}
CASES = [(name, *setting) for name in (*STRICT, *RELAXED, *FREE) for setting in SETTINGS.values()]
every_case = pytest.mark.parametrize(("name", "group", "kernel_size", "options"), CASES)


@every_case
def test_equals_slow_twin(double_precision, name, group, kernel_size, options):
    if options.get("interpolation") != "harmonic":  # the twin samples grids
        assert_equals_twin(make_layer(name, kernel_size, group, **options))


@every_case
def test_is_equivariant_at_the_start(name, group, kernel_size, options):
    """Also in float64, although the constants were made in float32."""
    for dtype in (torch.float32, torch.float64):
        layer = make_layer(name, kernel_size, group, **options).to(dtype)
        assert_equivariant(layer, make_input(layer), group, layer.in_type, layer.out_type)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")  # torch's own
@pytest.mark.parametrize("group", ["c3", "c4"])
@every_layer
def test_derivatives_of_all_kinds(double_precision, name, group):
    """First and second, in forward and reverse mode, also at a theta."""
    options = {"in_type": "vector"} if name in STEERABLE else {}
    layer = make_layer(name, 3, group, channels=(1, 1), **options)
    if name in (*RELAXABLE, *FREE):
        set_relaxation(layer, 0.6)
    names = [name for name, _ in layer.named_parameters()]
    parameters = [p.detach().clone().requires_grad_() for p in layer.parameters()]

    def forward(x, *values):
        return functional_call(layer, dict(zip(names, values)), (x,)).tanh()

    size = (7, 9) if name == "translation" else (2, 3)
    inputs = (make_input(layer, *size, batch=1).requires_grad_(), *parameters)
    assert gradcheck(forward, inputs, fast_mode=True, check_forward_ad=True)
    assert gradgradcheck(forward, inputs, fast_mode=True, check_fwd_over_rev=True)


@pytest.mark.parametrize(("padding", "size"), [("same", 9), ("valid", 5), (0, 5), (1, 7)])
@pytest.mark.parametrize("name", STRICT)
def test_padding(name, padding, size):
    layer = make_layer(name, 5, padding=padding)
    assert layer(make_input(layer, 9, 9)).shape[-2:] == (size, size)


@every_layer
def test_constants_are_not_saved_and_exact_in_double_precision(name):
    layer = make_layer(name, 5, "c8")
    assert set(layer.state_dict()) == set(dict(layer.named_parameters()))
    if name != "translation":
        for constant, exact in layer.half().double().exact_constants().items():
            assert torch.equal(getattr(layer, constant), exact)


@every_case
def test_kernels_are_permuted_where_the_group_only_permutes(name, group, kernel_size, options):
    layer = make_layer(name, kernel_size, group, **options)
    on_grid = group in ("c1", "c2", "c4", "d1", "d4") or (group == "c3" and kernel_size == 1)
    scalars = "readout" not in name and (not layer.in_type.startswith("vector") or group == "c1")
    harmonic = options.get("interpolation") == "harmonic"
    assert layer.permutes == (on_grid and scalars and not harmonic)
    assert hasattr(layer, "transform") != layer.permutes
    assert hasattr(layer, "source") == (layer.permutes or "group" in name)


AVERAGES = {decay: {"avg_fn": get_ema_avg_fn(decay)} for decay in (0.9, 0.99, 0.9999)}
AVERAGES |= {"mean": {}, "many": {"multi_avg_fn": get_ema_multi_avg_fn(0.95)}}


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("group", ["c4", "c8"])
@every_layer
@torch.no_grad()
def test_an_average_of_weights_computes_what_a_layer_of_those_weights_does(name, group, average):
    """Also where buffers are averaged; theta and what permutes or turns kernels stay."""
    layer = make_layer(name, 3, group)
    if name in (*RELAXABLE, *FREE):
        set_relaxation(layer, 0.3)
    averaged = AveragedModel(layer, use_buffers=True, **AVERAGES[average])
    for _ in range(5):
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter))
        averaged.update_parameters(layer)
    x = make_input(layer)
    before = layer(x)
    layer.load_state_dict(averaged.module.state_dict())
    assert torch.equal(averaged(x), layer(x)) and not torch.allclose(before, layer(x))


@every_layer
def test_constants_go_where_the_weights_go(name):
    """Index tables stay integers; theta goes along."""
    layer = make_layer(name, 3, "c8").double()
    if name in (*RELAXABLE, *FREE):
        set_relaxation(layer, 0.3)
    assert not list(layer.buffers())
    layer.to("meta")
    tensors = [v for v in vars(layer).values() if isinstance(v, torch.Tensor)]
    assert all(t.is_meta for t in tensors) and (tensors or name == "translation")
    for table in getattr(layer, "index_tables", ()):
        assert getattr(layer, table).dtype == torch.int64


@pytest.mark.slow
@every_layer
def test_compiles_to_one_graph(name):
    """Traced through autograd too, without a C++ compiler; the same results."""
    torch.compiler.reset()
    layer = make_layer(name).double()
    x = make_input(layer)
    fast, slow = torch.compile(layer, fullgraph=True, backend="aot_eager")(x), layer(x)
    torch.testing.assert_close(fast, slow)
    assert_equal_gradients(fast, slow, list(layer.parameters()))


@every_layer
def test_bfloat16_is_near_float32(name):
    """Under autocast and with parameters of bfloat16, within its precision."""
    layer = make_layer(name)
    x = make_input(layer)
    expected = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        autocast = layer(x)
    half = layer.to(torch.bfloat16)(x.to(torch.bfloat16))
    for y in (autocast, half):
        assert y.dtype is torch.bfloat16
        assert (y.float() - expected).abs().max() < 0.05 * expected.abs().max()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 4}, "`kernel_size` must be odd.*got 4. Use 3 or 5"),
        ({"group": "so2"}, "`group` must be 'cN'"),
        ({"in_channels": 0}, "`in_channels` must be an integer of at least 1; got 0"),
        ({"out_channels": -1}, "`out_channels` must be an integer of at least 1; got -1"),
        ({"stride": 0}, "`stride` must be an integer of at least 1; got 0"),
        ({"padding": "full"}, "`padding` must be one of same, valid, a number of pixels; got"),
        ({"padding": -1}, "`padding` must be an integer of at least 0; got -1"),
        ({"interpolation": "cubic"}, "`interpolation` must be one of"),
        ({"in_type": "regular"}, r"`in_type` must be .*, vector\+scalar; got 'regular'"),
        ({"num_filter_banks": 1.5}, "`num_filter_banks` must be an integer of at least 1; got 1.5"),
    ],
)
def test_bad_arguments(options, message):
    arguments = {"in_channels": 1, "out_channels": 2, "kernel_size": 3, "group": "c4", **options}
    with pytest.raises(ValueError, match=message):
        RelaxedLiftingConv(**arguments)


@pytest.mark.parametrize(
    ("name", "shapes", "expected"),
    [
        ("lifting", [(2, 3, 8, 8), (2, 8, 8), (1, 2, 4, 8, 8)], r"\[B, 2, H, W\] \(2 scalar"),
        ("lifting of vectors", [(1, 2, 8, 8)], r"\[B, 4, H, W\] \(2 vector channels, group c4"),
        ("group", [(1, 2, 8, 5, 5), (1, 3, 4, 5, 5), (1, 8, 5, 5)], r"\[B, 2, 4, H, W\]"),
        ("readout", [(2, 2, 8, 8), (1, 3, 4, 8, 8)], r"\[B, 2, 4, H, W\] \(2 regular"),
        ("steerable", [(2, 8, 8, 8)], r"\[B, 2, 4, H, W\]"),
        ("translation", [(2, 2, 9, 7), (2, 3, 7, 9)], r"\[B, 2, 7, 9\] \(it has weights for each"),
    ],
)
def test_wrong_input(name, shapes, expected):
    layer = make_layer(name)
    message = f"{type(layer).__name__} must have the shape {expected}.*got .*Change `in_channels`"
    for shape in shapes:
        with pytest.raises(ValueError, match=message):
            layer(torch.randn(shape))
