"""Which simulations train, and which are kept for the test on unseen tasks."""

from collections.abc import Sequence

from src.checks import check_choice, wrong
from src.data.smoke.plumes import SIDES, Plume

SPLITS = ("published", "side")

Task = Sequence[float]


def split_by_task(
    plumes: Sequence[Plume], train_tasks: Sequence[Task] | None, unseen_tasks: Sequence[Task]
) -> tuple[list[int], list[int]]:
    """Indices of the simulations that train, and of those kept for the test, by their labels.

    Args:
        plumes: of the set.
        train_tasks: labels of those that train; None: all that are not unseen.
        unseen_tasks: labels of those kept for the test.

    Raises:
        ValueError: if a label is not that of a plume, stands in both lists, or none trains.
    """
    unseen = _indices(plumes, "unseen_tasks", unseen_tasks)
    if train_tasks is None:
        seen = [index for index in range(len(plumes)) if index not in unseen]
    else:
        seen = _indices(plumes, "train_tasks", train_tasks)
    both = [plumes[index].task for index in seen if index in unseen]
    if both or not seen:
        raise ValueError(
            "`train_tasks` must name at least one task, and none that `unseen_tasks` names too; "
            f"got {both or 'none'}. Use data.unseen_tasks=[] to train on all."
        )
    return seen, unseen


def split_by_side(plumes: Sequence[Plume], held_out: int | None) -> tuple[list[int], list[int]]:
    """Indices of the simulations of all other sides, and of those of the side held out.

    Raises:
        ValueError: if there are no plumes of that side, or none of another.
    """
    sides = sorted({plume.side for plume in plumes})
    if held_out not in sides or len(sides) < 2:
        names = ", ".join(f"{side} ({SIDES[side]})" for side in sides)
        raise ValueError(
            "`held_out_side` must be one of at least two sides that the set has with "
            f"data.split=side; got {held_out!r} for a set of the sides {names}. Use "
            "data=smoke_rotation data.held_out_side=3."
        )
    parts: tuple[list[int], list[int]] = [], []
    for index, plume in enumerate(plumes):
        parts[plume.side == held_out].append(index)
    return parts


def split_plumes(
    plumes: Sequence[Plume],
    split: str,
    held_out_side: int | None,
    train_tasks: Sequence[Task] | None,
    unseen_tasks: Sequence[Task],
) -> tuple[list[int], list[int]]:
    """Indices of the simulations that train, and of those kept for the test.

    Raises:
        TypeError, ValueError: naming the option, the rule, the value and a fix.
    """
    check_choice("split", split, SPLITS)
    if split == "side":
        return split_by_side(plumes, held_out_side)
    if held_out_side is not None:
        fix = "data.split=side to hold a side out"
        raise ValueError(wrong("held_out_side", "null without that split", held_out_side, fix))
    return split_by_task(plumes, train_tasks, unseen_tasks)


def _indices(plumes: Sequence[Plume], name: str, tasks: Sequence[Task]) -> list[int]:
    labels = {_label(plume.task): index for index, plume in enumerate(plumes)}
    unknown = [list(task) for task in tasks if _label(task) not in labels]
    if unknown:
        known = ", ".join(str(list(plume.task)) for plume in plumes[:3])
        raise ValueError(
            f"`{name}` must hold labels of simulated plumes, such as {known}; got {unknown}. Leave "
            "them out, or simulate them too."
        )
    return [labels[_label(task)] for task in tasks]


def _label(task: Task) -> tuple[float, ...]:
    """1.1 is the same label as 1 + 0.1."""
    return tuple(round(float(number), 9) for number in task)
