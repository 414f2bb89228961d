"""How far a generation is, and how long it still takes."""

import sys

from tqdm import tqdm

from src.data.smoke.settings import SmokeSettings

_FORMAT = "{desc} {percentage:3.0f}%|{bar}| {elapsed} so far, {remaining} left"


class Progress:
    """A bar that shows step, simulations and time left, measured in cells times steps.

    Args:
        settings: of the set.
        groups: indices of the simulations that run together, group by group.
    """

    def __init__(self, settings: SmokeSettings, groups: list[list[int]]) -> None:
        self._settings = settings
        self._indices = groups[0]
        self._step = 0
        work = sum(self._work(indices) for indices in groups) * settings.num_steps
        seconds = 0.5 if sys.stderr.isatty() else 10  # a log file gets fewer lines
        self._bar = tqdm(total=work, desc=settings.name, bar_format=_FORMAT, mininterval=seconds)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def start(self, indices: list[int], done: int) -> None:
        """Come to a group of which ``done`` steps were made by an earlier process."""
        self._indices, self._step = indices, done
        work = done * self._work(indices)
        self._bar.initial += work  # not made by this process: no part in its speed
        self._bar.update(work)
        self._describe()

    def advance(self) -> None:
        """One more step of the group's simulations is done."""
        self._step += 1
        self._describe()
        self._bar.update(self._work(self._indices))

    def _work(self, indices: list[int]) -> int:
        return sum(self._settings.plumes[index].resolution ** 2 for index in indices)

    def _describe(self) -> None:
        first, last = self._indices[0] + 1, self._indices[-1] + 1
        which = f"simulation {first}" if first == last else f"simulations {first} to {last}"
        step = f"step {self._step} of {self._settings.num_steps}"
        text = f"{self._settings.name}: {step}, {which} of {len(self._settings.plumes)}"
        self._bar.set_description(text, refresh=False)
