import pytest
import torch
from torch import nn

from src.measures.actions import known_fields
from src.measures.substitution import blocks_of, substituted_outputs
from tests.helpers.measured import Function

X = torch.tensor([1.0])


def chain(first=lambda x: 2 * x):
    """2 x, then + 3, then squared; counts the calls of its blocks."""
    model = nn.Module()
    model.calls = []
    one = Function(lambda x: model.calls.append(0) or first(x))
    model.blocks = nn.Sequential(one, Function(lambda x: model.calls.append(1) or x + 3))
    model.forward = lambda x: model.blocks(x) ** 2
    return model


def test_outputs_are_kept_in_the_order_of_execution_and_replaced_layers_do_not_run():
    model = chain()
    assert blocks_of(nn.Linear(1, 1)) == {}
    with substituted_outputs(model, blocks_of(model)) as substitution:
        y, outputs = substitution.keep(X)
        assert (y, list(outputs.items())) == (25, [("blocks.0", 2), ("blocks.1", 5)])
        model.calls.clear()
        assert substitution.replace(X, {"blocks.0": torch.tensor([7.0])}) == 100
        assert model.calls == [1]
        assert substitution.replace(X, {}) == 25
        assert model.calls == [1, 0, 1]


def test_later_modules_cannot_write_into_what_is_kept_or_given():
    model, x, given = chain(), -X, {"blocks.0": torch.tensor([7.0])}
    model.blocks[0] = nn.ReLU(inplace=True)
    model.blocks[1] = Function(lambda x: x.add_(3))
    with substituted_outputs(model, blocks_of(model)) as substitution:
        y, outputs = substitution.keep(x)
        assert substitution.replace(x, given) == 100
    assert (x, y, outputs, given) == (-1, 9, {"blocks.0": 0, "blocks.1": 3}, {"blocks.0": 7})


def test_a_layer_that_runs_twice_has_no_output():
    model = chain()
    model.blocks.append(model.blocks[0])
    with substituted_outputs(model, blocks_of(model)) as substitution:
        for _ in range(2):
            assert substitution.keep(X) == (100, {"blocks.1": 5})


def test_layers_are_as_they_were_after_an_error():
    def fail(x):
        raise RuntimeError("inside")

    model = chain(fail)
    model.blocks[1].forward = own = lambda x: x
    with (
        pytest.raises(RuntimeError, match="inside"),
        substituted_outputs(model, blocks_of(model)) as substitution,
    ):
        substitution.keep(X)
    assert "forward" not in vars(model.blocks[0])
    assert model.blocks[1].forward is own


class Unusual(nn.Module):
    """Blocks whose outputs are no fields: a sequence, a tuple, a number per sample."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(
            [nn.Flatten(2), nn.GRU(9, 4, batch_first=True), nn.Linear(4, 2)]
        )

    def forward(self, x):
        sequence, _ = self.blocks[1](self.blocks[0](x))
        return self.blocks[2](sequence[:, -1])


def test_only_outputs_that_transform_in_a_known_way_are_measured():
    model = Unusual()
    with substituted_outputs(model, blocks_of(model)) as substitution:
        _, kept = substitution.keep(torch.randn(2, 3, 3, 3))
    assert list(kept) == ["blocks.0", "blocks.2"] and list(known_fields(kept)) == ["blocks.2"]
    del model.blocks
    model.blocks = 3
    assert blocks_of(model) == {}, "a number of blocks"
