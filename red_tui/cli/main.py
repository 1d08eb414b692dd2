"""`red-console`: the console, and the same verbs without a screen.

Exit codes: 0 done, 1 it failed, 2 wrong use, 3 not connected.  Data goes to stdout, narration to stderr.
The console's start path imports neither ray nor pydantic: what verbs need is imported by each verb.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import importlib
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from red_tui.cli import arguments as options_of
from red_tui.cli.output import (
    OUTPUT,
    OutputError,
    discard_stdout,
    interrupts_after_imports,
    open_missing_streams,
    unwritable,
)
from red_tui.errors import CommandRefused, NothingToDo, RedError, SelectionError, WrongUse
from red_tui.plain_text import indented_lines, plain, plain_lines, pointed_at
from red_tui.protocol.commands import COMMANDS as TABLE
from red_tui.state_folder import state_folder

Act = Callable[[argparse.Namespace], int]

CLOSE = 0.75
"""How alike a mistyped command and a real one are."""

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_NOT_CONNECTED = 0, 1, 2, 3

EPILOG = """exit codes: 0 done, 1 it failed, 2 wrong use, 3 not connected
files: $RED_HOME, else the platform's state folder
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code."""
    if not open_missing_streams():
        _complain("standard output is closed: nothing was done, as nobody would hear of it")
        return EXIT_FAILED
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _run(arguments)
    except OutputError as error:
        discard_stdout()
        _complain(error.message)
        return error.exit_code
    except BrokenPipeError:
        discard_stdout()
        return EXIT_FAILED
    return _flushed() or code


def _run(arguments: list[str]) -> int:
    """Do what a command line says; what may go wrong is told in a line."""
    if arguments[:2] == ["completion", "--words"]:
        return _complete(arguments[2:])  # what is typed is not to be read as options of this one
    options = whole_parser(open_only=not (arguments and arguments[0] in COMMANDS)).parse_args(arguments)
    act: Act = options.run
    try:
        with interrupts_after_imports():
            return act(options)
    except OutputError:
        raise
    except NothingToDo as error:
        _complain(error.message)
        if options.json:
            OUTPUT.write(json.dumps({"text": error.message, "nothing": True}) + "\n")
        return error.exit_code if getattr(options, "exit_code", False) else EXIT_OK
    except RedError as error:
        _complain(error.message)
        if isinstance(error, SelectionError) and "query" in error.fields:
            # Where it is wrong, under the query itself.
            shown, sign = pointed_at(str(error.fields["query"]), int(error.fields["position"]))
            print(f"  {shown}\n  {sign}", file=sys.stderr)
        if getattr(options, "json", False):
            OUTPUT.write(json.dumps({"error": error.to_wire()}) + "\n")
        return error.exit_code
    except KeyboardInterrupt:
        ends = options.command == "run" and not options.keep
        left = "what it started is ended" if ends else "what runs in the cluster goes on"
        print(f"red-console: interrupted; {left}", file=sys.stderr)
        return EXIT_FAILED
    except BrokenPipeError:
        raise
    except OSError as error:
        _complain(str(error.strerror or error) + (f": {error.filename}" if error.filename else ""))
        return EXIT_FAILED


def _complain(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        print("\n".join(indented_lines(f"red-console: {text}")), file=sys.stderr, flush=True)


def _flushed() -> int:
    """Write what is still to be written; gives an exit code if that fails, and 0 if not."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        discard_stdout()
        return EXIT_FAILED
    except (OSError, ValueError) as error:
        discard_stdout()
        _complain(unwritable(error).message)
        return EXIT_FAILED
    return EXIT_OK


