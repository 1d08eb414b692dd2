"""What the query at the cursor may become."""

from __future__ import annotations

import numpy as np

from red_tui.nodes.table import NodeTable
from red_tui.selection.expressions import FIELDS, NONE, SIGNS, STATE_WORDS, WITH_NONE
from red_tui.selection.globs import NO_ID, has_wildcard, match_ids
from red_tui.selection.reading import WORD_END

COMPLETIONS = 20


def complete(text: str, cursor: int, table: NodeTable) -> list[str]:
    """Whole queries that `text` may become by completing the term that ends at `cursor`.

    Each starts with `text[:cursor]` and ends with `text[cursor:]`; at most `COMPLETIONS` ids are offered.
    """
    head, tail = text[:cursor], text[cursor:]
    start = max((found.end() for found in WORD_END.finditer(head)), default=0)
    fragment = head[start:].lstrip("-!")
    field, colon, values = fragment.partition(":")
    if not colon:
        found = [f"{name}:" for name in FIELDS if name.startswith(fragment)]
        if fragment:
            found += _some_ids(fragment, table)
        typed = fragment
    else:
        typed = values.rpartition(",")[2]
        found = [word for word in _values_of(field, typed, table) if word.startswith(typed)]
    kept = head[: len(head) - len(typed)]
    return [f"{kept}{word}{tail}" for word in found if word != typed]


def _values_of(field: str, typed: str, table: NodeTable) -> list[str]:
    if field == "state":
        return list(STATE_WORDS)
    if field == "role":
        words = {part for roles in table.roles for part in roles.parts}
        return [*sorted(words), *sorted({str(roles) for roles in table.roles} - words)]
    if field == "id":
        return _some_ids(typed, table)
    found = [NONE] if field in WITH_NONE else []
    if field == "bundle":
        used = np.unique(table.column("bundle"))
        found += [str(bundle) for bundle in used[used >= 0].tolist()]
    elif field in FIELDS:
        found += list(SIGNS)[:4]
    return found


def _some_ids(typed: str, table: NodeTable) -> list[str]:
    if has_wildcard(typed) or NO_ID.search(typed):
        return []
    rows = len(table)
    mask = match_ids(table.ids, f"{typed}*")[:rows] & table.present()[:rows]
    return [table.ids[row] for row in np.flatnonzero(mask)[:COMPLETIONS].tolist()]
