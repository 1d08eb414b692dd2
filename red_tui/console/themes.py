"""Colours: quiet chrome, one accent, and states that stay apart in every theme."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from rich.segment import Segment
from rich.style import Style
from textual.app import App
from textual.color import Color
from textual.filter import LineFilter
from textual.theme import Theme

from red_tui.console.contrast import readable

DEFAULT_THEME = "red"

TEXTS = (
    "red-virtual", "red-pending", "red-starting", "red-ready", "red-busy", "red-failed", "red-released",
    "red-bright", "red-text", "red-dim",
)  # fmt: skip
"""Colours in which something is written, on the background or on a bar."""

COLOURLESS = "ansi-dark"
"""The theme where no colour is wanted: it tells by bold, underlined and reversed what others tell by a background."""

_DARK = {
    "red-virtual": "#7b8794",
    "red-pending": "#e6b450",
    "red-starting": "#c79a3b",
    "red-ready": "#4fb477",
    "red-busy": "#53bdfa",
    "red-failed": "#ff6b6b",
    "red-released": "#9fabb8",
    "red-bright": "#f0f4f8",
    "red-text": "#c8d0d8",
    "red-dim": "#8b97a3",
    "red-line": "#26303a",
    "red-bar": "#141c26",
    "red-badge": "#e5484d",
    "red-badge-text": "#0f1419",
    "red-mark": "#24405c",
    "red-bar-empty": "#4b5663",
}

_SAFE = {
    **_DARK,
    # Okabe and Ito's palette: apart for every common kind of colour vision.
    "red-pending": "#f0e442",
    "red-starting": "#e69f00",
    "red-ready": "#56b4e9",
    "red-busy": "#ffffff",
    "red-failed": "#ff7f2a",
    "red-released": "#a0a8b0",
    "red-badge": "#e69f00",
}

_ANSI = {
    "red-virtual": "ansi_default",
    "red-pending": "ansi_yellow",
    "red-starting": "ansi_bright_yellow",
    "red-ready": "ansi_green",
    "red-busy": "ansi_cyan",
    "red-failed": "ansi_bright_red",
    "red-released": "ansi_default",
    "red-bright": "ansi_default",
    "red-text": "ansi_default",
    "red-dim": "ansi_default",
    "red-line": "ansi_bright_black",
    "red-bar": "ansi_default",
    "red-badge": "ansi_default",
    "red-badge-text": "ansi_red",
    "red-mark": "ansi_blue",
    "red-bar-empty": "ansi_bright_black",
}

_LIGHT = {
    "red-virtual": "#7a848e",
    "red-pending": "#7d5100",
    "red-starting": "#964300",
    "red-ready": "#14713d",
    "red-busy": "#0059b3",
    "red-failed": "#b3142c",
    "red-released": "#5d6670",
    "red-bright": "#0b0f14",
    "red-text": "#22282f",
    "red-dim": "#4f5964",
    "red-line": "#b7bec6",
    "red-bar": "#dfe3e8",
    "red-badge": "#b3142c",
    "red-badge-text": "#ffffff",
    "red-mark": "#b9d4ee",
    "red-bar-empty": "#a4adb6",
}


def _theme(name: str, colours: dict[str, str]) -> Theme:
    return Theme(
        name=name,
        primary="#53bdfa",
        secondary="#4fb477",
        accent="#e5484d",
        warning="#e6b450",
        error="#ff6b6b",
        success="#4fb477",
        foreground=colours["red-text"],
        background="#0f1419",
        surface="#121a22",
        panel="#141c26",
        dark=True,
        variables={
            **colours,
            "block-cursor-background": "#f0f4f8",
            "block-cursor-foreground": "#0f1419",
            "input-selection-background": "#53bdfa 35%",
            "scrollbar": "#26303a",
            "scrollbar-background": "#0f1419",
            "scrollbar-hover": "#3a4754",
            "scrollbar-active": "#4b5663",
            "scrollbar-corner-color": "#0f1419",
        },
    )


def themes() -> tuple[Theme, ...]:
    """Our own themes: the default and one that is safe for every colour vision."""
    return _theme("red", _DARK), _theme("red-safe", _SAFE)


def variable_defaults(theme: Theme) -> dict[str, str]:
    """The colours that the console adds to a theme that does not name them.

    Bars, marks and lines are shades of the theme's own colours; texts keep ours, as far as they can be read on those.
    """
    if theme.ansi:
        return dict(_ANSI)
    if theme.name in ("red", "red-safe"):
        return {}
    generated = theme.to_color_system().generate()
    return dict(_fitted(theme.dark, *(generated[name] for name in ("background", "surface", "primary"))))


@lru_cache(64)
def _fitted(dark: bool, *own: str) -> Mapping[str, str]:
    """Our colours, fitted to a theme's background, surface and primary colour."""
    background, surface, primary = map(Color.parse, own)
    base = _DARK if dark else _LIGHT
    found = {
        **base,
        "red-bar": surface.hex,
        "red-mark": background.blend(primary, 0.28).hex,
        "red-line": background.blend(Color.parse(base["red-text"]), 0.25).hex,
    }
    for name in TEXTS:
        found[name] = readable(Color.parse(base[name]), background, surface).hex
    return found


class Colourless(LineFilter):
    """Takes every colour away: what is left is bold, dim, underlined or reversed."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """Segments without colours."""
        return [
            Segment(text, None if style is None else _without_colour(style), control)
            for text, style, control in segments
        ]


@lru_cache(1024)
def _without_colour(style: Style) -> Style:
    return style.without_color


def choose_theme(app: App[Any], wanted: str | None) -> tuple[str, str]:
    """Choose the theme before anything is drawn: a later change would style everything twice.

    Returns:
        The theme's name, and the wanted one if there is none of that name.
    """
    own = {theme.name: theme for theme in themes()}
    for theme in own.values():
        app.register_theme(theme)
    name = {"ansi": "ansi-dark"}.get(wanted or "", wanted or DEFAULT_THEME)
    chosen = name if name in app.available_themes else DEFAULT_THEME
    odd = name if name != chosen else ""
    if app.no_color:
        chosen = COLOURLESS
    if chosen in own:
        app.set_reactive(App.theme, chosen)
        app.stylesheet.set_variables(app.get_css_variables())
    return chosen, odd
