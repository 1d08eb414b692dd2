"""Ctrl+C while modules are imported: it is heard when the import is over, and nothing is turned into another error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BUSY = """
import os, signal, time

class Slot:
    def __set_name__(self, owner, name):
        # Ctrl+C comes while a class is made, as Textual's and Ray's are when they are imported.
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)

class Made:
    slot = Slot()

whole = True
"""

WAITS = """
import sys, time
from red_tui.cli.output import interrupts_after_imports
try:
    with interrupts_after_imports():
        import busy
        time.sleep(60)
except KeyboardInterrupt:
    print("interrupted", sys.modules["busy"].whole)
"""

COMMAND = """
import sys
from red_tui.cli import main as cli
def import_module(name):
    import busy, time
    time.sleep(60)
cli.importlib.import_module = import_module
sys.exit(cli.main(["ls"]))
"""

HANGS = """
from red_tui.cli import output as interrupts
interrupts.LONGEST = 0.05
try:
    with interrupts.interrupts_after_imports():
        import hangs
except KeyboardInterrupt:
    print("interrupted")
"""


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(folder)!r})\n{code}"]
    return subprocess.run(command, stdin=subprocess.PIPE, capture_output=True, text=True, timeout=150)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "busy.py").write_text(BUSY)
    (tmp_path / "hangs.py").write_text("import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n")
    return tmp_path


def test_an_interrupt_inside_an_import_comes_after_it(folder: Path) -> None:
    told = run(WAITS, folder)
    assert told.stdout == "interrupted True\n" and told.stderr == ""


def test_an_interrupt_while_a_verb_is_imported_is_told_without_a_traceback(folder: Path) -> None:
    told = run(COMMAND, folder)
    assert told.returncode == 1
    assert told.stderr == "red-console: interrupted; what runs in the cluster goes on\n"


def test_an_import_that_hangs_can_be_interrupted(folder: Path) -> None:
    assert run(HANGS, folder).stdout == "interrupted\n"
