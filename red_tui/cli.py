"""`red-console`: the console, and the same verbs without a screen.

Exit codes: 0 done, 1 it failed, 2 wrong use, 3 not connected.  Data goes to stdout, narration to stderr.
The console's start path imports neither ray nor pydantic: what verbs need is imported by each verb.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from red_tui.errors import RedError

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_NOT_CONNECTED = 0, 1, 2, 3

EPILOG = """exit codes: 0 done, 1 it failed, 2 wrong use, 3 not connected
files: $RED_HOME, else the platform's state folder
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = _parser(open_only=not (arguments and arguments[0] in COMMANDS)).parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.run
    try:
        return command(options)
    except RedError as error:
        if getattr(options, "json", False):
            print(json.dumps({"error": error.to_wire()}))
        print(f"red-console: {error.message}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        ends = command is _run and not options.keep
        left = "what it started is ended" if ends else "what runs in the cluster goes on"
        print(f"red-console: interrupted; {left}", file=sys.stderr)
        return EXIT_FAILED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED


def _open(options: argparse.Namespace) -> int:
    """Open the console."""
    _set_pace(options)
    from red_tui.console.options import ConsoleOptions

    layout, federation = options.layout, None
    target = options.target
    if target is not None:
        if layout is not None:
            raise _usage("name a federation or a layout, not both")
        if os.path.sep in target or target.endswith((".yaml", ".yml")):
            layout = target
        else:
            federation = target
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
    from red_tui.console.app import run

    return run(console_options)


def _set_pace(options: argparse.Namespace) -> None:
    """How often the screen is drawn: Textual reads this when it is imported."""
    remote = bool(os.environ.get("SSH_CONNECTION")) and not options.fast
    os.environ.setdefault("TEXTUAL_FPS", "10" if options.slow or remote else "30")
    os.environ.setdefault("TEXTUAL_ANIMATIONS", "none")
    os.environ.setdefault("TEXTUAL_SMOOTH_SCROLL", "0")


def _replay(options: argparse.Namespace) -> int:
    """Replay a journal on the screen, or print the state at a moment of it."""
    from red_tui.supervisor.moments import parse_moment, parse_speed
    from red_tui.supervisor.replay import journal_path, require_journal

    if options.at is not None:
        parse_moment(options.at)
    if options.speed is not None:
        parse_speed(options.speed)
    path = journal_path(options.journal)
    # What is wrong with the file is told before there is a screen.
    require_journal(path)
    if options.json:
        from red_tui.supervisor.replaying import open_replay

        print(json.dumps(open_replay(str(path), at=options.at or "end").feed.state()))
        return EXIT_OK
    _set_pace(options)
    from red_tui.console.app import run
    from red_tui.console.options import ConsoleOptions

    return run(
        ConsoleOptions(
            read_only=True,
            ascii=True if options.ascii else None,
            theme=options.theme,
            replay=str(path),
            at=options.at,
            speed=options.speed,
        )
    )


def _usage(message: str) -> RedError:
    error = RedError(message)
    error.exit_code = EXIT_USAGE
    return error


def _run(options: argparse.Namespace) -> int:
    from red_tui.commands import run_layout

    return run_layout(options)


def _up(options: argparse.Namespace) -> int:
    from red_tui.commands import up

    return up(options)


def _ls(options: argparse.Namespace) -> int:
    from red_tui.commands import ls

    return ls(options)


def _adopt(options: argparse.Namespace) -> int:
    from red_tui.commands import adopt

    return adopt(options)


def _status(options: argparse.Namespace) -> int:
    from red_tui.commands import status

    return status(options)


def _down(options: argparse.Namespace) -> int:
    from red_tui.commands import down

    return down(options)


def _check(options: argparse.Namespace) -> int:
    from red_tui.commands import check

    return check(options)


def _schema(options: argparse.Namespace) -> int:
    from red_tui.layout import json_schema

    print(json.dumps(json_schema(), indent=2))
    return EXIT_OK


def _keys(options: argparse.Namespace) -> int:
    from red_tui.console.keys import keys_rows, keys_text
    from red_tui.console.preferences import load

    preferences = load()
    print(json.dumps(keys_rows(preferences)) if options.json else keys_text(preferences))
    return EXIT_OK


def _doctor(options: argparse.Namespace) -> int:
    from red_tui.console import preferences
    from red_tui.doctor import facts

    rows = [*facts(), *preferences.rows(preferences.load())]
    if options.json:
        print(json.dumps([{"name": name, "value": value, "source": source} for name, value, source in rows]))
        return EXIT_OK
    width = max(len(name) for name, _, _ in rows)
    for name, value, source in rows:
        print(f"{name:<{width}}  {value}" + (f"  ({source})" if source else ""))
    return EXIT_OK


COMMANDS: dict[str, tuple[Callable[[argparse.Namespace], int], str]] = {
    "open": (_open, "open the console (what red-console does by itself)"),
    "run": (_run, "run a layout's federation without a screen: progress on stderr, results on stdout"),
    "up": (_up, "launch a layout's federation in the cluster and leave"),
    "adopt": (_adopt, "give a federation that lost its supervisor, or its cluster, a new one: it goes on"),
    "ls": (_ls, "list the federations of the cluster, orphans included"),
    "status": (_status, "say how a federation is"),
    "replay": (_replay, "replay a federation's journal, finished or running, with a time line; --json: its state"),
    "down": (_down, "end a federation; --all: the local cluster and all in it"),
    "check": (_check, "check a layout without starting anything"),
    "schema": (_schema, "print the JSON Schema of layouts"),
    "keys": (_keys, "print the console's keys as they are now, with the ids by which the config file maps them"),
    "doctor": (_doctor, "say what is installed, where files are, and each setting with its source"),
}


def _parser(open_only: bool) -> argparse.ArgumentParser:
    from red_tui import __version__

    parser = argparse.ArgumentParser(
        prog="red-console",
        description="Operate federations of virtual nodes on Ray. Without a command: open the console, on the"
        " federation that runs, else on the default layout in a local Ray.",
        epilog="commands:\n"
        + "".join(f"  {name:<8} {help_text}\n" for name, (_, help_text) in COMMANDS.items())
        + "  (red-console COMMAND --help says more)\n\n"
        + EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"red-console {__version__}")
    if open_only:
        _add_open(parser)
        return parser
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (act, help_text) in COMMANDS.items():
        added = commands.add_parser(
            name, help=help_text, description=help_text[0].upper() + help_text[1:] + ".", epilog=EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        _ADD[name](added)
        added.set_defaults(run=act)
    return parser


def _add_cluster(parser: argparse.ArgumentParser, *, json_too: bool = True) -> None:
    parser.add_argument(
        "--address", metavar="HOST:PORT", help="the Ray cluster (default: RAY_ADDRESS, else one on this machine)"
    )
    parser.add_argument("--namespace", default="red", help="Ray namespace of the federations (default: red)")
    if json_too:
        parser.add_argument("--json", action="store_true", help="print JSON on stdout")


def _add_start(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--working-dir", metavar="DIR", help="modules that travel to the cluster (default: the layout's, if Python)"
    )
    parser.add_argument("--cpus", type=int, metavar="N", help="logical CPUs of a local Ray that has to be started")


def _add_open(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", nargs="?", metavar="FEDERATION|LAYOUT", help="what to attach to, or to launch")
    parser.add_argument("--layout", metavar="FILE", help="launch this layout, or attach if its federation runs")
    _add_cluster(parser, json_too=False)
    _add_start(parser)
    parser.add_argument("--read-only", action="store_true", help="look, change nothing")
    _add_look(parser)
    parser.set_defaults(run=_open)


def _add_look(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ascii", action="store_true", help="draw with ASCII only")
    parser.add_argument("--theme", help="colours: see ctrl+p in the console")
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--slow", action="store_true", help="draw less often (default over SSH)")
    pace.add_argument("--fast", action="store_true", help="draw as on a local terminal")


def _add_replay(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("journal", metavar="JOURNAL", help="a journal.db, its folder, or the id of a federation")
    parser.add_argument(
        "--at",
        metavar="MOMENT",
        help="begin paused at 14:30, 2026-01-31T12:00, +90s (after the start), -5m (before the end), 'round 12',"
        " 'event 345', begin or end (write --at=-5m)",
    )
    parser.add_argument("--speed", metavar="N", help="seconds of the journal to a second: 0.5, 20x; max: as it draws")
    parser.add_argument("--json", action="store_true", help="no screen: print the state at --at, else at the end")
    _add_look(parser)


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("layout", help="layout file, or the name of one that ships (digits)")
    parser.add_argument("--rounds", type=int, metavar="N", help="how many (default: the layout's rounds.count)")
    parser.add_argument("--until", metavar="CONDITION", help="end earlier: accuracy>0.95, 14:30, +20m")
    parser.add_argument("--keep", action="store_true", help="leave the federation (and a local Ray) running")
    _add_cluster(parser)
    _add_start(parser)


def _add_up(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("layout", help="layout file, or the name of one that ships (digits, crowd)")
    parser.add_argument("--resume", action="store_true", help="go on from its journal and last good checkpoint")
    _add_cluster(parser)
    _add_start(parser)


def _add_adopt(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("federation", help="id of the federation: its files must lie on this host")
    parser.add_argument("--cpus", type=int, metavar="N", help="logical CPUs of a local Ray that has to be started")
    _add_cluster(parser)


def _add_status(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("federation", nargs="?", help="default: the only one that runs")
    _add_cluster(parser)


def _add_down(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("federation", nargs="?", help="default: the only one that is there")
    parser.add_argument("--all", action="store_true", help="end the local cluster and all in it")
    _add_cluster(parser)


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("layout", help="layout file, or the name of one that ships")
    parser.add_argument("--working-dir", metavar="DIR", help="folder of the modules it names (default: its own)")
    parser.add_argument("--json", action="store_true", help="print JSON on stdout")


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON on stdout")


def _add_nothing(parser: argparse.ArgumentParser) -> None:
    pass


_ADD: dict[str, Callable[[argparse.ArgumentParser], Any]] = {
    "open": _add_open,
    "run": _add_run,
    "up": _add_up,
    "adopt": _add_adopt,
    "ls": _add_cluster,
    "status": _add_status,
    "replay": _add_replay,
    "down": _add_down,
    "check": _add_check,
    "schema": _add_nothing,
    "keys": _add_json,
    "doctor": _add_json,
}


if __name__ == "__main__":
    sys.exit(main())
