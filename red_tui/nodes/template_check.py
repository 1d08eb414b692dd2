"""Whether the methods of a template can be called as a federation calls them: looked at before anything is built."""

from __future__ import annotations

import inspect
from collections.abc import Collection
from typing import Any

from red_tui.nodes.template import FederatedNode

CALLS: dict[str, tuple[str, ...]] = {
    "__init__": ("node_id", "role", "config", "log"),
    "initial_parameters": (),
    "fit": ("parameters", "config"),
    "evaluate": ("parameters", "config"),
    "get_state": (),
    "set_state": ("state",),
}
"""What each method is given, by position."""

ROLES = {"initial_parameters": "train", "fit": "train", "evaluate": "eval"}
"""The role of the nodes on which a method is called; the others are called on all."""


def signature_trouble(template: type, roles: Collection[str] | None = None, isolation: str = "") -> str:
    """What is wrong with the signature of a template's method, or nothing.

    Args:
        template: A class that derives from `FederatedNode`.
        roles: All single roles that its nodes have: methods that none of them calls are its own business.  None: it is
            not known which.
        isolation: `process`: its constructor is given names.  `bundle`: it is called by position.  Else it is not known
            which, and either will do.

    Returns:
        The method, what it takes, and what it is given.
    """
    for name, given in CALLS.items():
        if not _is_called(template, name, roles):
            continue
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
        by_name = name == "__init__" and isolation == "process"
        error = _refusal(signature, bound, given, by_name)
        if error and name == "__init__" and isolation not in ("process", "bundle"):
            error = _refusal(signature, bound, given, by_name=True) and error
        if error:
            advice = "; pass them on to super().__init__, and do the work in build" if name == "__init__" else ""
            return (
                f"{template.__name__}.{name}{signature} cannot be called as it is here ({error}): write"
                f" {_wanted(name, given)}{advice}"
            )
    return ""


def _is_called(template: type, name: str, roles: Collection[str] | None) -> bool:
    if name == "set_state" and getattr(template, "get_state", None) is FederatedNode.get_state:
        return False  # there is no state that it could be given
    return roles is None or name not in ROLES or ROLES[name] in roles


def _refusal(signature: inspect.Signature, bound: int, given: tuple[str, ...], by_name: bool) -> str:
    """Why a function cannot be called so; nothing where it can."""
    try:
        if by_name:
            signature.bind(*[None] * bound, **dict.fromkeys(given))
        else:
            signature.bind(*[None] * (bound + len(given)))
    except TypeError as error:
        return str(error)
    return ""


def _wanted(name: str, given: tuple[str, ...]) -> str:
    return f"def {name}({', '.join(('self', *given))})"
