"""Bodies that are handed on within a process are copies in which nothing is shared that can be changed."""

from __future__ import annotations

import pickle
import threading
from typing import Any

import numpy as np
import pytest

from red_tui.errors import MessageError
from red_tui.messaging import payload as bodies
from red_tui.messaging.payload import Outgoing, sealed, unpacked


@pytest.mark.parametrize(
    "body", [None, True, 7, 1.5, "text", b"bytes", np.float32(2.0), (1, ("a", None)), [], {}, {("a", 1): [{}]}]
)
def test_plain_bodies_are_equal_and_of_the_same_type(body: Any) -> None:
    for got in (Outgoing("x", body).here(), unpacked(Outgoing("x", body).sent()[0] or b"")):
        assert got == body and type(got) is type(body)


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_is_copied_once_for_all_and_keeps_its_order(order: Any) -> None:
    array = np.asarray(np.arange(6.0).reshape(2, 3), order=order)
    going = Outgoing("x", {"w": array})
    one, other = going.here(), going.here()
    array[:] = 0
    assert one is not other and one["w"] is other["w"] and not one["w"].flags.writeable
    assert one["w"].tolist() == [[0, 1, 2], [3, 4, 5]] and one["w"].flags[f"{order}_CONTIGUOUS"]
    assert array.flags.writeable


def test_objects_come_as_from_another_process() -> None:
    class Local:
        def __init__(self) -> None:
            self.words = ["mine"]

    mine = Local()
    going = Outgoing("x", {"one": mine, "w": np.ones(2), "set": {1}})
    one, other = going.here(), going.here()
    one["one"].words.append("theirs")
    assert mine.words == other["one"].words == ["mine"] and one["set"] == {1}
    assert not one["w"].flags.writeable


def test_a_body_that_contains_itself_arrives() -> None:
    body: list[Any] = [np.ones(2)]
    body.append(body)
    got = Outgoing("x", body).here()
    assert got[1] is got and got is not body


@pytest.mark.parametrize("wrap", [lambda lock: lock, lambda lock: {"a": [lock]}, lambda lock: np.array([lock])])
def test_what_cannot_be_serialised_is_refused_here_as_elsewhere(wrap: Any) -> None:
    body = wrap(threading.Lock())
    for form in (Outgoing.here, Outgoing.sent):
        with pytest.raises(MessageError, match=r"the body of 'x' cannot be sent: .*lock"):
            form(Outgoing("x", body))


def test_an_object_that_turns_out_to_be_large_goes_through_the_object_store(monkeypatch: pytest.MonkeyPatch) -> None:
    class Model:
        def __init__(self) -> None:
            self.weights = np.zeros(100_000)

    monkeypatch.setattr(bodies, "stored", lambda header, body: "stored")
    going = Outgoing("x", Model())
    assert going.sent() == (None, "stored") and going.size > 800_000


def test_arrays_are_sealed_at_any_depth() -> None:
    body = pickle.loads(pickle.dumps([{"a": (np.ones(1), [np.ones(1)])}, np.ones(1)]))
    sealed(body)
    assert not any(one.flags.writeable for one in (body[0]["a"][0], body[0]["a"][1][0], body[1]))
