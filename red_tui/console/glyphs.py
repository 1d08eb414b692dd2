"""One sign per state, so that no state is told by colour alone."""

from __future__ import annotations

from dataclasses import dataclass

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