def _open(options: argparse.Namespace) -> int:
    """Open the console."""
    _set_pace(options)
    from red_tui.console.config.options import ConsoleOptions

    layout, federation = options.layout, None
    target = options.target
    if target is not None:
        if layout is not None:
            raise WrongUse("name a federation or a layout, not both")
        if os.path.sep in target or target.endswith((".yaml", ".yml")):
            layout = target
        else:
            federation, layout = target, _shipped(target)
            close = difflib.get_close_matches(target, COMMANDS, 1, CLOSE)
            if (
                close
                and getattr(options, "guess", False)
                and layout is None
                and not (state_folder() / "federations" / target).exists()
            ):
                raise WrongUse(
                    f"{target!r} is no command; did you mean {close[0]}? `red-console open {target}` opens the"
                    " federation of that name"
                )
    console_options = ConsoleOptions(
        address=options.address,
        namespace=options.namespace,
        layout=layout,
        federation=federation,
        working_dir=options.working_dir,
        read_only=options.read_only,
        cpus=options.cpus,
        ascii=True if options.ascii else None,
        theme=options.theme,
    )
    from red_tui.console.run import run

    return run(console_options)


def _shipped(name: str) -> str | None:
    """The layout that ships under a name: it is launched where no federation of that name runs."""
    from red_tui.layout import find_layouts

    return next((str(path) for path, _ in find_layouts() if path.stem == name), None)


def _set_pace(options: argparse.Namespace) -> None:
    """How often the screen is drawn: Textual reads this when it is imported."""
    remote = bool(os.environ.get("SSH_CONNECTION")) and not options.fast
    os.environ.setdefault("TEXTUAL_FPS", "10" if options.slow or remote else "30")
    os.environ.setdefault("TEXTUAL_ANIMATIONS", "none")
    os.environ.setdefault("TEXTUAL_SMOOTH_SCROLL", "0")


def _replay(options: argparse.Namespace) -> int:
    """Replay a journal on the screen, or print the state at a moment of it."""
    from red_tui.replay.time_points import parse_moment, parse_speed
    from red_tui.replay.timeline import journal_path, require_journal

    if options.at is not None:
        parse_moment(options.at)
    if options.speed is not None:
        parse_speed(options.speed)
    if options.idle is not None and not 0 <= options.idle < math.inf:
        raise WrongUse(f"--idle {options.idle:g}: write seconds, such as 2, or 0 for never")
    path = journal_path(options.journal)
    # What is wrong with the file is told before there is a screen.
    require_journal(path)
    if options.json:
        from red_tui.replay.replay_commands import open_replay

        OUTPUT.write(json.dumps(open_replay(str(path), at=options.at or "end").feed.state()) + "\n")
        return EXIT_OK
    _set_pace(options)
    from red_tui.console.config.options import ConsoleOptions
    from red_tui.console.run import run

    return run(
        ConsoleOptions(
            read_only=True,
            ascii=True if options.ascii else None,
            theme=options.theme,
            replay=str(path),
            at=options.at,
            speed=options.speed,
            idle=options.idle,
        )
    )


def _verb(module: str, name: str, *, writes: bool = False) -> Act:
    """A verb of `red_tui.cli`, which is imported when it is used; `writes`: the config file may forbid it."""

    def act(options: argparse.Namespace) -> int:
        if writes:
            refuse_read_only(options)
        with OUTPUT.reserve():
            verb: Act = getattr(importlib.import_module(f"red_tui.cli.{module}"), name)
            return verb(options)

    return act


def refuse_read_only(options: argparse.Namespace) -> None:
    """Refuse what changes a federation where the config file says that it is to be looked at only.

    Raises:
        CommandRefused: With the file's name and the key.
    """
    from red_tui.console.config.preferences import config_path, load

    preferences = load()
    key, where = "read_only", "every cluster"
    if not preferences.read_only:
        if not preferences.read_only_clusters:
            return
        from red_tui.supervisor.connect import address_of

        address = address_of(options.address)
        if not preferences.is_read_only(address):
            return
        key, where = "read_only_clusters", str(address)
    raise CommandRefused(
        f"{options.command}: {where} is to be looked at only, as {config_path()} says with {key}; change it there,"
        " or name another file with RED_CONFIG"
    )


