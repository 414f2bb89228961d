"""Feature maps of a group as ones of its subgroups, and a group per layer."""

import pytest
import torch

from src.models.components.gcnn.actions import transform_feature_map
from src.models.components.gcnn.groups import make_group, subgroup_names
from src.models.components.gcnn.restriction import Restriction, groups_of_layers
from tests.helpers.slow_layers import elements, multiply

PAIRS = [("c8", "c4"), ("c8", "c1"), ("c6", "c3"), ("d4", "c4"), ("d4", "d2"), ("d8", "d1")]
PAIRS += [("c4", "c4"), ("d6", "c2")]


def index_in(group, subgroup, k):
    """Index in c_n or d_n of element k of a subgroup of that kind, from angle and mirror."""
    a, m = elements(subgroup)[k]
    return elements(group).index((a * int(group[1:]) // int(subgroup[1:]), m))


@pytest.mark.parametrize(("group", "subgroup"), PAIRS)
def test_entries_of_a_coset_are_a_channel(group, subgroup):
    """One entry at a time: (j, c) at k is what c had at k c_j; nothing is lost."""
    layer = Restriction(group, subgroup)
    order, kept = (len(elements(name)) for name in (group, subgroup))
    x = torch.randn(2, 3, order, 4, 5)
    y = layer(x)
    assert y.shape == (2, 3 * layer.index, kept, 4, 5)
    firsts, seen = [], set()
    for g in range(order):
        if g not in seen:
            firsts.append(g)
            seen |= {multiply(group, index_in(group, subgroup, k), g) for k in range(kept)}
    assert len(firsts) == layer.index and seen == set(range(order))
    for j, first in enumerate(firsts):
        for k in range(kept):
            entry = multiply(group, index_in(group, subgroup, k), first)
            assert torch.equal(y[:, 3 * j : 3 * j + 3, k], x[:, :, entry])


@pytest.mark.parametrize(("group", "subgroup"), PAIRS)
def test_is_equivariant_to_the_subgroup(group, subgroup):
    layer, x = Restriction(group, subgroup), torch.randn(1, 2, make_group(group).order, 5, 5)
    for k in range(make_group(subgroup).order):
        g = index_in(group, subgroup, k)
        turned = layer(transform_feature_map(x, group, g))
        torch.testing.assert_close(turned, transform_feature_map(layer(x), subgroup, k))


def test_maps_of_rotations_are_not_copied_and_memory_keeps_its_order():
    x = torch.randn(2, 5, 6, 8, 3).permute(0, 4, 3, 1, 2)  # as layers give it
    y = Restriction("c8", "c4")(x)
    assert y.data_ptr() == x.data_ptr()
    for name in ("c4", "c2"):
        y = Restriction("d4", name)(x)
        assert y.permute(0, 3, 4, 2, 1).is_contiguous()
    layer = Restriction("d4", "c4").half().to("meta")
    assert layer.source.is_meta and layer.source.dtype == torch.int64 and not layer.state_dict()


def test_groups_of_layers():
    names = ["c8", "c8", "c4", "c1"]
    assert [g.name for g in groups_of_layers(names, 4)] == names
    assert [g.name for g in groups_of_layers("d4", 2)] == ["d4", "d4"]
    assert groups_of_layers(make_group("c3"), 1) == [make_group("c3")]
    assert subgroup_names(make_group("d6")) == ["d6", "d3", "d2", "d1", "c6", "c3", "c2", "c1"]


@pytest.mark.parametrize(
    ("group", "message"),
    [
        (["c8", "d4"], "after 'c8' must be it or one of its .*; got 'd4'. Use c8, c4, c2, c1"),
        (["c4", "c8"], "after 'c4' must be it or one of its .*; got 'c8'. Use c4, c2, c1"),
        (["d6", "c4"], "got 'c4'. Use d6, d3, d2, d1, c6, c3, c2, c1"),
        (["c4"], r"`group` must be one group, or one for each of 2 layers; got \['c4'\]. Use 2"),
        (["c4", "so2"], "`group` must be 'cN'"),
        (4, "`group` must be 'cN'"),
    ],
)
def test_what_is_no_chain_of_subgroups_is_refused(group, message):
    with pytest.raises(ValueError, match=message):
        groups_of_layers(group, 2)


def test_wrong_input():
    message = r"Restriction must have the shape \[B, C, 8, H, W\] \(c8\); got .*Put it after"
    with pytest.raises(ValueError, match=message):
        Restriction("c8", "c4")(torch.randn(1, 2, 4, 3, 3))
