"""Whether the methods of a template can be called as a federation calls them: looked at before anything is built."""

from __future__ import annotations

import inspect
from typing import Any

CALLS: dict[str, tuple[str, ...]] = {
    "__init__": ("node_id", "role", "config", "log"),
    "initial_parameters": (),
    "fit": ("parameters", "config"),
    "evaluate": ("parameters", "config"),
    "get_state": (),
    "set_state": ("state",),
}
"""What each method is given, by position."""


def signature_trouble(template: type) -> str:
    """What is wrong with the signature of a template's method, or nothing.

    Args:
        template: A class that derives from `FederatedNode`.

    Returns:
        The method, what it takes, and what it is given.
    """
    for name, given in CALLS.items():
        found = inspect.getattr_static(template, name, None)
        bound = 0 if isinstance(found, staticmethod) else 1
        function: Any = found.__func__ if isinstance(found, (staticmethod, classmethod)) else found
        if not callable(function):
            if function is not None and hasattr(type(function), "__get__"):
                continue  # a descriptor that makes a method
            return (
                f"{template.__name__}.{name} is {type(function).__name__}, not a method: write {_wanted(name, given)}"
            )
        try:
            # What is called is a decorator's own function, whatever that has wrapped.
            signature = inspect.signature(function, follow_wrapped=False)
        except (TypeError, ValueError):  # compiled: it says nothing of what it takes
            continue
        try:
            signature.bind(*[None] * (bound + len(given)))
            if name == "__init__":  # a process of its own is given them by name
                signature.bind(None, **dict.fromkeys(given))
        except TypeError as error:
            advice = "; pass them on to super().__init__, and do the work in build" if name == "__init__" else ""
            return (
                f"{template.__name__}.{name}{signature} cannot be called as it is here ({error}): write"
                f" {_wanted(name, given)}{advice}"
            )
    return ""


def _wanted(name: str, given: tuple[str, ...]) -> str:
    return f"def {name}({', '.join(('self', *given))})"
