"""Globs over ids without spelling a million of them out.

The ids of a pattern share a prefix and a suffix, and ids with equally many digits are equally long.
A glob becomes an automaton over characters; it reads the prefix once, then one digit of *all* ids
per step, in numpy.  What it accepts is what `fnmatch.fnmatchcase` accepts.
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
_State = frozenset[int]


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
    if isinstance(segment, PatternIds) and has_wildcard(glob):
        return _match_pattern(segment, glob)
    return segment.match(glob)


class Automaton:
    """A glob as a set of positions that moves along with each character."""

    def __init__(self, glob: str) -> None:
        self._tokens = list(_tokens(glob))
        self.start = self._rested({0})
        self._steps: dict[tuple[_State, str], _State] = {}

    def step(self, state: _State, character: str) -> _State:
        """The state after one more character."""
        known = self._steps.get((state, character))
        if known is None:
            after = set()
            for position in state:
                if position < len(self._tokens):
                    token = self._tokens[position]
                    if token is None:
                        after.add(position)
                    elif token(character):
                        after.add(position + 1)
            known = self._steps[state, character] = self._rested(after)
        return known

    def read(self, state: _State, text: str) -> _State:
        """The state after a text."""
        for character in text:
            state = self.step(state, character)
        return state

    def accepts(self, state: _State) -> bool:
        """Whether the glob may end here."""
        return len(self._tokens) in state

    def settled(self, state: _State) -> bool | None:
        """The answer, if no further character can change it."""
        if not state:
            return False
        return True if self._tokens and self._tokens[-1] is None and len(self._tokens) in state else None

    def _rested(self, positions: set[int]) -> _State:
        """The positions and those behind stars that match nothing."""
        rested = set()
        for position in positions:
            rested.add(position)
            while position < len(self._tokens) and self._tokens[position] is None:
                position += 1
                rested.add(position)
        return frozenset(rested)


@functools.lru_cache(maxsize=16)
def _match_pattern(segment: PatternIds, glob: str) -> BoolArray:
    """The same for a pattern; remembered, as a live filter asks again several times a second and ids never change."""
    automaton = Automaton(glob)
    start = automaton.read(automaton.start, segment.prefix)
    settled = automaton.settled(start)
    if settled is not None:
        return _read_only(np.full(segment.count, settled))
    mask = np.zeros(segment.count, dtype=bool)
    for low, high, digits in _lengths(segment):
        states, table = _digit_table(automaton, start)
        accepted = np.fromiter(
            (automaton.accepts(automaton.read(state, segment.suffix)) for state in states),
            dtype=bool,
            count=len(states),
        )
        numbers = np.arange(low, high, dtype=np.int64 if high > 2**31 - 1 else np.int32)
        at = np.zeros(high - low, dtype=np.intp)
        for place in reversed(range(digits)):
            at = table[at * 10 + numbers // 10**place % 10] if 10**place < high else table[at * 10]
        mask[low - segment.first : high - segment.first] = accepted[at]
    return _read_only(mask)


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


def _digit_table(automaton: Automaton, start: _State) -> tuple[list[_State], npt.NDArray[np.intp]]:
    """All states that digits reach from `start`, and the number of the next one at `10 * number + digit`."""
    states, numbers, table = [start], {start: 0}, []
    for state in states:
        for digit in _DIGITS:
            after = automaton.step(state, digit)
            if after not in numbers:
                numbers[after] = len(states)
                states.append(after)
            table.append(numbers[after])
    return states, np.array(table, dtype=np.intp)


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
