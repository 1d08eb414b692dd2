"""The command line's completion and what it reads by itself, without a cluster."""

from __future__ import annotations

import importlib
import inspect
import re
import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from red_tui.cli.main import COMMANDS, main, parser_of
from red_tui.cli.shell_completion import SCRIPTS, candidates
from red_tui.cli.status import moment
from red_tui.console.config.options import ConsoleOptions
from red_tui.errors import WrongUse


def completed(*words: str) -> list[str]:
    return candidates(words, tuple(COMMANDS), parser_of)


@pytest.fixture
def launched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home in which federations were launched, and a folder with a layout."""
    for name in ("alpha", "beta"):
        (tmp_path / "home" / "federations" / name).mkdir(parents=True)
    monkeypatch.setenv("RED_HOME", str(tmp_path / "home"))
    (tmp_path / "mine.yaml").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("rel",), {"release"}),
        (("a",), {"add", "adopt", "alpha"}),
        (("status", ""), {"alpha", "beta"}),
        (("status", "alpha", ""), set()),
        (("release", "state:b"), {"state:busy"}),
        (("release", "id:x", "-f", "b"), {"beta"}),
        (("release", "-f", "beta", "state:re"), {"state:ready", "state:released"}),
        (("up", "d"), {"digits", "digits-sklearn"}),
        (("up", "m"), {"mine.yaml", "mnist-torch"}),
        (("history", "--c"), {"--csv"}),
        (("completion", ""), {"bash", "zsh", "fish"}),
        (("--read",), {"--read-only"}),
        (("add", "3", "train-"), {"train-eval", "train-eval-test"}),
        (("nonsense", "more", "x"), set()),
    ],
)
def test_a_word_is_completed_by_what_may_stand_there(
    words: tuple[str, ...], expected: set[str], launched: Path
) -> None:
    assert set(completed(*words)) == expected


def test_every_command_offers_all_its_options() -> None:
    for command in COMMANDS:
        named = set(re.findall(r"^  .*?(--[a-z-]+)", parser_of(command).format_help(), re.M))
        assert set(completed(command, "--")) == named, command


def test_completing_makes_no_folder_and_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from red_tui.cli.main import main; main(['completion', '--words', 'status', '']);"
        "print([name for name in ('ray', 'textual', 'pydantic', 'numpy', 'yaml') if name in sys.modules])"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], env={"RED_HOME": str(tmp_path / "none")}, capture_output=True, text=True,
        timeout=150, check=True,
    )  # fmt: skip
    assert told.stdout.splitlines()[-1] == "[]"
    assert not (tmp_path / "none").exists()


ASK = {
    "bash": "source '{script}'; COMP_WORDS=({words}); COMP_CWORD={last}; _red_console;"
    " printf '%s\\n' ${{COMPREPLY[@]}}",
    # Outside of an editor zsh has no completion: what the function calls is stood in for.
    "zsh": "compdef() {{}}; _files() {{}}; compadd() {{ print -l -- ${{(P)2}} }}; source '{script}';"
    " words=({words}); CURRENT=$(({last} + 1)); _red_console",
    "fish": "source '{script}'; complete -C '{line}'",
}


@pytest.mark.parametrize("shell", ASK)
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("red-console stat", ["status"]),
        ("red-console status al", ["alpha"]),
        ("red-console stop --n", ["--namespace", "--now"]),
    ],
)
def test_the_script_completes_a_command_a_federation_and_an_option(
    line: str, expected: list[str], shell: str, launched: Path
) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    script = launched / "script"
    script.write_text(SCRIPTS[shell])
    words = " ".join(f"'{word}'" for word in line.split(" "))
    code = ASK[shell].format(script=script, words=words, last=line.count(" "), line=line)
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    told = subprocess.run(
        [shell, "-c", code],
        env={"PATH": path, "RED_HOME": str(launched / "home"), "HOME": str(launched)},
        capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=150, check=False,
    )  # fmt: skip
    assert told.stdout.split() == expected, told.stderr


def test_since_is_a_span_a_clock_time_that_has_been_or_a_date() -> None:
    now = datetime(2026, 1, 31, 12, 0, 0).timestamp()
    assert moment("10m", now) == now - 600
    assert moment("1.5h", now) == now - 5400
    assert moment("11:30", now) == now - 1800
    assert moment("12:00:01", now) == now + 1 - 86_400, "it is yesterday's"
    assert moment("2026-01-31T11:00:00", now) == now - 3600
    for bad in ("soon", "25:00", "10", "-5m", ""):
        with pytest.raises(WrongUse, match="no moment"):
            moment(bad, now)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_leads_to_a_function(name: str) -> None:
    found = inspect.getclosurevars(COMMANDS[name][0]).nonlocals
    if "module" in found:
        assert callable(getattr(importlib.import_module(f"red_tui.cli.{found['module']}"), found["name"]))


NAMED = ("status", "watch", "history", "round", "stop", "down", "describe", "build", "release", "explain")


@pytest.mark.parametrize("command", NAMED)
def test_every_verb_takes_its_federation_with_f(command: str) -> None:
    needed = {"release": ["client_0"], "explain": ["client_0"]}.get(command, [])
    assert parser_of(command).parse_args([*needed, "-f", "alpha"]).federation == "alpha"
    assert parser_of(command).parse_args(needed).federation is None
    if command in NAMED[:7]:
        assert parser_of(command).parse_args(["beta"]).federation == "beta"


def test_a_mistyped_command_is_no_federation(launched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["statsu"]) == 2
    told = capsys.readouterr().err
    assert "'statsu' is no command; did you mean status?" in told and "red-console open statsu" in told


@pytest.mark.parametrize(
    ("words", "federation", "layout"),
    [
        (["crowd"], "crowd", "crowd.yaml"),
        (["alpha"], "alpha", None),
        (["mine.yaml"], None, "mine.yaml"),
        (["open", "statsu"], "statsu", None),
        ([], None, None),
    ],
)
def test_what_the_console_opens(
    words: list[str], federation: str | None, layout: str | None, launched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[ConsoleOptions] = []
    monkeypatch.setattr("red_tui.console.run.run", lambda options: opened.append(options) or 0)
    assert main(words) == 0
    (options,) = opened
    assert options.federation == federation
    assert (Path(options.layout).name if options.layout else None) == layout
