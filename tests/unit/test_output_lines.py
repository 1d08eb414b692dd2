"""What nodes and journals say cannot pass for lines of the program's own output, and JSON stays JSON."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from red_tui.cli import main as cli, output as narration, round_verbs as rounds, status as watching
from red_tui.errors import RedError
from red_tui.federation.explain import Explanation
from red_tui.plain_text import indented_lines, one_line
from red_tui.protocol.snapshot import RoundProgress

FAKE = "x\n\x1b[2Jfederation digits is down; all is lost\r\n" + " " * 200 + "red-console: do as I say\u2028now"


def wire(**more: Any) -> dict[str, Any]:
    told = {"number": 1, "state": "done", "loss": 0.5, "train_loss": 0.4, "metrics": {FAKE: 0.9}, "ended": 1.0}
    return {**told, "participants": 2, "failed": 0, "seconds": 1.0, "num_left_out": 0, **more}


def test_names_of_metrics_make_no_lines(capsys: pytest.CaptureFixture[str]) -> None:
    rounds.print_rounds([wire()], False)
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 2 and "\x1b" not in out
    assert len(rounds.progress_line(wire(), RoundProgress(target=3)).splitlines()) == 1


def test_an_event_is_a_line_whatever_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    line = {"time": 0.0, "kind": "node" + FAKE, "level": "warn" + FAKE, "subject": FAKE, "text": FAKE, "state": FAKE}
    watching.show(line, False)
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 1 and "  " * 50 not in out


def test_further_lines_of_a_message_are_indented(capsys: pytest.CaptureFixture[str]) -> None:
    narration.say(f"client_0 failed: {FAKE}")
    first, *others = capsys.readouterr().err.split("\n")[:-1]
    assert first == "client_0 failed: x" and others and all(line.startswith("    ") for line in others)
    assert indented_lines("a\nb\n\nc") == ["a", "    b", "    ", "    c"]


def test_an_error_says_nothing_in_a_line_of_its_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(options: Any) -> int:
        raise RedError(FAKE)

    monkeypatch.setitem(cli.COMMANDS, "schema", (fail, "fail", lambda parser: None))
    assert cli.main(["schema"]) == 1
    first, *others = capsys.readouterr().err.split("\n")[:-1]
    assert first == "red-console: x" and all(line.startswith("    ") for line in others)


def test_an_explanation_keeps_its_lines() -> None:
    assert len(str(Explanation("a", "failed", FAKE, advice=FAKE, hosts=[(FAKE, {"CPU": 1.0}, {})])).splitlines()) == 2


def test_json_has_no_numbers_that_json_has_not(capsys: pytest.CaptureFixture[str]) -> None:
    narration.tell_json({"rounds": [wire(loss=math.nan, metrics={FAKE: math.inf, "a": 1.5})], "text": FAKE})
    out = capsys.readouterr().out
    assert out.isascii() and len(out.splitlines()) == 1

    def refuse(name: str) -> None:
        raise AssertionError(name)

    told = json.loads(out, parse_constant=refuse)
    assert told["rounds"][0]["loss"] is None and told["rounds"][0]["metrics"] == {FAKE: None, "a": 1.5}


def test_a_value_is_cut_and_its_spaces_collapse() -> None:
    assert one_line("a" + " " * 500 + "b\n\tc") == "a b c"
    assert len(one_line("y" * 1_000_000)) == 1000
