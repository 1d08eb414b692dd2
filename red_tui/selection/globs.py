"""Globs over ids without spelling a million of them out.

The ids of a pattern share a prefix and a suffix, and ids with equally many digits are equally long.
A glob becomes a bit-parallel automaton (Baeza-Yates and Gonnet, "A new approach to text searching", 1992): a
state is 64 bits, and one character of *all* ids is read in four operations of numpy.  The work is linear in the
number of ids, whatever the glob.  What it accepts is what `fnmatch.fnmatchcase` accepts.
"""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from red_tui.nodes.ids import IdSpace, PatternIds, Segment

BoolArray = npt.NDArray[np.bool_]
NO_ID = re.compile(r"[^A-Za-z0-9._\-*?\[\]!^]")
"""What can stand neither in an id nor in a glob for ids."""

_DIGITS = "0123456789"
_MOST_CHARACTERS = 63
"""Characters of the longest id: a glob that asks for more matches none."""


def has_wildcard(text: str) -> bool:
    """Whether `text` is a glob rather than a literal."""
    return any(sign in text for sign in "*?[")


def match_ids(ids: IdSpace, glob: str) -> BoolArray:
    """One boolean per row: whether its id matches the glob."""
    masks = [match_segment(segment, glob) for segment in ids.segments]
    return np.concatenate(masks) if masks else np.zeros(0, dtype=bool)


def match_rows(ids: IdSpace, glob: str, rows: slice | npt.NDArray[np.integer[Any]]) -> BoolArray:
    """The same for some rows; `rows` is a slice from the first one, or row numbers."""
    if isinstance(rows, slice):
        return match_ids(ids, glob)[rows]
    found = np.zeros(len(rows), dtype=bool)
    start = 0
    for segment in ids.segments:
        here = (rows >= start) & (rows < start + len(segment))
        if here.any():
            found[here] = match_segment(segment, glob)[rows[here] - start]
        start += len(segment)
    return found


def match_segment(segment: Segment, glob: str) -> BoolArray:
    """Which ids of a segment match (do not write into the answer)."""
    if not has_wildcard(glob):
        return segment.match(glob)
    if isinstance(segment, PatternIds):
        return _match_pattern(segment, glob)
    if Automaton.read(glob) is None:
        return np.zeros(len(segment), dtype=bool)
    return segment.match(re.sub(r"\*+", "*", glob))


class Automaton:
    """A glob of at most 63 characters and any number of stars, as bits.

    Bit `j` of a state says that the first `j` characters of the glob may end here.  A character moves each bit whose
    test it passes one place up; a bit that stands at a star also stays.

    Args:
        tests: A test for each character of the glob that is no star.
        stars: The places (0 to `len(tests)`) at which a star stands, as bits.
    """

    def __init__(self, tests: list[Callable[[str], bool]], stars: int) -> None:
        self._tests, self.stars = tests, stars
        self._passing: dict[str, int] = {}

    @classmethod
    def read(cls, glob: str) -> Automaton | None:
        """The automaton of a glob, or None if the glob is longer than any id."""
        tests: list[Callable[[str], bool]] = []
        stars = 0
        for token in _tokens(glob):
            if token is None:
                stars |= 1 << len(tests)
            elif len(tests) == _MOST_CHARACTERS:
                return None
            else:
                tests.append(token)
        return cls(tests, stars)

    def passing(self, character: str) -> int:
        """The places whose test a character passes, as bits."""
        known = self._passing.get(character)
        if known is None:
            known = sum(1 << place for place, test in enumerate(self._tests) if test(character))
            self._passing[character] = known
        return known

    def after(self, text: str) -> int:
        """The state after a text, from the start."""
        state = 1
        for character in text:
            state = ((state & self.passing(character)) << 1) | (state & self.stars)
        return state

    def before(self, text: str) -> int:
        """The places from which a text leads to the end of the glob, as bits."""
        places = 1 << len(self._tests)
        for character in reversed(text):
            places = ((places >> 1) & self.passing(character)) | (places & self.stars)
        return places


@functools.lru_cache(maxsize=16)
def _match_pattern(segment: PatternIds, glob: str) -> BoolArray:
    """The same for a pattern; remembered, as a live filter asks again several times a second and ids never change."""
    automaton = Automaton.read(glob)
    mask = np.zeros(segment.count, dtype=bool)
    if automaton is None:
        return _read_only(mask)
    start, accepting = automaton.after(segment.prefix), np.uint64(automaton.before(segment.suffix))
    if start:
        for low, high, digits in _lengths(segment):
            states = _states(automaton, start, low, high, digits)
            mask[low - segment.first : high - segment.first] = (states & accepting) != 0
    return _read_only(mask)


def _states(automaton: Automaton, start: int, low: int, high: int, digits: int) -> npt.NDArray[np.uint64]:
    """The states after the numbers from `low` to `high` (not included), all written with `digits` digits.

    Numbers that begin alike share their way: all beginnings of one digit, then of two, and so on.
    """
    passing = np.array([automaton.passing(digit) for digit in _DIGITS], dtype=np.uint64)
    stars, one = np.uint64(automaton.stars), np.uint64(1)
    states, first = np.array([start], dtype=np.uint64), 0
    for place in reversed(range(digits)):
        begins = low // 10**place
        numbers = np.arange(begins, (high - 1) // 10**place + 1, dtype=np.int64)
        states = states[numbers // 10 - first]
        states = ((states & passing[numbers % 10]) << one) | (states & stars)
        first = begins
    return states


def _read_only(mask: BoolArray) -> BoolArray:
    mask.flags.writeable = False
    return mask


def _lengths(segment: PatternIds) -> Iterator[tuple[int, int, int]]:
    """Ranges of a segment's numbers that are written with equally many digits: low, high (not included), digits."""
    low, end = segment.first, segment.first + segment.count
    while low < end:
        digits = max(len(str(low)), segment.width)
        high = min(end, int(10**digits))
        yield low, high, digits
        low = high


def _tokens(glob: str) -> Iterator[Callable[[str], bool] | None]:
    """A test of one character per token; None is a star.  Brackets are read as fnmatch reads them."""
    at = 0
    while at < len(glob):
        sign = glob[at]
        at += 1
        if sign == "*":
            yield None
        elif sign == "?":
            yield lambda character: True
        elif sign == "[" and (end := _bracket_end(glob, at)):
            yield _one_of(glob[at - 1 : end + 1])
            at = end + 1
        else:
            yield sign.__eq__


def _bracket_end(glob: str, at: int) -> int:
    """Where the bracket that opened before `at` closes, or 0."""
    after_not = at + glob.startswith("!", at)
    found = glob.find("]", after_not + glob.startswith("]", after_not))
    return max(found, 0)


def _one_of(bracket: str) -> Callable[[str], bool]:
    expression = re.compile(fnmatch.translate(bracket))
    return lambda character: expression.match(character) is not None
