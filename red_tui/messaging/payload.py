"""What a message brings: handed on within a process, as bytes, or through the object store, and the same each time.

A receiver gets the body as it was when it was sent.  Its containers are its own; arrays are read-only, whichever way
they came.
"""

from __future__ import annotations

import contextlib
import io
import pickle
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from red_tui.errors import MessageError

LARGE = 64_000
"""Bytes from which a body travels once through the object store, and not with each message."""

ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes})
"""What nobody can change: it is the same object for all, and needs no copy."""

CONTAINERS = frozenset({dict, list, tuple})

_missing = object()


class _NotPlainError(Exception):
    """A body holds something else than atoms, arrays and containers of them."""


class Outgoing:
    """The body of one message to any number of receivers; each form is made once, when the first needs it.

    Args:
        header: What the message is about.
        body: Anything that Ray can serialise.

    Attributes:
        size: About how many bytes it has.
    """

    __slots__ = ("_body", "_header", "_plain", "_sent", "_shared", "size")

    def __init__(self, header: str, body: Any) -> None:
        self._header, self._body = header, body
        try:
            self.size = size_of(body)
        except RecursionError:
            self.size = 8  # it contains itself: its bytes will tell
        self._shared: Any = body if type(body) in ATOMS else _missing
        self._plain: Any = _missing
        self._sent: tuple[bytes | None, Any] | None = None

    def here(self) -> Any:
        """The body for one receiver in this process.

        Raises:
            MessageError: If it cannot be serialised: where the receiver lives makes no difference.
        """
        if self._shared is not _missing:
            return self._shared
        if self._plain is _missing:
            try:
                self._plain = plain(self._body)
            except (_NotPlainError, RecursionError):
                self._plain = None
            if type(self._plain) is np.ndarray:
                self._shared = self._plain
        if self._plain is not None:
            return own(self._plain)
        packed, reference = self.sent()
        if packed is not None:
            return unpacked(packed)
        import ray

        return sealed(ray.get(reference))

    def sent(self) -> tuple[bytes | None, Any]:
        """The body for receivers elsewhere: its bytes, or None and a reference to it in the object store.

        Raises:
            MessageError: If it cannot be serialised.
        """
        if self._sent is None:
            packed = packed_of(self._header, self._body) if self.size < LARGE else None
            if packed is not None and len(packed) >= LARGE:
                # An object that does not show how large it is.
                self.size, packed = len(packed), None
            self._sent = packed, (stored(self._header, self._body) if packed is None else None)
        return self._sent


def plain(value: Any) -> Any:
    """A copy of a body in which nothing but its containers can be changed.

    Raises:
        _NotPlainError: If it holds something else than atoms, arrays and containers of them.
    """
    kind = type(value)
    if kind in ATOMS:
        return value
    if kind is np.ndarray and not value.dtype.hasobject:
        copy = value.copy(order="K")
        copy.setflags(write=False)
        return copy
    if kind is dict:
        return {_key(key): plain(one) for key, one in value.items()}
    if kind is list or kind is tuple:
        return kind([plain(one) for one in value])
    if isinstance(value, np.generic) and not isinstance(value, (np.void, np.object_)):
        return value
    raise _NotPlainError


def check_sendable(value: Any, method: str) -> None:
    """Raise TypeError unless a value can be sent to another process; plain values and arrays are not copied for that.

    Args:
        value: What is to be sent.
        method: The method that gave it.
    """
    try:
        if not _is_plain(value):
            packed_of(method, value)
    except MessageError as error:
        raise TypeError(f"{method} gave what cannot be sent to another process: {error.__cause__}") from error
    except RecursionError:
        raise TypeError(f"{method} gave what cannot be sent to another process: it is nested too deeply") from None


