"""The code blocks of a page, and running them as its reader would: one after another, in one folder."""

from __future__ import annotations

import os
import re
import runpy
import signal
import subprocess
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from tests.system.support import RED_CONSOLE, Home
from tests.system.terminal import Terminal

ROOT = Path(__file__).parents[2]
RUN = ("python", "sh", "yaml")
NOT_RUN = ("text", "{toctree}")
"""Output, signatures, and what the builder of the pages reads."""

_FILE = re.compile(r"# ([\w-]+\.(?:py|yaml))$")
_OPENS = re.compile(r"red-console(?: --ascii| --read-only)?(?: [\w.]+)?$")
"""The console itself, on what its argument names: anything but a verb."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        page: The page, relative to the checkout.
        line: The line of its first line of code.
        language: What the fence says.
        code: What is in it.
    """

    page: str
    line: int
    language: str
    code: str

    @property
    def file(self) -> str | None:
        """The file that it is, if its first line says so."""
        found = _FILE.match(self.code.partition("\n")[0])
        return found.group(1) if found else None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """All pages that people read first: the README, CONTRIBUTING, and `docs/`."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks_of(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    name = str(page.relative_to(ROOT))
    tokens = MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8"))
    return [
        Block(name, token.map[0] + 2, token.info.strip().partition(" ")[0], token.content)
        for token in tokens
        if token.type == "fence" and token.map is not None
    ]


class Reader:
    """Does what a page says, block by block, in a folder of its own.

    Args:
        home: The home whose cluster its commands use.
        folder: Where it stands.
        verbs: The verbs of `red-console`: what is none of them opens the console.
    """

    def __init__(self, home: Home, folder: Path, verbs: frozenset[str]) -> None:
        self._home, self._folder, self._verbs = home, folder, verbs
        # A module that is called as a script's is: templates of it travel by value.
        self._module = types.ModuleType("__main__")
        (folder / ".venv").symlink_to(sys.prefix)
        self.output = ""

    def run(self, block: Block) -> None:
        """Write the file that it is, or do what it says."""
        if block.file is not None:
            (self._folder / block.file).write_text(block.code, encoding="utf-8")
        elif block.language == "python":
            exec(compile("\n" * (block.line - 1) + block.code, str(ROOT / block.page), "exec"), vars(self._module))
        elif block.language == "sh":
            self._commands(block)
        else:
            raise AssertionError(f"{block}: a {block.language} block names its file in its first line: # name.yaml")

    def _commands(self, block: Block) -> None:
        for line in block.code.splitlines():
            command = re.sub(r"\s+#.*", "", line).strip()
            if not command:
                continue
            words = command.split()
            if words[0] == "make":
                # What it would do: a test does not install, build and test everything again.
                self._shell(block, f"make --dry-run -C {ROOT} {' '.join(words[1:])}")
            elif words[:2] == ["red-console", "watch"]:
                self._followed(words)
            elif _OPENS.match(command) and (words[-1].startswith("-") or words[-1] not in self._verbs):
                self._console(words[1:])
            else:
                self._shell(block, command)

    def _shell(self, block: Block, command: str) -> None:
        environment = self._home.environment(PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        # Who works on the checkout stands in it.
        folder = ROOT if command.startswith(".venv/") else self._folder
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        self.output += done.stdout
        assert done.returncode == 0, f"{block}: {command}\n{done.stdout}{done.stderr}"

    def _followed(self, words: list[str]) -> None:
        """A command that goes on until Ctrl+C: it says something, and ends."""
        process = self._home.start(RED_CONSOLE, *words[1:])
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said, f"{' '.join(words)} said nothing: {process.communicate(timeout=150)[1]}"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=150)

    def _console(self, arguments: list[str]) -> None:
        paths = [str(self._folder / word) if word.endswith(".yaml") else word for word in arguments]
        terminal = Terminal(self._home, *paths)
        try:
            terminal.shows(r"nodes")
            terminal.press("q")
            terminal.shows("Leave it running")
            terminal.press("\r")
            assert terminal.ended() == 0
        finally:
            terminal.close()


def commands_in_text(page: Path) -> Iterator[tuple[int, str]]:
    """Commands that stand in the prose of a page in code signs, with their lines."""
    for token in MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8")):
        for child in token.children or ():
            if child.type == "code_inline" and child.content.startswith(("red-console", "make ")):
                yield (token.map or [0])[0] + 1, child.content


def run_script(path: Path, patch: pytest.MonkeyPatch, folder: Path) -> dict[str, Any]:
    """Run a script of the checkout in this process, which is connected to a cluster, as `python PATH` would."""
    patch.chdir(folder)
    return runpy.run_path(str(path), run_name="__main__")
