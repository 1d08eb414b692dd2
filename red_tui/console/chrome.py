"""Border titles that are plain text and repaint no more than the border."""

from __future__ import annotations

from collections.abc import Iterable

from textual.content import Content
from textual.geometry import Region
from textual.widget import Widget

Part = tuple[str, str]


def set_border(widget: Widget, title: Iterable[Part] | None = None, subtitle: Iterable[Part] | None = None) -> None:
    """Write into a widget's border.

    Textual's own setters read markup and repaint the widget whole; ids and names must do neither.

    Args:
        widget: A widget with a border of one cell.
        title: Texts with styles for the top border; None leaves it.
        subtitle: The same for the bottom border.
    """
    width = widget.outer_size.width
    for name, parts, y in (("_border_title", title, -1), ("_border_subtitle", subtitle, widget.size.height)):
        if parts is None:
            continue
        content = Content.assemble(*parts) if parts else None
        if content != getattr(widget, name, None):
            setattr(widget, name, content)
            if width:
                widget.refresh(Region(-1, y, width, 1))
