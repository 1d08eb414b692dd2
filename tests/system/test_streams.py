"""`red-console` where standard streams are closed, full or shared with whoever prints, and files are no files."""

from __future__ import annotations

from pathlib import Path

import pytest

from red_tui.cli.main import COMMANDS
from tests.system.support import RED_CONSOLE, Home, Result, cluster_processes, processes_of, write_layout

OK, FAILED, USAGE, NOT_CONNECTED = 0, 1, 2, 3

NEEDED = {
    "run": ("digits",), "up": ("digits",), "check": ("digits",), "adopt": ("a",), "replay": ("a", "--json"),
    "add": ("--yes",), "explain": ("a", "b"), "completion": ("bash",),
}  # fmt: skip
"""What a command cannot be called without."""

PRINTS_AND_DIES = """\
import os, sys
import numpy as np
import red_tui as red

class Client(red.FederatedNode):
    def initial_parameters(self):
        return {"w": np.zeros(2)}

    def fit(self, parameters, config):
        print("\\x1b[36mprinted by a node\\x1b[0m")
        os.write(1, b"written by a node\\n")
        if self.node_id == "client_0":
            os._exit(9)
        return red.FitResult(parameters, 1, {})
"""


def shell(home: Home, text: str, *arguments: str, **further: str) -> Result:
    """Run a line of shell in which `"$@"` is `red-console` with its arguments."""
    return home.run("sh", "-c", text, "sh", RED_CONSOLE, *arguments, **further)


def one_line(told: Result) -> str:
    """The only line that a command has told, with its code seen to say that it failed."""
    assert told.code in (FAILED, USAGE), told
    (line,) = told.err.strip().splitlines()
    assert line.startswith("red-console"), told.err
    return line


@pytest.mark.parametrize("command", [*COMMANDS, "--help", "--version", "ls --help"])
def test_a_closed_standard_output_is_told_in_a_line_before_anything_is_done(command: str, home: Home) -> None:
    words = command.split()
    told = shell(home, '"$@" >&-', *words, *NEEDED.get(command, ()))
    assert "standard output is closed" in one_line(told)
    assert not home.path.exists()


@pytest.mark.parametrize("command", ["--help", "--version", "ls --help", "schema", "keys", "doctor", "completion bash"])
def test_a_full_standard_output_is_told_in_a_line(command: str, home: Home) -> None:
    told = shell(home, '"$@" >/dev/full', *command.split())
    assert "standard output cannot be written: No space left on device" in one_line(told)


def test_results_that_cannot_be_written_are_a_failure_of_the_verb(home: Home, tmp_path: Path) -> None:
    path = str(write_layout(tmp_path / "small.yaml", "small"))
    assert "cannot be written" in one_line(shell(home, '"$@" >/dev/full', "check", path))
    assert "cannot be written" in one_line(shell(home, '"$@" >/dev/full', "check", path, "--json"))
    # An error is told once, whether or not its JSON can be written.
    assert "no Ray cluster runs" in shell(home, '"$@" --json >/dev/full', "ls").err
    assert shell(home, '"$@" 2>/dev/full', "check", path).out.endswith("DigitsClient\n")
    assert shell(home, '"$@" 2>&-', "check", path).out.endswith("DigitsClient\n")
    broken = shell(home, '{ "$@"; echo $? >&2; } | true', "schema")
    assert broken.err.strip() in (str(OK), str(FAILED))


@pytest.mark.parametrize("command", [(), ("up", "nowhere"), ("ls",), ("down", "--all"), ("doctor",)])
def test_a_closed_standard_input_is_no_traceback(command: tuple[str, ...], home: Home) -> None:
    told = shell(home, '"$@" <&-', *command)
    assert told.code in (OK, USAGE, NOT_CONNECTED) and "Traceback" not in told.err, told


@pytest.mark.parametrize(
    "command", [(), ("ls",), ("up", "digits"), ("down", "--all", "--yes"), ("adopt", "a"), ("history", "a")]
)
def test_a_home_that_is_a_file_is_told_in_a_line(command: tuple[str, ...], home: Home) -> None:
    home.path.write_text("")
    told = one_line(home.red(*command)) if command else home.red("replay", "a", "--json").err
    assert f"{home.path} is a file" in told or "there is no journal" in told
    assert home.path.read_text() == ""


@pytest.mark.parametrize("command", [("ls",), ("up", "digits"), ("history", "a"), ("replay", "a", "--json")])
def test_without_a_home_folder_red_home_is_asked_for_in_a_line(command: tuple[str, ...], home: Home) -> None:
    # 4242 is in no passwd; it may read this interpreter wherever it is installed.
    from tests.system.neighbour import require_another_user

    require_another_user()
    other = "setpriv --reuid=4242 --clear-groups --inh-caps=+dac_read_search --ambient-caps=+dac_read_search"
    told = shell(home, f'cd / && exec env -u HOME -u RED_HOME {other} "$@"', *command)
    assert "set HOME, or RED_HOME" in one_line(told)


def test_too_few_open_files_are_told_at_once_with_a_way_out(home: Home) -> None:
    told = shell(home, 'ulimit -n 64; "$@"', "run", "digits", "--json")
    assert told.code == FAILED and "ulimit -n 1024" in told.err, told
    assert told.json["error"]["message"].startswith("at most 64 files")
    assert processes_of(home) == [] and home.noted is None


def test_stdout_is_json_whatever_nodes_print_and_whoever_dies(cluster: Home, fed_id: str, tmp_path: Path) -> None:
    path = write_layout(tmp_path / "mine" / "layout.yaml", fed_id, template="my_nodes:Client", more=[("-eval", "")])
    path.with_name("my_nodes.py").write_text(PRINTS_AND_DIES)
    told = cluster.red("run", str(path), "--rounds", "2", "--json")
    assert [one["number"] for one in told.json["rounds"]] == [1, 2], told
    assert told.json["rounds"][0]["failed"] == 1
    assert cluster_processes(cluster)
    down = cluster.red("down", fed_id, "--yes", "--json")
    assert down.out == "" or down.json