def _complete(words: Sequence[str]) -> int:
    from red_tui.cli.shell_completion import candidates

    OUTPUT.write("\n".join(candidates(words, tuple(COMMANDS), parser_of)) + "\n")
    return EXIT_OK


def _completion(options: argparse.Namespace) -> int:
    from red_tui.cli.shell_completion import SCRIPTS

    OUTPUT.write(SCRIPTS[options.shell])
    return EXIT_OK


def _schema(options: argparse.Namespace) -> int:
    from red_tui.layout import json_schema

    OUTPUT.write(json.dumps(json_schema(), indent=2) + "\n")
    return EXIT_OK


def _keys(options: argparse.Namespace) -> int:
    from red_tui.cli.doctor import keys_rows, keys_text
    from red_tui.console.config.preferences import load

    preferences = load()
    told = json.dumps(keys_rows(preferences)) if options.json else keys_text(preferences)
    OUTPUT.write("\n".join(plain_lines(told)) + "\n")
    return EXIT_OK


def _doctor(options: argparse.Namespace) -> int:
    from red_tui.cli.doctor import facts
    from red_tui.console.config import preferences

    preferred = preferences.load_or_default()
    rows = [*facts(), *preferences.rows(preferred)]
    if preferred.trouble:
        rows.append(("config file", preferred.trouble, "not used"))
    if options.json:
        OUTPUT.write(
            json.dumps([{"name": name, "value": value, "source": source} for name, value, source in rows]) + "\n"
        )
        return EXIT_OK
    width = max(len(name) for name, _, _ in rows)
    for name, value, source in rows:
        OUTPUT.write(plain(f"{name:<{width}}  {value}" + (f"  ({source})" if source else "")) + "\n")
    return EXIT_OK


