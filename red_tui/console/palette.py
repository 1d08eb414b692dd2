"""Styles of drawn lines, by name, in the colours of the present theme.

Lines are drawn by the thousand and panels are there before the first frame: styles are looked up in the theme
directly, as the component classes of a style sheet would cost a fifth of the time to the first frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.style import Style
from textual.color import Color

from red_tui.console.contrast import readable
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
    """The styles by name in an app's present theme; `cursor`, `selected` and `marked` are to be laid over others."""
    return styles_of(app.get_css_variables(), app.current_theme.ansi)


def styles_of(variables: Mapping[str, str], ansi: bool) -> dict[str, Style]:
    """The styles by name in a theme's colours."""
    found = {
        name: Style(color=_colour(variables[variable]), bold=name in _BOLD or None)
        for name, variable in _FOREGROUNDS.items()
    }
    if ansi:
        # What is grey elsewhere: "bright black" is the colour of the background in some terminals.
        found["virtual"] = found["stale"] = Style(color=_colour("ansi_default"), dim=True)
        found["marked"] = Style(color=_colour("ansi_bright_white"), bgcolor=_colour("ansi_blue"), bold=True, dim=False,
                                underline=True)  # fmt: skip
        found["cursor"] = found["selected"] = Style(reverse=True, dim=False)
    else:
        background, bright, mark = (_colour(variables[name]) for name in ("background", "red-bright", "red-mark"))
        found["marked"] = Style(bgcolor=mark, bold=True, underline=True)
        found["cursor"] = Style(color=background, bgcolor=bright, bold=True)
        found["selected"] = Style(bgcolor=mark, bold=True)
    found["removed"] = found["dim"]
    return found


def laid_over(style: Style, top: Style) -> Style:
    """`style` with another one on top, its text such that it can be read on what is behind it then."""
    made = style + top
    if made.color is None or made.bgcolor is None or top.bgcolor is None or made.color.triplet is None:
        return made
    text, behind = Color.from_rich_color(made.color), Color.from_rich_color(made.bgcolor)
    return made + Style(color=readable(text, behind).rich_color)


def _colour(text: str) -> Any:
    return Color.parse(text).rich_color
