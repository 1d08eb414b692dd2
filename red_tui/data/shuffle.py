"""Permutations of millions of places, found place by place."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

_HALF, _ODD = np.uint64(32), np.uint64(0xD6E8FEB86659FD93)


def random_stream(seed: int, rule: str, place: str) -> np.random.Generator:
    """Random numbers of one purpose: they depend on these three only."""
    digest = hashlib.blake2b(f"{seed}/{rule}/{place}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(digest, dtype="<u8")))


class Shuffle:
    """A permutation whose places are found one by one, without making the others.

    Up to `SMALL` places it is drawn whole.  Above it is a Feistel network over the next power of 2, walked until it
    comes out below the size (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002), as in Mitchell et al.,
    "Bandwidth-Optimal Random Shuffling for GPUs", 2022: a part of a large data set costs what the part holds.

    Args:
        rng: What the permutation depends on.
        size: Number of places.
    """

    SMALL = 1 << 16
    ROUNDS = 8
    PIECE = 1 << 15
    """Places that are found at a time: what fits into a processor's cache."""

    TABLE_AFTER = 200
    """Requests after which the whole permutation is written down."""

    def __init__(self, rng: np.random.Generator, size: int) -> None:
        self.size, self._asked = size, 0
        self._table: npt.NDArray[Any] | None = None
        if size <= self.SMALL:
            self._table = rng.permutation(size).astype(np.int32)
            return
        bits = (size - 1).bit_length()
        self._right_bits = np.uint64(bits - bits // 2)
        self._masks = np.uint64((1 << bits // 2) - 1), np.uint64((1 << (bits - bits // 2)) - 1)
        self._keys = rng.integers(0, 2**64, (self.ROUNDS, 2), dtype=np.uint64)
        self._keys[:, 1] |= np.uint64(1)

    @property
    def is_written(self) -> bool:
        """Whether the permutation is there as a whole."""
        return self._table is not None

    def range(self, first: int, last: int) -> npt.NDArray[np.int64]:
        """What stands at the places from `first` to before `last`, in their order."""
        if self._table is not None:
            return self._table[first:last].astype(np.int64)
        return self.at(np.arange(first, last, dtype=np.int64))

    def at(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """What stands at some places, in their order."""
        self._asked += 1
        if self._table is None and self._asked > self.TABLE_AFTER:
            table = self._found(np.arange(self.size, dtype=np.int64))
            self._table = table.astype(np.int32) if self.size < 2**31 else table
        if self._table is not None:
            return self._table[places].astype(np.int64)
        return self._found(places)

    def _found(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        out = np.empty(len(places), dtype=np.int64)
        for start in range(0, len(places), self.PIECE):
            values = self._mixed(places[start : start + self.PIECE].astype(np.uint64))
            beyond = np.flatnonzero(values >= self.size)
            while len(beyond):
                again = self._mixed(values[beyond])
                values[beyond] = again
                beyond = beyond[again >= self.size]
            out[start : start + self.PIECE] = values
        return out

    def _mixed(self, values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        """The network, once: halves take turns, each changed by a hash of the other."""
        halves = [values >> self._right_bits, values & self._masks[1]]
        for number, (added, factor) in enumerate(self._keys):
            changed, other = number % 2, halves[1 - number % 2]
            mixed = (other + added) * factor
            mixed ^= mixed >> _HALF
            mixed *= _ODD
            mixed >>= _HALF
            mixed &= self._masks[changed]
            halves[changed] ^= mixed
        return (halves[0] << self._right_bits) | halves[1]
