import pytest
import torch
from torch import nn

from src.measures.recording import blocks_of
from src.measures.substitution import substituted_outputs


class Chain(nn.Module):
    """2 x, then + 3, then squared."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(Counted(lambda x: 2 * x), Counted(lambda x: x + 3))

    def forward(self, x):
        return self.blocks(x) ** 2


class Counted(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return self.function(x)


def test_outputs_are_kept_in_the_order_of_execution():
    model, x = Chain(), torch.tensor([1.0])
    with substituted_outputs(model, blocks_of(model)) as substitution:
        y, outputs = substitution.keep(x)
    assert y == 25
    assert outputs == {"blocks.0": 2, "blocks.1": 5}
    assert list(outputs) == ["blocks.0", "blocks.1"]


def test_replaced_layers_do_not_run():
    model, x = Chain(), torch.tensor([1.0])
    with substituted_outputs(model, blocks_of(model)) as substitution:
        assert substitution.replace(x, {"blocks.0": torch.tensor([7.0])}) == 100
        assert [block.calls for block in model.blocks] == [0, 1]
        assert substitution.replace(x, {}) == 25
        assert [block.calls for block in model.blocks] == [1, 2]


def test_later_modules_cannot_write_into_what_is_kept_or_given():
    model, x = Chain(), torch.tensor([-1.0])
    model.blocks[0] = nn.ReLU(inplace=True)
    model.blocks[1] = Counted(lambda x: x.add_(3))
    given = {"blocks.0": torch.tensor([7.0])}
    with substituted_outputs(model, blocks_of(model)) as substitution:
        y, outputs = substitution.keep(x)
        assert substitution.replace(x, given) == 100
    assert y == 9
    assert outputs == {"blocks.0": 0, "blocks.1": 3}
    assert given == {"blocks.0": 7}
    assert x == -1


def test_layers_are_as_they_were_also_after_an_error():
    model = Chain()
    model.blocks[1].forward = own = lambda x: 1 / 0
    with (
        pytest.raises(ZeroDivisionError),
        substituted_outputs(model, blocks_of(model)) as substitution,
    ):
        substitution.keep(torch.tensor([1.0]))
    assert "forward" not in vars(model.blocks[0])
    assert model.blocks[1].forward is own


def test_a_layer_that_runs_twice_is_an_error():
    model = Chain()
    model.blocks.append(model.blocks[0])
    match = r"must run once in a forward pass.*'blocks\.0' ran again.*its own layer"
    with (
        pytest.raises(ValueError, match=match),
        substituted_outputs(model, blocks_of(model)) as substitution,
    ):
        substitution.keep(torch.tensor([1.0]))


def test_blocks_by_name():
    assert list(blocks_of(Chain())) == ["blocks.0", "blocks.1"]
    assert blocks_of(nn.Linear(1, 1)) == {}
