from __future__ import annotations

import asyncio
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from textual.message import Message

from red_tui.console.connection.link_process import (
    LAST_BACKOFF,
    LinkClient,
    LinkLost,
    LinkPushed,
    LinkStatus,
    LinkTimeout,
)
from red_tui.errors import LayoutError

CHILD = """
import os, sys, threading, time
from red_tui.errors import LayoutError
from red_tui.protocol.frames import FrameWriter, read_frame
out = FrameWriter(sys.stdout.buffer)
out.write({"push": "step", "key": "ray", "text": "starting", "state": "running", "seconds": 0.0})
while (message := read_frame(sys.stdin.buffer)) is not None:
    verb, number = message["verb"], message["id"]
    if verb == "echo":
        out.write({"id": number, "ok": message["args"]})
    elif verb == "pid":
        out.write({"id": number, "ok": os.getpid()})
    elif verb == "fail":
        out.write({"id": number, "error": LayoutError("no such role", line=3).to_wire()})
    elif verb == "garbage":
        sys.stdout.buffer.write(b"\\xff" * 64); sys.stdout.buffer.flush()
    elif verb == "die":
        sys.stderr.write("the core gave up\\n"); sys.stderr.flush()
        os._exit(7)
    elif verb == "stubborn":
        out.write({"id": number, "ok": True})
        import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True: time.sleep(0.05)
"""


class Heard:
    """Takes what a client says from its threads."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.queue: asyncio.Queue[Message] = asyncio.Queue()

    def __call__(self, message: Message) -> None:
        self.loop.call_soon_threadsafe(self.queue.put_nowait, message)

    async def status(self, up: bool) -> LinkStatus:
        async with asyncio.timeout(240):
            while True:
                message = await self.queue.get()
                if isinstance(message, LinkStatus) and message.up is up:
                    return message


@pytest.fixture
async def started(tmp_path: Path) -> Any:
    delays: list[float] = []

    def wait(closing: threading.Event, seconds: float) -> bool:
        delays.append(seconds)
        return closing.is_set()

    client = LinkClient([sys.executable, "-c", CHILD], tmp_path / "link.stderr", wait)
    heard = Heard()
    client.start(heard)
    await heard.status(True)
    yield client, heard, delays
    client.close(0.2)


async def test_answers_find_their_requests(started: Any) -> None:
    client, _, _ = started
    answers = await asyncio.gather(*(client.call("echo", {"n": n}, 20) for n in range(50)))
    assert [answer["n"] for answer in answers] == list(range(50))


async def test_what_the_link_says_unasked_is_a_message(started: Any) -> None:
    _, heard, _ = started
    async with asyncio.timeout(240):
        message = await heard.queue.get()
    assert isinstance(message, LinkPushed) and message.push["key"] == "ray"


async def test_an_error_keeps_its_type_and_fields(started: Any) -> None:
    client, _, _ = started
    with pytest.raises(LayoutError) as caught:
        await client.call("fail", {}, 90)
    assert caught.value.fields["line"] == 3


async def test_a_killed_link_fails_its_requests_and_is_started_again(started: Any) -> None:
    client, heard, _ = started
    pid = await client.call("pid", {}, 90)
    waiting = asyncio.ensure_future(client.call("nothing", {}, 60))
    await client.call("echo", {}, 90)
    os.kill(pid, 9)
    with pytest.raises(LinkLost):
        await waiting
    await heard.status(False)
    await heard.status(True)
    assert await client.call("pid", {}, 90) != pid


async def test_the_last_words_of_a_link_are_told(started: Any) -> None:
    client, heard, _ = started
    with pytest.raises(LinkLost):
        await client.call("die", {}, 90)
    assert "code 7: the core gave up" in (await heard.status(False)).text


async def test_bytes_that_are_no_frame_end_the_link_not_the_console(started: Any) -> None:
    client, heard, _ = started
    with pytest.raises(LinkLost):
        await client.call("garbage", {}, 90)
    await heard.status(True)
    assert await client.call("echo", {"x": 1}, 20) == {"x": 1}


async def test_a_link_that_does_not_answer_times_out(started: Any) -> None:
    client, _, _ = started
    with pytest.raises(LinkTimeout):
        await client.call("nothing", {}, 0.01)


async def test_restarts_come_slower_up_to_a_limit_and_fast_again_after_success(started: Any) -> None:
    client, heard, delays = started
    for _ in range(8):
        with pytest.raises(LinkLost):
            await client.call("die", {}, 90)
        await heard.status(True)
    assert delays == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 20.0, 20.0] and LAST_BACKOFF == 20.0
    client.succeeded()
    with pytest.raises(LinkLost):
        await client.call("die", {}, 90)
    await heard.status(True)
    assert delays[-1] == 0.5


async def test_closing_ends_even_a_link_that_ignores_it(started: Any) -> None:
    client, _, _ = started
    pid = await client.call("pid", {}, 90)
    await client.call("stubborn", {}, 90)
    await asyncio.to_thread(client.close, 0.1)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(LinkLost):
        await client.call("echo", {}, 1)


async def test_a_command_that_cannot_be_started_is_told_and_tried_again(tmp_path: Path) -> None:
    client = LinkClient(["/nonexistent/link"], None, lambda closing, seconds: closing.is_set())
    heard = Heard()
    client.start(heard)
    first, second = await heard.status(False), await heard.status(False)
    client.close(0.1)
    assert "cannot be started" in first.text
    assert second.retry_in > first.retry_in
