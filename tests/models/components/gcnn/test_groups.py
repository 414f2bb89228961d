import pytest
import torch

from src.models.components.gcnn import make_group
from src.models.components.gcnn.groups import group_from_matrices
from tests.helpers import slow_layers
from tests.helpers.equivariance import exact_elements


@pytest.mark.parametrize("name", ["c1", "c3", "c4", "c8", "d1", "d3", "d4"])
def test_cayley_table_is_the_product_of_elements(name):
    group = make_group(name)
    assert group.order == len(slow_layers.elements(name))
    assert list(filter(group.is_exact, range(group.order))) == exact_elements(name)
    for g in range(group.order):
        assert group.inverse[g] == slow_layers.inverse(name, g)
        for h in range(group.order):
            assert group.cayley[g, h] == slow_layers.multiply(name, g, h)
    for matrices in (group.matrices, group.regular_representation()):
        products = torch.einsum("gij,hjk->ghik", matrices, matrices)
        assert torch.allclose(products, matrices[group.cayley], atol=1e-14)


def test_elements_of_d4_turn_counter_clockwise_after_they_mirror():
    """Element 1 takes (column, row) (2, 3) to (3, -2), element 4 to (-2, 3)."""
    moved = make_group("d4").matrices @ torch.tensor([2.0, 3.0], dtype=torch.float64)
    assert moved[[1, 4, 5]].tolist() == [[3, -2], [-2, 3], [3, 2]]


def test_groups_are_equal_by_name_and_pass_through():
    group = make_group("c4")
    assert make_group(group) is group
    assert group == make_group("c4") != make_group("d4")
    assert len({group, make_group("c4"), make_group("c8")}) == 2


@pytest.mark.parametrize("name", ["c0", "C4", "so2", "c-4", "c4 ", 4])
def test_unknown_group(name):
    with pytest.raises(ValueError, match=r"`group` must be 'cN'.*got .*Use for example"):
        make_group(name)


def test_a_group_from_matrices_of_any_dimension():
    turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=torch.float64)
    powers = torch.stack([torch.linalg.matrix_power(turn, a) for a in range(4)])
    assert torch.equal(group_from_matrices("c4 in 3d", powers).cayley, make_group("c4").cayley)
    with pytest.raises(ValueError, match="must be closed under multiplication"):
        group_from_matrices("eighth", make_group("c8").matrices[:2])
    with pytest.raises(ValueError, match="must be the identity"):
        group_from_matrices("c2", make_group("c2").matrices.flip(0))
