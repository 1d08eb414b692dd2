"""Roles: dash-separated in text and matched whole."""

from __future__ import annotations

import re

BUILTIN_ROLES = frozenset({"train", "eval", "test", "server"})
"""Roles that rounds and sessions know; a layout declares further ones under `roles`."""

_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")


class Roles(str):
    """The roles of a node: `"train" in Roles("train-eval")` is true, in `Roles("pretrain")` false.

    It is a `str` and compares as one; only membership and iteration look at whole roles.

    Raises:
        ValueError: If the text is empty or a part is not a word.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Roles:
        """Check the text and make it roles."""
        for part in text.split("-"):
            if not _WORD.match(part):
                raise ValueError(
                    f"{text!r} is not a role: write words of letters, digits and _ joined by dashes, such as train-eval"
                )
        return super().__new__(cls, text)

    @property
    def parts(self) -> tuple[str, ...]:
        """The single roles, in the order written."""
        return tuple(self.split("-"))

    def __contains__(self, role: object) -> bool:
        if not isinstance(role, str) or not role:
            return False
        return set(role.split("-")) <= set(self.parts)
