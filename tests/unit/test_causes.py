from __future__ import annotations

import pytest

from red_tui.nodes.causes import cause_of_death, first_sentence

SUDDEN = (
    "The actor died unexpectedly before finishing this task. The actor is dead because its worker process has died."
    " Worker exit type: SYSTEM_ERROR Worker exit detail: Worker unexpectedly exits with a connection error code 2."
    " End of file. Some common causes include: (1) the process was killed by the OOM killer due to high memory usage"
)


@pytest.mark.parametrize(
    ("text", "start"),
    [
        (SUDDEN, "the process ended without a word"),
        (
            "Task was killed due to the node running low on memory.\nMemory on the node was 15.2GB / 16GB",
            "out of memory",
        ),
        ("The actor is dead because its node has died. Node Id: 12", "host lost"),
        ("The actor is dead because it was killed by `ray.kill`.", "the process was ended on purpose"),
        ("The actor is dead because its owner has died.", "the process that owned it is gone"),
        (
            "The actor died because of an error raised in its creation task, C.__init__()\n  File x\nValueError: no",
            "its constructor raised: ValueError: no",
        ),
        ("something that nobody has seen before", "something that nobody has seen before"),
    ],
)
def test_rays_reasons_become_an_operators_words(text: str, start: str) -> None:
    cause = cause_of_death(RuntimeError(text))
    assert cause.text.startswith(start) and cause.died and cause.traceback == text


def test_a_sudden_end_is_not_called_out_of_memory_on_rays_guess() -> None:
    assert not cause_of_death(RuntimeError(SUDDEN)).text.startswith("out of memory")


def test_a_cause_is_one_line() -> None:
    assert first_sentence("a\n b\t\tc " + "x" * 500, 20) == "a b c xxxxxxxxxxxxx…"
