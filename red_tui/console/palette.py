"""Styles of drawn lines, by name, in the colours of the present theme.

Lines are drawn by the thousand and panels are there before the first frame: styles are looked up in the theme
directly, as the component classes of a style sheet would cost a fifth of the time to the first frame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.style import Style
from textual.color import Color

from red_tui.console.glyphs import STATE_NAMES

if TYPE_CHECKING:
    from textual.app import App

_FOREGROUNDS = {
    **{name: f"red-{name}" for name in STATE_NAMES[:-1]},
    "text": "red-text",
    "dim": "red-dim",
    "title": "red-bright",
    "key": "red-bright",
    "error": "red-failed",
    "good": "red-ready",
    "warn": "red-pending",
    "stale": "red-virtual",
}
_BOLD = frozenset({"title", "key", "error"})


def styles(app: App[Any]) -> dict[str, Style]:
    """The styles by name; `cursor`, `selected` and `marked` are to be added to others."""
    variables = app.get_css_variables()
    found = {
        name: Style(color=_colour(variables[variable]), bold=name in _BOLD or None)
        for name, variable in _FOREGROUNDS.items()
    }
    found["removed"] = found["dim"]
    found["marked"] = Style(bgcolor=_colour(variables["red-mark"]), bold=True, underline=True)
    if app.current_theme.ansi:
        found["cursor"] = found["selected"] = Style(reverse=True)
    else:
        found["cursor"] = Style(
            color=_colour(variables["background"]), bgcolor=_colour(variables["red-bright"]), bold=True
        )
        found["selected"] = Style(bgcolor=_colour(variables["red-mark"]), bold=True)
    return found


def _colour(text: str) -> Any:
    return Color.parse(text).rich_color
