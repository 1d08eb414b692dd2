"""A console that looks only: no key, no menu, no command and no answer to a question changes a federation."""

from __future__ import annotations

LOOKING = {
    "describe", "detail", "events", "explain", "graph", "history", "spread", "traffic", "select", "plan",
    "pull_version",
}  # fmt: skip
