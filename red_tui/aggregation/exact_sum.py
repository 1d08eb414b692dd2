"""Weighted sums that are exact: the same bytes however the terms are ordered, grouped and handed on.

A sum of floating-point numbers depends on its order because each addition rounds.  Here none does.  The numbers of an
update, times its weight in float64, are cut at fixed powers of two into slices, by the error-free extraction of
Rump, Ogita and Oishi ("Accurate floating-point summation, part I", SIAM J. Sci. Comput. 31(1), 2008, algorithm
3.2 and lemma 3.3); the bins into which slices fall are those of Demmel and Nguyen ("Parallel reproducible summation",
IEEE Trans. Comput. 64(7), 2015; Ahrens, Demmel and Nguyen, ACM TOMS 46(3), 2020): they stand where they stand for
all hosts, whatever the numbers are, so a number's slices do not depend on who it is added to.  The slices of a bin are
whole multiples of its unit, and few enough that float64 holds their sum: it is exact, and so is the sum of all bins,
for none is left out.  Only the mean is rounded, once, from the exact sum.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from red_tui.nodes.extension_types import widened

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

WIDTH = 32
"""Bits of a bin: that of level n holds multiples of 2**(32 n), its unit."""

LOWEST = -34
"""The last level: all doubles are multiples of 2**-1074, so what is left below level -33 is one slice."""

MOST_TERMS = 2**20 - 2
"""Slices are up to 2**32 units, and float64 counts up to 2**53: after so many the high part moves one level up."""

PIECE = 32_768
"""Numbers that are cut at a time: they and what is made of them stay in the processor's cache."""

ROWS_BYTES = 512_000
MOST_ROWS = 64
"""Updates of a small model that are cut together: a call of numpy costs more than they do."""

WHOLE = (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64)

MOST_APART = 4096
"""Pieces from which some numbers are kept apart, before these are added up."""

Layout = tuple[tuple[str, tuple[int, ...], bool], ...]
"""Name, shape, and whether it is complex, of each array."""


class ExactMean(NamedTuple):
    """What a host or an aggregator makes of its nodes' updates where sums are exact.

    Attributes:
        layout: The arrays, which lie one behind the other.
        digits: By level, whole numbers of units: as many as there are numbers in the arrays, or (places, numbers) where
            most are zero.  All but those of the highest level are from 0 to below 2**32.
        near: Sums of float64 that are still to be cut; None for none.
        weights: Numbers whose exact sum is that of the weights.
        total: The same, rounded.
    """

    layout: Layout
    digits: dict[int, Array | tuple[Array, Array]]
    near: Floats | None
    weights: tuple[float, ...]
    total: float

    @property
    def nbytes(self) -> int:
        """Size of its arrays."""
        arrays = [part for one in self.digits.values() for part in (one if isinstance(one, tuple) else (one,))]
        return sum(one.nbytes for one in arrays) + (0 if self.near is None else self.near.nbytes)


