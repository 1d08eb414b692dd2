"""Frames carry whatever is said, or say that it cannot be sent."""

from __future__ import annotations

import io
from typing import Any

from red_tui.errors import RedError, from_wire
from red_tui.protocol.frames import FrameWriter, read_frame


def sent(message: dict[str, Any]) -> Any:
    pipe = io.BytesIO()
    FrameWriter(pipe).write(message)
    pipe.seek(0)
    return read_frame(pipe)


def test_half_a_sign_in_a_text_does_not_lose_the_answer() -> None:
    # An exception that names a file whose name is no text says such a thing; the console connected for ever.
    assert sent({"id": 1, "ok": {"a\ud800": ["b\udcff"]}}) == {"id": 1, "ok": {"a?": ["b?"]}}


def test_numbers_that_are_too_large_arrive_as_text() -> None:
    assert sent({"id": 1, "ok": [2**70]}) == {"id": 1, "ok": [str(2**70)]}


class Mute:
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_an_answer_that_cannot_be_sent_is_an_error_and_no_silence() -> None:
    answer = sent({"id": 7, "ok": [Mute()]})
    assert answer["id"] == 7 and isinstance(from_wire(answer["error"]), RedError)
    assert answer["error"]["message"] == "the answer cannot be sent: RuntimeError: no text"
    assert sent({"push": "step", "text": Mute()}) == {"push": "unsent"}
