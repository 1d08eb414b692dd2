"""What a template raised, as plain data."""

from __future__ import annotations

import traceback
from typing import Any

TRACEBACK_LIMIT = 4000


def failure_report(error: BaseException, where: str) -> dict[str, Any]:
    """An exception of a template as plain data."""
    text = f"{type(error).__name__}: {error}".strip().rstrip(":")
    return {"error": text, "where": where, "traceback": traceback.format_exc()[-TRACEBACK_LIMIT:]}
