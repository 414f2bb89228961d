import pytest
import torch

from src.measures import probes
from src.measures.landscape import loss_at, loss_on_plane, random_plane
from tests.helpers.subjects import DIGITS, classifier, path_of, subject_of

OPTIONS = {"resolution": 3, "line_points": 4, "statistics_batches": 1}


def batch_normed(num_states):
    """A subject whose path has so many states, with two batches for statistics."""
    module = classifier()
    path = path_of(module.net)[:num_states]
    batches = [DIGITS, tuple(part[:4] for part in DIGITS)]
    return subject_of(module, path=lambda: path, statistics=batches)


def test_landscape_of_a_path():
    subject = batch_normed(3)
    reading = probes.landscape(subject, **OPTIONS, random_planes=2, random_radius=0.5, seed=4)
    values, details = reading.values, reading.details
    assert values["path_explained_variance"] == pytest.approx(1.0)
    assert (details["steps"], details["epochs_trained"]) == ([0, 10, 20], [0, 1, 2])
    losses, own = details["line"]["losses"], details["path_losses"]
    assert [losses[0], losses[-1]] == [own[0], own[-1]]
    assert values["path_barrier"] == max(losses) - max(losses[0], losses[-1])
    assert "reason" not in details
    objective, generator = subject.objective(), torch.Generator().manual_seed(4)
    end = {name: subject.path()[-1].state[name] for name in objective.weights()}
    statistics = subject.statistics_inputs()[:1]
    assert own[-1] == loss_at(objective, end, statistics) != loss_at(objective, end)
    planes = [random_plane(objective.network, end, 3, 0.5, generator) for _ in range(2)]
    expected = [loss_on_plane(objective, plane, statistics) for plane in planes]
    assert [plane["losses"] for plane in details["random_planes"]] == [e.tolist() for e in expected]
    rise = torch.stack(expected).mean().item() - own[-1]
    assert values["random_plane_rise"] == pytest.approx(rise)


@pytest.mark.parametrize(
    ("num_states", "missing", "reason"),
    [(2, {"plane"}, "whose 2 states lie on a line"), (1, {"plane", "line"}, "only the end")],
)
def test_what_a_short_path_does_not_have_is_left_out_with_a_reason(num_states, missing, reason):
    reading = probes.landscape(batch_normed(num_states), **OPTIONS)
    assert {"plane", "line"} - set(reading.details) == missing
    assert reason in reading.details["reason"]
    assert len(reading.details["random_planes"]) == 1
    assert len(reading.details["path_losses"]) == num_states
    expected = {"path_barrier", "random_plane_rise"} if num_states > 1 else {"random_plane_rise"}
    assert set(reading.values) == expected


def test_without_a_path_the_network_itself_is_the_end():
    subject = subject_of(classifier())
    reading = probes.landscape(subject, **OPTIONS, random_planes=0)
    assert reading.details["path_losses"] == [subject.objective().value()]
    assert reading.values == {}
