"""Colours: quiet chrome, one accent, and states that stay apart in every theme."""

from __future__ import annotations

import os
from typing import Any

from textual.app import App
from textual.theme import Theme

DEFAULT_THEME = "red"

_DARK = {
    "red-virtual": "#5c6773",
    "red-pending": "#e6b450",
    "red-starting": "#c79a3b",
    "red-ready": "#4fb477",
    "red-busy": "#53bdfa",
    "red-failed": "#ff6b6b",
    "red-released": "#8a97a5",
    "red-bright": "#f0f4f8",
    "red-text": "#c8d0d8",
    "red-dim": "#7f8c98",
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
    "red-virtual": "ansi_bright_black",
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
    """The colours that the console adds to a theme that does not name them."""
    if theme.ansi:
        return dict(_ANSI)
    return {**_DARK, "red-dim": "#a9b4bf"} if theme.dark else dict(_LIGHT)  # backgrounds lighter than ours


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
    if os.environ.get("NO_COLOR") is not None and app.available_themes[chosen].ansi:
        chosen = DEFAULT_THEME  # an ANSI theme without colours is black on black
    if chosen in own:
        app.set_reactive(App.theme, chosen)
        app.stylesheet.set_variables(app.get_css_variables())
    return chosen, odd
