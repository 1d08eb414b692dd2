"""Which checkpoints stay on disk: the last ones, and that of the best round."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from red_tui.measure_names import lower_is_better


@dataclass(frozen=True)
class KeepRule:
    """Which checkpoints of a federation stay.

    Attributes:
        last: How many of the last ones.
        best: The measure whose best round stays as well; empty: none does.
        lowest: Whether its lowest value is the best one.
    """

    last: int = 3
    best: str = ""
    lowest: bool = False

    @classmethod
    def of(cls, last: int, best: str = "", by: str = "") -> KeepRule:
        """The rule that is written with a name such as `accuracy` or `loss`.

        Args:
            last: How many of the last ones stay.
            best: A measure.  With a `-` before it the lowest value is the best; otherwise that is so for losses,
                errors and distances, as their names tell.
            by: `highest` or `lowest`, where the name does not tell.
        """
        name = best.removeprefix("-")
        return cls(last, name, by == "lowest" or (not by and (best != name or lower_is_better(name))))

    @property
    def words(self) -> str:
        """The measure as one reads it: `highest accuracy`."""
        return f"{'lowest' if self.lowest else 'highest'} {self.best}"

    def best_of(self, figures: Iterable[tuple[int, Mapping[str, float]]]) -> int | None:
        """The round whose measure is the best, the first of equal ones; None where none has it.

        Args:
            figures: Rounds, each with what it measured.
        """
        best: tuple[float, int] | None = None
        for number, told in sorted(figures, key=lambda one: one[0]):
            value = told.get(self.best)
            if value is not None and (best is None or (value < best[0] if self.lowest else value > best[0])):
                best = (value, number)
        return None if best is None else best[1]