def _is_plain(value: Any) -> bool:
    kind = type(value)
    if kind in ATOMS:
        return True
    if kind is np.ndarray:
        return not value.dtype.hasobject
    if kind not in CONTAINERS:
        return False
    for one in value.values() if kind is dict else value:
        if type(one) not in ATOMS and not _is_plain(one):
            return False
    return kind is not dict or ATOMS.issuperset(map(type, value))


def _key(key: Any) -> Any:
    if type(key) in ATOMS or (type(key) is tuple and all(type(one) in ATOMS for one in key)):
        return key
    raise _NotPlainError


def own(value: Any) -> Any:
    """A plain body for one receiver: the arrays are the same, the containers its own."""
    kind = type(value)
    if kind not in CONTAINERS:
        return value
    if kind is dict:
        return {key: one if type(one) in ATOMS else own(one) for key, one in value.items()}
    return kind([one if type(one) in ATOMS else own(one) for one in value])


def sealed(value: Any) -> Any:
    """A body that has come, its arrays made read-only: also those in dicts, lists and tuples."""
    if type(value) not in ATOMS:
        # One that contains itself, or is deeper than Python goes, stays as it came.
        with contextlib.suppress(RecursionError):
            _seal(value)
    return value


def _seal(value: Any) -> None:
    kind = type(value)
    if kind is np.ndarray:
        value.setflags(write=False)
    elif kind is dict:
        for one in value.values():
            _seal(one)
    elif kind is list or kind is tuple:
        for one in value:
            _seal(one)


def unpacked(packed: bytes) -> Any:
    """A body from its bytes."""
    return sealed(pickle.loads(packed))


def packed_of(header: str, body: Any) -> bytes | None:
    """A small body's bytes, made once for all receivers; None if it holds references that Ray has to follow.

    Raises:
        MessageError: If it cannot be serialised.
    """
    if type(body) in ATOMS or (type(body) is np.ndarray and not body.dtype.hasobject):
        return pickle.dumps(body, protocol=5)
    pickler, holds_reference = _pickler()
    into = io.BytesIO()
    try:
        pickler(into, protocol=5).dump(body)
    except holds_reference:
        return None
    except Exception as error:
        raise MessageError(f"the body of {header!r} cannot be sent: {error}") from error
    return into.getvalue()


@lru_cache(maxsize=1)
def _pickler() -> tuple[Any, type[Exception]]:
    """Pickles what Ray pickles, by value where it has to; and what it raises at a reference."""
    import ray
    from ray import cloudpickle

    class HoldsReference(Exception):
        pass

    class Pickler(cloudpickle.CloudPickler):  # type: ignore[misc]
        def reducer_override(self, value: Any) -> Any:
            if isinstance(value, (ray.ObjectRef, ray.actor.ActorHandle)):
                raise HoldsReference
            return super().reducer_override(value)

    return Pickler, HoldsReference


def stored(header: str, body: Any) -> Any:
    """A reference to a body in the object store.

    Raises:
        MessageError: If it cannot be serialised.
    """
    import ray

    keep_mapped()
    try:
        return ray.put(body)
    except Exception as error:
        raise MessageError(f"the body of {header!r} cannot be sent: {error}") from error


@lru_cache(maxsize=1)
def keep_mapped() -> Any:
    """Holds the smallest of objects in the object store, once a process.

    Ray unmaps the store's memory from a process that holds no object of it.  The next body would find none of its
    pages mapped: at four microseconds each these take as long as all else that a body of 4 MB costs.
    """
    import ray

    return ray.put(b"")


def size_of(body: Any) -> int:
    """About how many bytes a body has: those of its arrays and texts."""
    if type(body) in ATOMS:
        return len(body) if isinstance(body, (bytes, str)) else 8
    if hasattr(body, "nbytes"):
        return int(body.nbytes)
    if isinstance(body, (bytes, bytearray, str)):
        return len(body)
    if isinstance(body, Mapping):
        return sum(size_of(value) for value in body.values())
    if isinstance(body, (list, tuple)):
        return sum(size_of(value) for value in body[:1000])
    return 8
