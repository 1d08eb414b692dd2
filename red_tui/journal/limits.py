"""What a journal may claim: each number is checked before anything is made as large as it says."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from red_tui.nodes.ids import check_id

ROWS_LIMIT = 1 << 26
"""Rows of a table at most: a damaged journal that claims more would cost a gigabyte of memory."""

BUNDLES_LIMIT = 100_000
"""Bundles of a pool at most: placement groups of some thousand bundles take minutes to reserve."""

TEXT_LIMIT = 20_000
"""Characters of a text that a journal keeps."""

DATA_LIMIT = 1 << 16
"""Characters of an event's data, as JSON, from which on its texts are cut."""

INFLATED_LIMIT = 1 << 28
"""Bytes that a compressed block or the head of a snapshot may hold."""

WHOLE_TEXTS = frozenset({"layout", "fold"})
"""Texts in the data of events that are read again as a whole."""


def cut(text: str, limit: int = TEXT_LIMIT) -> str:
    """A text of at most about `limit` characters, which says where it was cut."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}… (cut here: {len(text):,} characters in all)"


def cut_texts(value: Any) -> Any:
    """Plain data whose texts are cut, except for those that are read again as a whole."""
    if isinstance(value, str):
        return cut(value)
    if isinstance(value, Mapping):
        return {key: one if key in WHOLE_TEXTS else cut_texts(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [cut_texts(one) for one in value]
    return value


def read_json(text: str | bytes) -> Any:
    """What JSON holds.

    Raises:
        ValueError: If it is no JSON, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def inflate(data: bytes, limit: int) -> bytes:
    """What compressed bytes hold.

    Raises:
        ValueError: If they are damaged, or hold more than `limit` bytes.
    """
    stream = zlib.decompressobj()
    try:
        found = stream.decompress(data, limit + 1)
    except (zlib.error, TypeError) as error:
        raise ValueError(str(error)) from error
    if len(found) > limit:
        raise ValueError(f"it holds more than {limit:,} bytes")
    if not stream.eof:
        raise ValueError("it is cut off")
    return found


def checked_bundle(bundle: Any) -> int:
    """The index of a bundle; -1 for none.

    Raises:
        ValueError: If no pool has such a bundle.
    """
    index = -1 if bundle is None else int(bundle)
    if not -1 <= index < BUNDLES_LIMIT:
        raise ValueError(f"bundle {index:,} is none: a pool has at most {BUNDLES_LIMIT:,}")
    return index


def check_segment(wire: Sequence[Any]) -> None:
    """Look whether ids of nodes that joined can be ids, before they are made.

    Raises:
        ValueError: If they cannot; the message says why.
    """
    if wire[0] == "pattern":
        _, prefix, suffix, first, count, width = wire
        if not 1 <= int(count) <= ROWS_LIMIT or not 0 <= int(first) < 1 << 53 or not 0 <= int(width) <= 63:
            raise ValueError(f"{count} ids from {first} on, {width} digits wide, are too many or too long")
        check_id(f"{prefix}{int(first) + int(count) - 1:0{int(width)}d}{suffix}")
    elif wire[0] == "listed":
        for node_id in wire[1]:
            check_id(node_id)
    else:
        raise ValueError(f"{str(wire[0])[:40]!r} is no kind of ids")
