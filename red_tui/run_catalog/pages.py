"""Pages and pictures of runs for papers and colleagues: they stand by themselves and load nothing."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from pathlib import Path

from red_tui.errors import RunError
from red_tui.run_catalog.curve_plot import Curve, Frame, frame_of

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 16, 44
TICKS = 5
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#999999")
"""Colours that are told apart with a colour deficiency too (Okabe and Ito, 2008), in the order of the curves."""

DASHES = ("", "6 3", "2 3", "8 3 2 3", "12 4", "1 2", "4 1", "10 2 2 2")
STYLE = (
    "body{font:14px/1.5 system-ui,sans-serif;margin:2em auto;max-width:60em;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;margin:1em 0}td,th{padding:.2em .8em;border-bottom:1px solid #ddd;text-align:right}"
    "td:first-child,th:first-child{text-align:left}pre{background:#f6f6f6;padding:1em;overflow:auto}svg{max-width:100%}"
)


def page(title: str, parts: Sequence[str]) -> str:
    """A whole page out of parts that are HTML already; the title is text."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{STYLE}</style></head><body><h1>{html.escape(title)}</h1>{''.join(parts)}</body></html>\n"
    )


def write_text(path: str | Path, text: str) -> Path:
    """Write a page or a picture; gives its path.

    Raises:
        RunError: If it cannot be written.
    """
    target = Path(path).expanduser()
    try:
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunError(f"{target} cannot be written: {error.strerror}") from error
    return target


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of text."""

    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return f"<table>{line(head, 'th')}{''.join(line(row, 'td') for row in rows)}</table>"


def svg(curves: Sequence[Curve], *, x: str = "round", y: str = "loss", log: bool = False) -> str:
    """Curves with axes and a legend as one picture; the bands are one standard deviation to each side."""
    frame = frame_of(curves, log)
    below = HEIGHT + 18 * len(curves)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{below}" viewBox="0 0 {WIDTH} {below}"'
        ' font-family="sans-serif" font-size="12">',
        f'<clipPath id="frame"><rect x="{LEFT}" y="{TOP}" width="{WIDTH - LEFT - RIGHT}"'
        f' height="{HEIGHT - TOP - BOTTOM}"/></clipPath>',
        *_axes(frame, x, y),
    ]
    for place, curve in enumerate(curves):
        parts += _curve(frame, curve, place)
    return "".join(parts) + "</svg>"


def _across(frame: Frame, at: float) -> float:
    span = frame.right - frame.left
    return LEFT + (WIDTH - LEFT - RIGHT) * ((at - frame.left) / span if span else 0.5)


def _down(frame: Frame, level: float) -> float:
    rise = frame.high - frame.low
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * ((level - frame.low) / rise if rise else 0.5)


def _axes(frame: Frame, x: str, y: str) -> list[str]:
    parts = [
        f'<path d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}" fill="none" stroke="#444"/>',
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 8}" text-anchor="middle">{html.escape(x)}</text>',
        f'<text x="14" y="{(TOP + HEIGHT - BOTTOM) / 2:.0f}" text-anchor="middle"'
        f' transform="rotate(-90 14 {(TOP + HEIGHT - BOTTOM) / 2:.0f})">{html.escape(y)}</text>',
    ]
    for step in range(TICKS):
        share = step / (TICKS - 1)
        level = frame.low + share * (frame.high - frame.low)
        down, told = _down(frame, level), 10**level if frame.log else level
        parts.append(f'<path d="M{LEFT} {down:.1f}H{WIDTH - RIGHT}" stroke="#e4e4e4"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{down + 4:.1f}" text-anchor="end">{told:.4g}</text>')
        at = frame.left + share * (frame.right - frame.left)
        parts.append(
            f'<text x="{_across(frame, at):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{at:.4g}</text>'
        )
    return parts


def _curve(frame: Frame, curve: Curve, place: int) -> list[str]:
    color, dash = COLORS[place % len(COLORS)], DASHES[place % len(DASHES)]
    levels = frame.level(curve.y).tolist()
    parts = []
    if curve.deviation is not None:
        upper = frame.level([value + far for value, far in zip(curve.y, curve.deviation, strict=True)]).tolist()
        lower = frame.level([value - far for value, far in zip(curve.y, curve.deviation, strict=True)]).tolist()
        known = [
            (at, up, low if math.isfinite(low) else frame.low)
            for at, up, low in zip(curve.x, upper, lower, strict=True)
            if math.isfinite(up)
        ]
        edge = [(at, up) for at, up, _ in known] + [(at, low) for at, _, low in reversed(known)]
        points = " ".join(f"{_across(frame, at):.1f},{_down(frame, level):.1f}" for at, level in edge)
        parts.append(f'<polygon points="{points}" fill="{color}" opacity="0.15" clip-path="url(#frame)"/>')
    line: list[str] = []
    for at, level in zip(curve.x, levels, strict=True):
        if math.isfinite(level):
            far = "L" if line and line[-1] else "M"
            line.append(f"{far}{_across(frame, at):.1f} {_down(frame, level):.1f}")
        else:
            line.append("")
    stroke = f' stroke-dasharray="{dash}"' if dash else ""
    parts.append(
        f'<path d="{"".join(line)}" fill="none" stroke="{color}" stroke-width="1.8"{stroke} clip-path="url(#frame)"/>'
    )
    down = HEIGHT + 18 * place + 8
    parts.append(f'<path d="M{LEFT} {down}h28" stroke="{color}" stroke-width="1.8"{stroke}/>')
    parts.append(f'<text x="{LEFT + 36}" y="{down + 4}">{html.escape(curve.name)}</text>')
    return parts
