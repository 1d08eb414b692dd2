"""Which keys the last line tells: those that matter in the view that is shown, the most important first."""

from __future__ import annotations

from collections.abc import Mapping

from red_tui.console.actions import ActionMap, Situation, key_name

Told = tuple[str, str, int]
"""A key, its label, and its place in the line."""

_HERE: Mapping[str, Mapping[str, tuple[int, str]]] = {
    "rounds": {"sort": (9, "other plots"), "copy": (12, "copy")},
    "placement": {"detail": (4, "its nodes"), "copy": (12, "copy")},
    "topology": {"zoom": (6, "drawn or listed"), "filter": (10, "filter")},
    "events": {"detail": (4, "all of it"), "pause": (5, "pause"), "filter": (6, "filter"), "copy": (12, "copy")},
    "nodes": {"sort": (6, "sort"), "columns": (6, "columns")},
}
"""What is told in a view besides what is told everywhere: rank and label by action id."""

_OF_NODES = frozenset({"build", "release", "rebuild", "mark", "filter", "detail"})
"""Actions that mean a node, told only where nodes are seen."""

_QUIET: Mapping[str, tuple[str, ...]] = {
    "wave": ("rounds", "placement", "topology", "events", "nodes"),
    "round": ("placement", "events"),
    "run": ("placement", "topology", "events", "nodes"),
}
"""Views in which an action is told only where there is much room."""

_NODES_SEEN = frozenset({"grid", "topology", "nodes"})
_SCREENS_RANK = 7


def footer_keys(actions: ActionMap, now: Situation) -> list[Told]:
    """What the last line tells, by importance."""
    here = _HERE.get(now.view, {})
    found = _screens(actions, now)
    for place, action in enumerate(actions.actions):
        unseen = action.id in _OF_NODES and now.view not in _NODES_SEEN
        rank, label = here.get(action.id, (0 if unseen else action.footer, action.label))
        if now.view in _QUIET.get(action.id, ()):
            rank += 10
        if action.id == "escape" and now.filtered:
            rank, label = 5, "clear filter"
        elif action.id == "escape" and now.view != "grid":
            rank = 6
        elif action.id == "escape":  # a message it would take away goes by itself
            rank, label = (rank, "unmark") if now.marks else (0, label)
        if rank and actions.keys[action.id] and action.possible(now) is None:
            found.append((rank, key_name(actions.keys[action.id][0]), label, place))
    found.sort(key=lambda told: told[0])
    return [(key, label, place) for _, key, label, place in found]


def _screens(actions: ActionMap, now: Situation) -> list[tuple[int, str, str, int]]:
    """The keys of the screens as one entry: `1-6` where one follows the other."""
    views = [(place, action) for place, action in enumerate(actions.actions) if action.id.startswith("view_")]
    keys = [actions.keys[action.id][0] for _, action in views if actions.keys[action.id]]
    if not keys or views[0][1].possible(now) is not None:
        return []
    follow = len(keys) > 1 and "".join(keys) in "123456789"
    told = f"{keys[0]}-{keys[-1]}" if follow else " ".join(map(key_name, keys))
    before = next((place for place, action in enumerate(actions.actions) if action.id == "command"), 0)
    return [(_SCREENS_RANK, told, "screens", before)]