class ExactSum:
    """Adds updates up without an error: the order, and who adds up what, make no difference.

    It holds the sum of each level as float64, for levels that have come up: two for float32 numbers of usual sizes,
    some more where they differ by many powers of two.
    """

    def __init__(self) -> None:
        self.count = 0
        self._layout: Layout = ()
        self._size = 0
        self._levels: dict[int, Floats] = {}
        self._terms = 0
        self._weights: list[float] = []
        self._rows: Floats | None = None
        self._waiting = 0
        self._near = _NearTerms(self)
        self._plain: Floats | None = None
        """A part of the sum that is one float64 a number; what is missing to it is in the levels, or thin."""
        self._thin: list[tuple[int | None, Array, Array]] = []
        """Parts that only some numbers have: a level with places and digits, or None with places and terms."""

    @property
    def total(self) -> float:
        """Sum of the weights, to the nearest float."""
        return math.fsum(self._weights)

    def add(self, update: Mapping[str, Any], weight: float) -> None:
        """Add `weight` times the arrays of one update; all updates have the same names and shapes.

        The product is that of float64: exact for float32 arrays and whole weights below 2**29, else rounded, each by
        itself.
        """
        self.count += 1
        if weight <= 0:
            return
        _grow(self._weights, float(weight))
        arrays = {name: np.asarray(value) for name, value in update.items()}
        if not self._layout:
            self._lay_out(arrays)
        if self._rows is not None:
            self._put(self._rows[self._waiting], arrays, weight)
            self._waiting += 1
            if self._waiting == len(self._rows):
                self._settle()
            return
        self._room(1)
        start = 0
        for name, shape, is_complex in self._layout:
            flat = _flat(arrays[name], shape, is_complex)
            for at in range(0, len(flat), PIECE):
                part = flat[at : at + PIECE]
                if part.dtype != np.float32 or not self._near.add(part, weight, start + at):
                    self.cut(part * np.float64(weight), start + at)
            start += len(flat)

    def merge(self, other: ExactMean) -> None:
        """Add what another has added up."""
        if not other.total:
            return
        for weight in other.weights:
            _grow(self._weights, weight)
        if not self._layout:
            self._layout = other.layout
            self._size = _size(other.layout)
        if self._is_thin and all(isinstance(digits, tuple) for digits in other.digits.values()):
            if other.near is not None:
                self._add_plain(other.near)
            self._thin += [(level, *digits) for level, digits in other.digits.items() if isinstance(digits, tuple)]
            return
        self._settle()
        # Digits are no larger than one slice is, but those of the highest level may be.
        self._carry()
        self._room(3)
        if other.near is not None:
            for at in range(0, self._size, PIECE):
                self.cut(other.near[at : at + PIECE].copy(), at)
        for level, digits in other.digits.items():
            into = self._level(level)
            if isinstance(digits, tuple):
                into[digits[0]] += _in_units(digits[1], level)
            else:
                for at in range(0, self._size, PIECE):
                    into[at : at + PIECE] += _in_units(digits[at : at + PIECE], level)

    def given(self) -> ExactMean:
        """The sum as it is handed on: whole numbers, in the smallest types that hold them."""
        digits: dict[int, Array | tuple[Array, Array]] = {}
        if self._is_thin:
            places, part = self._taken_apart()
            for level in sorted(part._levels, reverse=True):
                having = np.flatnonzero(part._levels[level])
                if len(having):
                    units = _packed(part._levels[level][having], level)
                    kind = np.uint32 if self._size < 2**32 else np.int64
                    digits[level] = (places[having].astype(kind), np.asarray(units))
            return ExactMean(self._layout, digits, self._plain, tuple(self._weights), self.total)
        near = self._near.taken(self._size) if self._plain is None else None
        self._settle()
        self._carry()
        for level in sorted(self._levels, reverse=True):
            packed = _packed(self._levels[level], level)
            if packed is not None:
                digits[level] = packed
        return ExactMean(self._layout, digits, near, tuple(self._weights), self.total)

    def mean(self) -> dict[str, Array]:
        """Sum divided by `total`, in float64 (complex128): rounded from the exact sum; {} for none."""
        total = self.total
        if total <= 0:
            return {}
        if self._is_thin:
            places, part = self._taken_apart()
            # A sum that one float64 holds is what its digits add up to; zero has no sign.
            whole = np.zeros(self._size) if self._plain is None else self._plain + 0.0
            if len(places):
                if self._plain is not None:
                    part.cut(self._plain[places], 0)
                whole[places] = part._rounded()
        else:
            self._settle()
            whole = self._rounded()
        whole /= total
        made, start = {}, 0
        for name, shape, is_complex in self._layout:
            size = math.prod(shape) * (1 + is_complex)
            flat = whole[start : start + size]
            made[name] = (flat.view(np.complex128) if is_complex else flat).reshape(shape)
            start += size
        return made

    def _rounded(self) -> Floats:
        """What the levels add up to, rounded from the exact sum."""
        self._carry()
        whole = np.zeros(self._size)
        for at in range(0, self._size, PIECE):
            piece = slice(at, at + PIECE)
            # Digits are a function of the sum alone, and so is what they add up to from the highest one down.
            for level in sorted(self._levels, reverse=True):
                whole[piece] += self._levels[level][piece]
        return whole

    # -- thin sums: most numbers are one float64, and only some need levels ----------------------------

    @property
    def _is_thin(self) -> bool:
        """Whether nothing has been cut yet of all numbers."""
        return not self._levels and self._rows is None

    def _add_plain(self, numbers: Floats) -> None:
        """Add a float64 to each number; what such a sum rounds off is kept apart (Knuth's error-free sum)."""
        if self._plain is None:
            self._plain = numbers.copy()
            return
        for at in range(0, self._size, PIECE):
            here, more = self._plain[at : at + PIECE], numbers[at : at + PIECE]
            both = here + more
            of_more = both - here
            rest = here - (both - of_more)
            rest += more - of_more
            self._plain[at : at + PIECE] = both
            lost = np.flatnonzero(rest)
            if len(lost):
                self._thin.append((None, lost + at, rest[lost]))

    def _taken_apart(self) -> tuple[Array, ExactSum]:
        """Bring what is near into the plain part; gives the places of thin parts, and what these add up to."""
        near, apart = self._near.taken(self._size), self._near.taken_apart()
        if near is not None:
            self._add_plain(near)
        self._thin += [(None, places, terms) for places, terms in apart]
        thin, part = self._thin, ExactSum()
        if not thin:
            return np.empty(0, dtype=np.int64), part
        marked = np.zeros(self._size, dtype=bool)
        for _, where, _ in thin:
            marked[where] = True
        places = np.flatnonzero(marked)
        part._size = len(places)
        terms = [(where, values) for level, where, values in thin if level is None]
        if terms:
            part._terms += len(terms)
            where = np.searchsorted(places, np.concatenate([one for one, _ in terms]))
            part.cut(np.concatenate([values for _, values in terms]), where)
        for level, where, digits in thin:
            if level is not None:
                part._room(3)
                part._level(level)[np.searchsorted(places, where)] += _in_units(digits, level)
        part._terms += 3
        part._carry()
        return places, part

    # -- slices ------------------------------------------------------------------------------------

    def _lay_out(self, arrays: Mapping[str, Array]) -> None:
        self._layout = tuple((name, value.shape, value.dtype.kind == "c") for name, value in arrays.items())
        self._size = _size(self._layout)
        rows = min(MOST_ROWS, ROWS_BYTES // max(8, 8 * self._size))
        if rows > 1:
            self._rows = np.empty((rows, self._size))

    def _put(self, row: Floats, arrays: Mapping[str, Array], weight: float) -> None:
        start = 0
        for name, shape, is_complex in self._layout:
            flat = _flat(arrays[name], shape, is_complex)
            row[start : start + len(flat)] = flat
            start += len(flat)
        if weight != 1.0:
            row *= weight

    def _settle(self) -> None:
        """Cut what has not been cut yet."""
        self._near.settle()
        plain, self._plain = self._plain, None
        if plain is not None:
            self._room(1)
            for at in range(0, self._size, PIECE):
                self.cut(plain[at : at + PIECE], at)
        thin, self._thin = self._thin, []
        for level, places, values in thin:
            if level is None:
                self.cut(values, places)
            else:
                self._carry()
                self._room(3)
                self._level(level)[places] += _in_units(values, level)
        count, self._waiting = self._waiting, 0
        if count and self._rows is not None:
            self._room(count)
            step = max(1, PIECE // count)
            for at in range(0, self._size, step):
                piece = np.ascontiguousarray(self._rows[:count, at : at + step])
                self.cut(piece, at)

    def _room(self, terms: int) -> None:
        """Make room for further terms."""
        if self._terms + terms > MOST_TERMS:
            self._carry()
        self._terms += terms

    def cut(self, numbers: Floats, start: int | Array) -> None:
        """Add numbers (rows of them, which add up) to the places from `start` on, or to these; they are used up."""
        if not numbers.size:
            return
        scratch = np.empty_like(numbers)
        size, rows = numbers.shape[-1], numbers.ndim > 1
        # Two passes without a temporary; where it starts makes no difference, as long as it is high enough.
        largest = max(float(numbers.max()), -float(numbers.min()))
        if not largest:
            return
        level = max(LOWEST, -(-(math.frexp(largest)[1] - WIDTH) // WIDTH))
        while True:
            into = self._level(level)
            if level == LOWEST:
                scratch[...] = numbers
            else:
                bound = math.ldexp(1.5, 52 + WIDTH * level)
                np.add(numbers, bound, out=scratch)
                np.subtract(scratch, bound, out=scratch)
            if isinstance(start, int):
                into[start : start + size] += np.add.reduce(scratch, axis=0) if rows else scratch
            else:
                np.add.at(into, start, scratch)
            np.subtract(numbers, scratch, out=numbers)
            if not numbers.any():
                return
            level -= 1

    def _level(self, level: int) -> Floats:
        found = self._levels.get(level)
        if found is None:
            # Pages of memory that nobody writes to are not taken.
            found = self._levels[level] = np.zeros(self._size)
        return found

    def _carry(self) -> None:
        """Give each level but the highest digits from 0 to below 2**32: there is one way to write a sum so."""
        if not self._levels or not self._terms:
            return
        self._terms = 2
        lowest, top = min(self._levels), max(self._levels)
        for level in range(lowest, top + 1):
            here = self._level(level)
            above = None if level == top else self._level(level + 1)
            bound = math.ldexp(1.5, 52 + WIDTH * (level + 1))
            unit = math.ldexp(1.0, WIDTH * (level + 1))
            for at in range(0, self._size, PIECE):
                digits = here[at : at + PIECE]
                if not digits.any():
                    continue
                carry = np.add(digits, bound)
                carry -= bound
                carry -= unit * (carry > digits)
                if carry.any():
                    digits -= carry
                    if above is None:
                        above = self._level(level + 1)
                    above[at : at + PIECE] += carry


class _NearTerms:
    """Terms that float64 adds up without an error as they are, so that they are cut once and not each by itself.

    Float32 numbers that are not much smaller than the largest of their piece, times a weight of few bits, are multiples
    of a unit that is not much smaller either: sums of some of them are exact in float64.  Whoever is smaller is kept
    apart.  What is added up how makes no difference to the sum, for it is exact either way.

    Args:
        whole: What they are added to in the end.
    """

    def __init__(self, whole: ExactSum) -> None:
        self._whole = whole
        self._sums: dict[int, Floats] = {}
        self._grids: dict[int, int] = {}
        """By the start of a piece: all terms of its sum are multiples of 2 to this."""
        self._bounds: dict[int, float] = {}
        """By the start of a piece: the sum, and each sum on the way to it, is no larger."""
        self._apart: list[tuple[Array, Floats]] = []
        # What each piece needs for a moment: made once.
        self._magnitudes: Array | None = None
        self._products = np.empty(0)
        self._is_small = np.empty(0, dtype=bool)

    def add(self, numbers: npt.NDArray[np.float32], weight: float, start: int) -> bool:
        """Add `weight` times some numbers to the places from `start` on; False where that does not pay."""
        mantissa, exponent = math.frexp(weight)
        whole = int(math.ldexp(mantissa, 53))
        lowest_bit = (whole & -whole).bit_length() - 1
        bits, last = 53 - lowest_bit, exponent - 53 + lowest_bit
        if bits + 24 > 53:
            return False  # the products would be rounded
        if self._magnitudes is None:
            self._magnitudes, self._products = np.empty(PIECE, dtype=np.uint32), np.empty(PIECE)
            self._is_small = np.empty(PIECE, dtype=bool)
        magnitudes = np.left_shift(numbers.view(np.uint32), 1, out=self._magnitudes[: len(numbers)])
        largest = int(magnitudes.max())
        if not largest:
            return True
        bound = math.ldexp(weight, (largest >> 24) - 126)
        grid = self._grids.get(start)
        if (
            grid is None
            or self._bounds[start] + bound > math.ldexp(1.0, 53 + grid)
            or bound < math.ldexp(1.0, 33 + grid)
        ):
            self._flush(start)
            grid = math.frexp(bound)[1] + min(8, max(3, 15 - bits)) - 53
        # Zero becomes the largest: it is a multiple of everything.
        magnitudes -= 1
        least = max(0, grid - last + 150)
        small: Array | None = None
        if int(magnitudes.min()) < (least << 24) - 1:
            is_small = np.less(magnitudes, (least << 24) - 1, out=self._is_small[: len(numbers)])
            small = np.flatnonzero(is_small)
            if 16 * len(small) > len(numbers):
                return False
        terms = self._products[: len(numbers)]
        np.copyto(terms, numbers)
        if weight != 1.0:
            terms *= weight
        if small is not None:
            self._apart.append((small + start, terms[small]))
            terms[small] = 0.0
        if start in self._sums:
            self._sums[start] += terms
        else:
            self._sums[start] = terms.copy()
        self._grids[start], self._bounds[start] = grid, self._bounds.get(start, 0.0) + bound
        if len(self._apart) > MOST_APART:
            self._settle_apart()
        return True

    def taken(self, size: int) -> Floats | None:
        """The sums as they are, which are nothing again; None for none."""
        if not self._sums:
            return None
        near = np.zeros(size)
        for start, sums in self._sums.items():
            near[start : start + len(sums)] = sums
        self._sums.clear()
        self._grids.clear()
        self._bounds.clear()
        return near

    def taken_apart(self) -> list[tuple[Array, Floats]]:
        """The terms that were kept apart: places and numbers, which are nothing again."""
        apart, self._apart = self._apart, []
        return apart

    def settle(self) -> None:
        """Hand all over."""
        for start in list(self._sums):
            self._flush(start)
        self._settle_apart()

    def _flush(self, start: int) -> None:
        sums = self._sums.pop(start, None)
        if sums is not None:
            del self._grids[start], self._bounds[start]
            self._whole.cut(sums, start)

    def _settle_apart(self) -> None:
        if self._apart:
            places, terms = zip(*self._apart, strict=True)
            self._apart.clear()
            self._whole.cut(np.concatenate(terms), np.concatenate(places))


def _size(layout: Layout) -> int:
    return sum(math.prod(shape) * (1 + is_complex) for _, shape, is_complex in layout)


def _flat(value: Array, shape: tuple[int, ...], is_complex: bool) -> Array:
    """The numbers of an array one behind the other; two for a complex one."""
    if value.shape != shape:
        raise ValueError(f"an array has the shape {value.shape}, and those before it {shape}")
    value = widened(value)
    if is_complex:
        value = np.ascontiguousarray(value, dtype=np.complex128).reshape(-1)
        return np.asarray(value.view(np.float64))
    return value.reshape(-1)


def _grow(parts: list[float], value: float) -> None:
    """Add to numbers that do not overlap, so that their exact sum is that of all: Shewchuk 1997, theorem 10."""
    kept = 0
    for part in parts:
        large, small = (value, part) if abs(value) >= abs(part) else (part, value)
        value = large + small
        rest = small - (value - large)
        if rest:
            parts[kept] = rest
            kept += 1
    parts[kept:] = [value]


def _packed(sums: Floats, level: int) -> Array | tuple[Array, Array] | None:
    """Digits in the smallest whole type that holds them, and where they are if most are zero; None for none."""
    count = np.count_nonzero(sums)
    if not count:
        return None
    having = np.flatnonzero(sums) if 3 * count < len(sums) else None
    values = sums if having is None else sums[having]
    power = -WIDTH * level if level > LOWEST else 1074
    least, most = (float(_scaled(np.asarray(end), power)) for end in (values.min(), values.max()))
    kind = next(kind for kind in WHOLE if np.iinfo(kind).min <= least and most <= np.iinfo(kind).max)
    units = np.empty(len(values), dtype=kind)
    for at in range(0, len(values), PIECE):
        units[at : at + PIECE] = _scaled(values[at : at + PIECE], power)
    if having is None:
        return units
    return having.astype(np.uint32 if len(sums) < 2**32 else np.int64), units


def _in_units(digits: Array, level: int) -> Floats:
    return _scaled(digits.astype(np.float64), WIDTH * level if level > LOWEST else -1074)


def _scaled(numbers: Floats, power: int) -> Floats:
    """Numbers times 2**power; a product costs less than `ldexp`, and is exact where the factor is a float."""
    return numbers * math.ldexp(1.0, power) if -1022 <= power <= 1023 else np.ldexp(numbers, power)
