"""What leaves the console: the clipboard through OSC 52, and files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from red_tui.console.text import plain_lines
from red_tui.console.textual_private import screen_strips
from red_tui.state_folder import write_private

if TYPE_CHECKING:
    from textual.app import App

MAX_OSC52 = 74_994
"""Bytes of base64 that terminals take in one OSC 52; beyond it a file is written."""


def state_dir(app: App[Any]) -> Path:
    """Folder for what the console saves."""
    options = getattr(app, "options", None)
    folder: Path = options.state_dir() if options is not None else Path.cwd()
    return folder


def copy_text(app: App[Any], text: str) -> str:
    """Copy to the terminal's clipboard, or into a file what is too long for it; say where it went.

    It is plain text: where it is pasted, another terminal would act upon what is not.
    """
    text = "\n".join(plain_lines(text, len(text)))
    size = len(text.encode("utf-8"))
    if -(-size // 3) * 4 <= MAX_OSC52:
        app.copy_to_clipboard(text)
        return f"copied {size:,} bytes"
    path = state_dir(app) / "clipboard.txt"
    write_private(path, text)
    return f"too long for the clipboard ({size:,} bytes): written to {path}"


def save_screen(app: App[Any]) -> str:
    """Write the screen as SVG and as text; say where."""
    folder = state_dir(app) / "screens"
    stem = time.strftime("%Y%m%d-%H%M%S")
    write_private(folder / f"{stem}.svg", app.export_screenshot())
    write_private(folder / f"{stem}.txt", screen_text(app))
    return f"saved {folder / stem}.svg and .txt"


def screen_text(app: App[Any]) -> str:
    """What the screen shows, as lines of text."""
    width, height = app.size
    strips = screen_strips(app)
    return "\n".join(strip.text.rstrip()[:width] for strip in strips[:height]) + "\n"