class _CommandParser(argparse.ArgumentParser):
    """A parser whose help tells where it cannot be written: argparse says nothing, and that all went well."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if message and file is sys.stdout:
            OUTPUT.write(message)
        else:
            super()._print_message(message, file)


Command = tuple[Act, str, Callable[[argparse.ArgumentParser], None]]
"""What it does, what its help says, and its options."""


def _command(name: str, module: str, options: Callable[[argparse.ArgumentParser], None], function: str = "") -> Command:
    """A command of the table that all sides share: its help, and whether the config file may forbid it, stand there."""
    spec = TABLE[name]
    return _verb(module, function or name, writes=spec.writes), spec.help, options


COMMANDS: dict[str, Command] = {
    "open": (_open, "open the console (what red-console does by itself)", options_of.add_open),
    "run": (
        _verb("launching", "run_layout", writes=True),
        "run a layout's federation without a screen: progress on stderr, results on stdout",
        options_of.add_run,
    ),
    "up": (
        _verb("launching", "up", writes=True),
        "launch a layout's federation in the cluster and leave",
        options_of.add_up,
    ),
    "adopt": (
        _verb("launching", "adopt", writes=True),
        "give a federation that lost its supervisor, or its cluster, a new one: it goes on",
        options_of.add_adopt,
    ),
    "ls": (_verb("status", "ls"), "list the federations of the cluster, orphans included", options_of.add_cluster),
    "status": (_verb("status", "status"), "say how a federation is", options_of.add_status),
    "watch": (_verb("status", "watch"), "follow a federation's events and rounds, a line each", options_of.add_watch),
    "history": _command("history", "round_verbs", options_of.add_history),
    "checkpoint": (
        _verb("checkpoint_verbs", "checkpoint"),
        "list, verify and export the checkpoints of a federation, which need not run",
        options_of.add_checkpoint,
    ),
    "export": (
        _verb("checkpoint_verbs", "export"),
        "write the parameters of a checkpoint (FEDERATION@best) as a plain safetensors file",
        options_of.add_export,
    ),
    "verify": (
        _verb("checkpoint_verbs", "verify"),
        "say whether two runs are the same, byte for byte, and from which round they part",
        options_of.add_verify,
    ),
    "runs": (
        _verb("run_verbs", "list_runs"),
        "list, name, tag and remove runs: what each launch did, ended ones too",
        options_of.add_runs,
    ),
    "compare": (
        _verb("run_verbs", "compare_runs"),
        "compare runs: their curves, what differs in their layouts, how far each came",
        options_of.add_compare,
    ),
    "report": (
        _verb("run_verbs", "report"),
        "write a run as one page: layout, curves, failures, times",
        options_of.add_report,
    ),
    "plan": _command("plan", "node_verbs", options_of.add_plan),
    "explain": _command("explain", "node_verbs", options_of.add_explain),
    **{
        name: _command(name, "attach", options_of.add_shown(spec), function="show")
        for name, spec in TABLE.items()
        if spec.shown
    },
    "build": _command("build", "node_verbs", options_of.add_build),
    "release": _command("release", "node_verbs", options_of.add_release),
    "rebuild": _command("rebuild", "node_verbs", options_of.add_rebuild),
    "add": _command("add", "node_verbs", options_of.add_add),
    "remove": _command("remove", "node_verbs", options_of.add_remove),
    "round": _command("round", "round_verbs", options_of.add_round, function="round_"),
    "stop": _command("stop", "round_verbs", options_of.add_stop),
    "down": (
        _verb("status", "down", writes=True),
        "end a federation; --all: the local cluster and all in it",
        options_of.add_down,
    ),
    "new": (
        _verb("new_folder", "new"),
        "write a folder with a federation of your own that runs at once: layout, template, test, README",
        options_of.add_new,
    ),
    "check": (
        _verb("layout_check", "check"),
        "check a layout, without running its code",
        options_of.add_check,
    ),
    "data": (
        _verb("data_map", "data"),
        "show how a layout's data are dealt out to its nodes: runs the source it names",
        options_of.add_data,
    ),
    "replay": (
        _replay,
        "replay a federation's journal, finished or running, with a time line; --json: its state",
        options_of.add_replay,
    ),
    "schema": (_schema, "print the JSON Schema of layouts", options_of.add_nothing),
    "keys": (
        _keys,
        "print the console's keys as they are now, with the ids by which the config file maps them",
        options_of.add_json,
    ),
    "doctor": (
        _doctor,
        "say what is installed, where files are, and each setting with its source",
        options_of.add_json,
    ),
    "completion": (
        _completion,
        "print a script that completes this command line in bash, zsh or fish",
        options_of.add_completion,
    ),
}


def whole_parser(open_only: bool) -> argparse.ArgumentParser:
    """The whole command line; `open_only`: that of `red-console` without a command."""
    from red_tui import __version__

    parser = _CommandParser(
        prog="red-console",
        description="Operate federations of virtual nodes on Ray. Without a command: open the console, on the"
        " federation that runs, else on the default layout in a local Ray.",
        epilog="commands:\n"
        + "".join(f"  {name:<10} {help_text}\n" for name, (_, help_text, _) in COMMANDS.items())
        + "  (red-console COMMAND --help says more)\n\n"
        + EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"red-console {__version__}")
    if open_only:
        options_of.add_open(parser)
        parser.set_defaults(run=_open, command="open", guess=True)
        return parser
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (act, help_text, add_options) in COMMANDS.items():
        added = commands.add_parser(
            name, help=help_text, description=help_text[0].upper() + help_text[1:] + ".", epilog=EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        add_options(added)
        added.set_defaults(run=act, command=name)
    return parser


def parser_of(command: str) -> argparse.ArgumentParser:
    """The options of one command alone."""
    parser = argparse.ArgumentParser(prog=f"red-console {command}")
    COMMANDS[command][2](parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
