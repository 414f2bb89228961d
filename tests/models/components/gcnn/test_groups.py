import pytest
import torch

from src.models.components.gcnn import Group, make_group
from src.models.components.gcnn.groups import group_from_matrices
from tests.helpers import slow_layers

NAMES = ["c1", "c2", "c3", "c4", "c8", "c16", "d1", "d2", "d3", "d4", "d8"]


@pytest.mark.parametrize("name", NAMES)
def test_cayley_table_is_the_product_of_elements(name):
    group = make_group(name)
    assert group.order == len(slow_layers.elements(name))
    for g in range(group.order):
        assert group.inverse[g] == slow_layers.inverse(name, g)
        for h in range(group.order):
            assert group.cayley[g, h] == slow_layers.multiply(name, g, h)


@pytest.mark.parametrize("name", NAMES)
def test_matrices_are_a_representation(name):
    group = make_group(name)
    products = torch.einsum("gij,hjk->ghik", group.matrices, group.matrices)
    assert torch.allclose(products, group.matrices[group.cayley], atol=1e-14)


def test_element_one_of_c4_takes_right_to_up_and_down_to_right():
    turn = make_group("c4").matrices[1]
    v0, v1 = 2.0, 3.0
    assert (turn @ torch.tensor([v0, v1], dtype=torch.float64)).tolist() == [v1, -v0]


def test_mirror_comes_before_the_turn():
    group = make_group("d4")
    assert torch.equal(group.matrices[5], group.matrices[1] @ group.matrices[4])
    assert group.matrices[4].tolist() == [[-1, 0], [0, 1]]


@pytest.mark.parametrize(("name", "exact"), [("c4", 4), ("c8", 4), ("c3", 1), ("d4", 8), ("d3", 2)])
def test_exact_elements_are_quarter_turns_and_mirror_images(name, exact):
    group = make_group(name)
    assert sum(group.is_exact(g) for g in range(group.order)) == exact


def test_groups_are_equal_by_name_and_pass_through():
    group = make_group("c4")
    assert make_group(group) is group
    assert group == make_group("c4") != make_group("d4")
    assert len({group, make_group("c4"), make_group("c8")}) == 2
    assert isinstance(group, Group) and "c4" in repr(group)


@pytest.mark.parametrize("name", ["c0", "C4", "so2", "", "c", "c-4", "c4 ", None, 4])
def test_unknown_group(name):
    with pytest.raises(ValueError, match=r"`group` must be 'cN'.*got .*Use for example"):
        make_group(name)


def test_a_set_that_is_not_closed_is_refused():
    eighth = make_group("c8").matrices[:2]
    with pytest.raises(ValueError, match="must be closed under multiplication"):
        group_from_matrices("eighth", eighth)


def test_identity_comes_first():
    with pytest.raises(ValueError, match="must be the identity"):
        group_from_matrices("c2", make_group("c2").matrices.flip(0))


def test_three_dimensions_need_no_other_code():
    turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=torch.float64)
    powers = torch.stack([torch.linalg.matrix_power(turn, a) for a in range(4)])
    assert torch.equal(group_from_matrices("c4 in 3d", powers).cayley, make_group("c4").cayley)
