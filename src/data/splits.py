"""Splits and angles that are the same in every run, whatever the run's seed."""

import torch
from torch import Generator, Tensor

from src.data.rotation import rotate_images, uniform_angles
from src.seeding import Stream, derived_generator

SPLITS = ("train", "val", "test")

# Splits and angles derive from this number: changing it makes another data set.
_FIXED_SEED = 2007
_CHUNK = 1000


def class_balanced_indices(labels: Tensor, sizes: dict[str, int]) -> dict[str, Tensor]:
    """Indices of each split, shuffled, of which every class has the same share.

    All classes must be equally many among the labels ``[N]``; sizes are numbers of samples,
    together N, each a multiple of the number of classes.
    """
    generator = derived_generator(_FIXED_SEED, Stream.SPLIT)
    classes = labels.unique()
    shares = [sizes[split] // len(classes) for split in SPLITS]
    parts: dict[str, list[Tensor]] = {split: [] for split in SPLITS}
    for label in classes:
        members = _shuffled((labels == label).nonzero().flatten(), generator)
        for split, share in zip(SPLITS, members.split(shares)):
            parts[split].append(share)
    return {split: _shuffled(torch.cat(parts[split]), generator) for split in SPLITS}


def held_out_indices(count: int, held_out: int) -> tuple[Tensor, Tensor]:
    """Hold ``held_out`` of ``count`` samples out at random: indices of the rest and of those."""
    order = torch.randperm(count, generator=derived_generator(_FIXED_SEED, Stream.SPLIT))
    return order[held_out:].sort().values, order[:held_out].sort().values


def drawn_indices(count: int, sizes: dict[str, int]) -> dict[str, Tensor]:
    """Draw each split from ``count`` samples, none twice: its sorted indices."""
    order = torch.randperm(count, generator=derived_generator(_FIXED_SEED, Stream.SPLIT))
    parts = order.split([*sizes.values(), count - sum(sizes.values())])
    return {split: part.sort().values for split, part in zip(sizes, parts)}


def balanced_subset(labels: Tensor, count: int, num_classes: int) -> Tensor:
    """Sorted indices of ``count`` samples, of which every class has the same share.

    A subset is contained in every larger one of the same labels ``[N]``.

    Raises:
        ValueError: if the classes cannot have equal shares, or a class has too few samples.
    """
    share, rest = divmod(count, num_classes)
    counts = labels.bincount(minlength=num_classes).tolist()
    short = [f"{there} of class {label}" for label, there in enumerate(counts) if there < share]
    if rest or short:
        got = f"{count}, where there are {', '.join(short)}" if short else count
        raise ValueError(
            f"`num_train` must take equally many images of each of {num_classes} classes, and no "
            f"more than there are; got {got}. Use a multiple of {num_classes} up to "
            f"{num_classes * min(counts)}, or data.num_train=null for all."
        )
    generator = derived_generator(_FIXED_SEED, Stream.SUBSET)
    members = [(labels == label).nonzero().flatten() for label in range(num_classes)]
    return torch.cat([_shuffled(each, generator)[:share] for each in members]).sort().values


def fixed_angles(split: str, count: int, max_angle: float = 180) -> Tensor:
    """The angles ``[count]`` by which the images of a split are rotated once, in radians."""
    stream = derived_generator(_FIXED_SEED, Stream.FIXED_ANGLES, SPLITS.index(split))
    return uniform_angles(count, stream, max_angle)


def rotate_once(images: Tensor, split: str, max_angle: float = 180) -> Tensor:
    """Rotate the images ``[N, C, H, W]`` of a split by its fixed angles, in chunks of memory."""
    if max_angle == 0:
        return images
    angles = fixed_angles(split, len(images), max_angle)
    chunks = zip(images.split(_CHUNK), angles.split(_CHUNK))
    return torch.cat([rotate_images(image, angle) for image, angle in chunks])


def _shuffled(indices: Tensor, generator: Generator) -> Tensor:
    return indices[torch.randperm(len(indices), generator=generator)]
