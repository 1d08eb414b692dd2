"""Colours: quiet chrome, one accent, and states that stay apart in every theme."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from rich.segment import Segment
from rich.style import Style
from textual.app import App
from textual.color import BLACK, WHITE, Color
from textual.filter import LineFilter
from textual.theme import Theme

if TYPE_CHECKING:
    from textual.app import App


READABLE = 4.5
"""Contrast ratio of text, level AA: https://www.w3.org/TR/WCAG21/#contrast-minimum."""

_STEPS = 24


def luminance(colour: Color) -> float:
    """Relative luminance of an opaque colour, from 0 to 1."""
    parts = [part / 255 for part in colour.rgb]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: Color, other: Color) -> float:
    """Ratio of two colours' luminances, from 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def readable(colour: Color, *behind: Color) -> Color:
    """`colour`, made lighter or darker just so far that it can be read on each of these backgrounds.

    Where none can be read on all of them, it is the one that comes nearest: black or white.
    """

    def worst(text: Color) -> float:
        return min(contrast(text, background) for background in behind)

    end = max((WHITE, BLACK), key=worst)
    for step in range(_STEPS + 1):
        made = colour.blend(end, step / _STEPS)
        if worst(made) >= READABLE:
            return made
    return end


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


STATE_NAMES = ("virtual", "pending", "starting", "ready", "busy", "failed", "released", "removed")
"""By code, as `red_tui.nodes.states.STATES`; spelled out here to keep numpy's friends out of the first frame."""

COUNT_ORDER = ("ready", "busy", "starting", "pending", "failed", "released", "virtual")
"""The order in which counts are told."""


@dataclass(frozen=True)
class Glyphs:
    """The signs of one terminal, each one cell wide."""

    states: tuple[str, ...]
    bar_full: str
    bar_empty: str
    dot: str
    dash: str
    arrow: str
    up_to: str
    ellipsis: str
    mark: str
    warn: str
    ascii_only: bool

    def of(self, state: str) -> str:
        """The sign of a state's name; a space for an unknown one."""
        return self.states[STATE_NAMES.index(state)] if state in STATE_NAMES else " "

    def bar(self, share: float, width: int) -> tuple[str, str]:
        """The filled and the empty part of a bar of `width` cells."""
        share = min(1.0, max(0.0, share))
        filled = round(share * width)
        if share > 0 and filled == 0:
            filled = 1
        if share < 1 and filled == width:
            filled = width - 1
        return self.bar_full * filled, self.bar_empty * (width - filled)


UNICODE = Glyphs(
    states=("·", "◌", "◍", "●", "▶", "✗", "○", " "),
    bar_full="▰",
    bar_empty="▱",
    dot="·",
    dash="\N{EN DASH}",
    arrow="▸",
    up_to="→",
    ellipsis="…",
    mark="▎",
    warn="!",
    ascii_only=False,
)
ASCII = Glyphs(
    states=(".", "?", "+", "o", ">", "x", "-", " "),
    bar_full="#",
    bar_empty=".",
    dot="-",
    dash="-",
    arrow=">",
    up_to="->",
    ellipsis="~",
    mark="|",
    warn="!",
    ascii_only=True,
)


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
