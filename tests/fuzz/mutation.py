"""Inputs for a target: seeds that are changed, spliced and repeated, from one seeded source of chance."""

from __future__ import annotations

import random
from collections.abc import Sequence

MAX_BYTES = 1_000_000

ODD = [
    b"\0", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\r\n", b"\n", b"\t", b" ", b"\x1b[2J", b"\x9b",
    "\u202e".encode(), "\u0665".encode(),
    "\u2028".encode(), "²".encode(), b"-", b"+", b".", b",", b":", b"*", b"?", b"[", b"]", b"{", b"}", b"(", b")",
    b"<", b"<<", b"&a ", b"*a",
    b"!!int ", b"!!set ", b"!", b"'", b'"', b"#", b"%", b"|", b">", b"=", b"0", b"1", b"9", b"-1", b"00", b"1e308",
    b"1e999", b"1e-999", b"1_0",
    b"0x", b"9223372036854775807", b"9223372036854775808", b"-9223372036854775809", b"4294967296", b"nan", b"inf",
    b".inf", b".nan", b"NaN",
    b"Infinity", b"null", b"none", b"true", b"or", b"and", b"not ", b"1:30", b"2001-02-30", b"9999-12-31",
    b"0001-01-01",
]  # fmt: skip
"""What readers stumble over."""


class Mutator:
    """Makes inputs from seeds.

    Args:
        chance: Where all chance comes from.
        seeds: Inputs to begin with; `keep` adds further ones.
        words: Words of the target's language.
    """

    def __init__(self, chance: random.Random, seeds: Sequence[bytes], words: Sequence[bytes] = ()) -> None:
        self._chance = chance
        self._pool = list(seeds) or [b""]
        self._seeds = len(self._pool)
        self._words = [*ODD, *words, *words]

    def keep(self, data: bytes) -> None:
        """Add an input that led somewhere new to those that are changed."""
        if len(data) < 20_000:
            self._pool.append(data)
            if len(self._pool) > self._seeds + 500:
                del self._pool[self._seeds + self._chance.randrange(500)]

    def next(self) -> bytes:
        """An input."""
        chance = self._chance
        data = bytearray(chance.choice(self._pool))
        for _ in range(1 + min(int(chance.expovariate(0.5)), 12)):
            self._change(data)
        if chance.random() < 0.002:
            self._grow(data)
        return bytes(data[:MAX_BYTES])

    def _change(self, data: bytearray) -> None:
        chance = self._chance
        at = chance.randrange(len(data) + 1)
        end = min(len(data), at + 1 + int(chance.expovariate(0.1)))
        kind = chance.randrange(8)
        if kind == 0 and data:
            place = min(at, len(data) - 1)
            data[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            del data[at:end]
        elif kind == 2:
            data[at:at] = bytes(data[at:end]) * chance.choice((1, 2, 10))
        elif kind == 3:
            data[at:end] = chance.choice(self._words)
        elif kind in (4, 5):
            data[at:at] = chance.choice(self._words)
        elif kind == 6:
            other = chance.choice(self._pool)
            start = chance.randrange(len(other) + 1)
            data[at:end] = other[start : start + 1 + int(chance.expovariate(0.02))]
        else:
            data[at:end] = bytes(chance.randrange(256) for _ in range(chance.randrange(9)))

    def _grow(self, data: bytearray) -> None:
        """Repeat a part until the input is large: this is how work that grows faster than its input shows."""
        chance = self._chance
        at = chance.randrange(len(data) + 1)
        part = bytes(data[at : at + chance.choice((1, 2, 5, 30))]) or b"["
        part += chance.choice((b"", b"", b" ", b",", b"\n"))
        data[at:at] = part * (chance.choice((1_000, 30_000, MAX_BYTES)) // len(part))
