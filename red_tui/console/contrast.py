"""How well a text can be read on what is behind it, after WCAG 2.1."""

from __future__ import annotations

from textual.color import BLACK, WHITE, Color

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
