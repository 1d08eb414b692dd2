"""The options of `red-console`'s commands."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from red_tui.protocol.commands import CommandSpec


def add_cluster(parser: argparse.ArgumentParser, *, json_too: bool = True) -> None:
    """Which cluster, and `--json`."""
    parser.add_argument(
        "--address", metavar="HOST:PORT", help="the Ray cluster (default: RAY_ADDRESS, else one on this machine)"
    )
    parser.add_argument("--namespace", default="red", help="Ray namespace of the federations (default: red)")
    if json_too:
        parser.add_argument("--json", action="store_true", help="print JSON on stdout")


def add_start(parser: argparse.ArgumentParser) -> None:
    """What starting a federation needs."""
    parser.add_argument(
        "--working-dir", metavar="DIR", help="modules that travel to the cluster (default: the layout's, if Python)"
    )
    parser.add_argument("--cpus", type=int, metavar="N", help="logical CPUs of a local Ray that has to be started")


def add_open(parser: argparse.ArgumentParser) -> None:
    """Options of `open`, and of no command."""
    parser.add_argument("target", nargs="?", metavar="FEDERATION|LAYOUT", help="what to attach to, or to launch")
    parser.add_argument("--layout", metavar="FILE", help="launch this layout, or attach if its federation runs")
    add_cluster(parser, json_too=False)
    add_start(parser)
    parser.add_argument("--read-only", action="store_true", help="look, change nothing")
    add_look(parser)


def add_look(parser: argparse.ArgumentParser) -> None:
    """How a screen is drawn."""
    parser.add_argument("--ascii", action="store_true", help="draw with ASCII only")
    parser.add_argument("--theme", help="colours: see ctrl+p in the console")
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--slow", action="store_true", help="draw less often (default over SSH)")
    pace.add_argument("--fast", action="store_true", help="draw as on a local terminal")


def add_replay(parser: argparse.ArgumentParser) -> None:
    """Options of `replay`."""
    parser.add_argument("journal", metavar="JOURNAL", help="a journal.db, its folder, or the id of a federation")
    parser.add_argument(
        "--at",
        metavar="MOMENT",
        help="begin paused at 14:30, 2026-01-31T12:00, +90s (after the start), -5m (before the end), 'round 12',"
        " 'event 345', begin or end (write --at=-5m)",
    )
    parser.add_argument("--speed", metavar="N", help="seconds of the journal to a second: 0.5, 20x; max: as it draws")
    parser.add_argument(
        "--idle",
        metavar="SECONDS",
        type=float,
        help="skip what is left of a time in which nothing happened after so many seconds (default 2); 0: never",
    )
    parser.add_argument("--json", action="store_true", help="no screen: print the state at --at, else at the end")
    add_look(parser)


_CONDITIONS = "accuracy>0.95, 14:30, +20m, 'no better loss for 10 rounds'; joined by or, and"


def add_run(parser: argparse.ArgumentParser) -> None:
    """Options of `run`."""
    parser.add_argument("layout", help="layout file, or the name of one that ships (digits)")
    parser.add_argument("--rounds", type=int, metavar="N", help="how many (default: the layout's rounds.count)")
    parser.add_argument("--until", metavar="CONDITION", help=f"end earlier: {_CONDITIONS}")
    parser.add_argument("--keep", action="store_true", help="leave the federation (and a local Ray) running")
    _add_start_from(parser)
    add_cluster(parser)
    add_start(parser)


def add_up(parser: argparse.ArgumentParser) -> None:
    """Options of `up`."""
    parser.add_argument("layout", help="layout file, or the name of one that ships (digits, crowd)")
    parser.add_argument("--resume", action="store_true", help="go on from its journal and last good checkpoint")
    _add_start_from(parser)
    add_cluster(parser)
    add_start(parser)


def _add_start_from(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--start-from",
        metavar="SOURCE",
        help="parameters to start from: a safetensors file, FEDERATION@best, FEDERATION@last, FEDERATION@12",
    )


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Options of `checkpoint`."""
    does = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    ls = does.add_parser("ls", help="list the checkpoints of a federation: rounds, sizes, what they measured")
    ls.add_argument("federation", metavar="FEDERATION", help="its id, or its folder")
    add_json(ls)
    verify = does.add_parser("verify", help="read checkpoints whole, and say which are damaged")
    verify.add_argument("source", metavar="FEDERATION|SOURCE", help="all of a federation, or one: FILE, FEDERATION@12")
    add_json(verify)
    export = does.add_parser("export", help="write the parameters of a checkpoint as a plain safetensors file")
    add_export(export)


def add_verify(parser: argparse.ArgumentParser) -> None:
    """Options of `verify`."""
    what = "a federation's id, its folder, a journal.db, or a checkpoint: FILE, FEDERATION@best, FEDERATION@12"
    parser.add_argument("a", metavar="A", help=what)
    parser.add_argument("b", metavar="B", help="the other run; exit code 0: the same, 1: parted, 2: cannot be told")
    add_json(parser)


def add_export(parser: argparse.ArgumentParser) -> None:
    """Options of `export`."""
    parser.add_argument("source", metavar="SOURCE", help="FILE, FEDERATION@best, FEDERATION@last, FEDERATION@12")
    parser.add_argument("target", metavar="FILE", help="the safetensors file to make")
    parser.add_argument(
        "--widen", action="store_true", help="bfloat16 and float8 as float32, for readers that know neither"
    )
    add_json(parser)


def add_runs(parser: argparse.ArgumentParser) -> None:
    """Options of `runs`."""
    _add_folder(parser)
    parser.add_argument("--tag", metavar="TAG", help="only runs with this tag")
    add_json(parser)
    does = parser.add_subparsers(dest="action", metavar="ACTION")
    rename = does.add_parser("rename", help="give a run a name; an empty one takes it back")
    rename.add_argument("chosen", metavar="RUN", help="its id, its name, or its journal")
    rename.add_argument("name", metavar="NAME")
    tag = does.add_parser("tag", help="add tags to a run, or remove them")
    tag.add_argument("chosen", metavar="RUN", help="its id, its name, or its journal")
    tag.add_argument("tags", metavar="TAG", nargs="+")
    tag.add_argument("--remove", action="store_true", help="remove these tags")
    prune = does.add_parser("prune", help="remove old runs; those that go on, have a name or a tag stay")
    prune.add_argument("--keep", type=int, required=True, metavar="N", help="how many of the newest stay")
    delete = does.add_parser("delete", help="remove runs for good: journals, checkpoints, states of nodes")
    delete.add_argument("runs", metavar="RUN", nargs="+", help="ids, names, or journals")
    for action in (prune, delete):
        action.add_argument("--yes", action="store_true", help="do not ask")
    for action in (rename, tag, prune, delete):
        # What is not given here is as it stands before the action.
        action.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON on stdout")


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--folder", metavar="DIR", help="runs of scripts, kept below it (default: those of this home)")


def add_compare(parser: argparse.ArgumentParser) -> None:
    """Options of `compare`."""
    parser.add_argument("runs", metavar="RUN", nargs="+", help="of `red-console runs`, journals, or their folders")
    parser.add_argument("--metric", default="loss", help="loss (default), a metric, seconds, participants or failed")
    parser.add_argument(
        "--x", choices=["round", "seconds"], default="round", help="the axis to the right (default: round)"
    )
    parser.add_argument("--last", type=int, metavar="N", help="only the last N rounds of each run")
    parser.add_argument(
        "--smooth", type=float, default=0.0, metavar="W", help="exponential mean of this weight (0 to 1)"
    )
    parser.add_argument("--seeds", action="store_true", help="runs that differ in the seed only become their mean")
    parser.add_argument("--log", action="store_true", help="logarithmic axis of the measure")
    parser.add_argument("--target", type=float, metavar="VALUE", help="tell when each run reached this value")
    parser.add_argument("--html", metavar="FILE", help="write a page that stands by itself")
    parser.add_argument("--svg", metavar="FILE", help="write the curves as a picture")
    parser.add_argument("--ascii", action="store_true", help="draw with ASCII only")
    _add_folder(parser)
    add_json(parser)


def add_report(parser: argparse.ArgumentParser) -> None:
    """Options of `report`."""
    parser.add_argument("chosen", metavar="RUN", help="a run of `red-console runs`, a journal, or its folder")
    parser.add_argument("file", metavar="FILE", help="the page to write (.html)")
    _add_folder(parser)
    add_json(parser)


def add_adopt(parser: argparse.ArgumentParser) -> None:
    """Options of `adopt`."""
    parser.add_argument("federation", help="id of the federation: its files must lie on this host")
    parser.add_argument("--cpus", type=int, metavar="N", help="logical CPUs of a local Ray that has to be started")
    add_cluster(parser)


def add_status(parser: argparse.ArgumentParser) -> None:
    """Options of `status`."""
    _add_named(parser)
    add_cluster(parser)


def add_down(parser: argparse.ArgumentParser) -> None:
    """Options of `down`."""
    _add_named(parser, "default: the only one that is there")
    parser.add_argument("--all", action="store_true", help="end the local cluster and all in it")
    _add_yes(parser)
    add_cluster(parser)


def add_round(parser: argparse.ArgumentParser) -> None:
    """Options of `round`."""
    _add_named(parser)
    parser.add_argument("--rounds", type=int, metavar="N", help="how many (default: 1, or as many as --until takes)")
    parser.add_argument("--until", metavar="CONDITION", help=_CONDITIONS)
    parser.add_argument("--no-wait", action="store_true", help="let them run, and leave")
    add_cluster(parser)


def add_stop(parser: argparse.ArgumentParser) -> None:
    """Options of `stop`."""
    _add_named(parser)
    parser.add_argument("--now", action="store_true", help="in the middle of the round, which then does not count")
    _add_yes(parser)
    add_cluster(parser)
    parser.add_argument("--exit-code", action="store_true", help="exit with 1 where there is nothing to do")


def add_watch(parser: argparse.ArgumentParser) -> None:
    """Options of `watch`."""
    _add_named(parser)
    parser.add_argument("--since", metavar="MOMENT", help="begin with what happened since: 10m, 14:30, an ISO time")
    add_cluster(parser)


def add_history(parser: argparse.ArgumentParser) -> None:
    """Options of `history`."""
    _add_named(
        parser, "one that runs, one that has ended and was launched from here, or a journal.db", "FEDERATION|JOURNAL"
    )
    parser.add_argument("--csv", action="store_true", help="print CSV on stdout")
    parser.add_argument(
        "--nodes", type=int, metavar="ROUND", help="the figures of every node in a round, where they are kept"
    )
    add_cluster(parser)


def add_build(parser: argparse.ArgumentParser) -> None:
    """Options of `build`."""
    _add_query(parser, "nodes to build (default: those that have no process)")
    _add_waiting(parser)


def add_rebuild(parser: argparse.ArgumentParser) -> None:
    """Options of `rebuild`."""
    _add_query(parser, "failed or released nodes (default: all that failed)")
    _add_waiting(parser)
    parser.add_argument("--exit-code", action="store_true", help="exit with 1 where there is nothing to do")


def add_plan(parser: argparse.ArgumentParser) -> None:
    """Options of `plan`."""
    _add_query(parser, "nodes to plan for (default: those that have no process)")


def add_release(parser: argparse.ArgumentParser) -> None:
    """Options of `release`."""
    _add_query(parser, "nodes to release")
    parser.add_argument(
        "--bundles", action="store_true", help="release all nodes and give the bundles back to the cluster"
    )
    _add_yes(parser)


def add_remove(parser: argparse.ArgumentParser) -> None:
    """Options of `remove`."""
    _add_query(parser, "nodes to forget", needed=True)
    parser.add_argument("--keep-state", action="store_true", help="keep it for a node that joins under the same id")
    _add_yes(parser)


def add_add(parser: argparse.ArgumentParser) -> None:
    """Options of `add`."""
    parser.add_argument("count", type=int, nargs="?", default=1, metavar="COUNT", help="how many (default: 1)")
    parser.add_argument(
        "role", nargs="?", default="train", metavar="ROLE", help="train, eval, train-eval… (default: train)"
    )
    _add_federation(parser)


def add_explain(parser: argparse.ArgumentParser) -> None:
    """Options of `explain`."""
    parser.add_argument("node", metavar="NODE", help="id of a node")
    _add_federation(parser)


def add_shown(spec: CommandSpec) -> Callable[[argparse.ArgumentParser], None]:
    """Options of a command whose answer is shown as it is: the federation, and its arguments by their names."""

    def add(parser: argparse.ArgumentParser) -> None:
        _add_named(parser)
        for name in spec.arguments:
            parser.add_argument(f"--{name.replace('_', '-')}", metavar=name.upper())
        add_cluster(parser)

    return add


def add_completion(parser: argparse.ArgumentParser) -> None:
    """Options of `completion`."""
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="whose script to print")


def _add_query(parser: argparse.ArgumentParser, what: str, *, needed: bool = False) -> None:
    parser.add_argument(
        "query", nargs=None if needed else "?", metavar="QUERY",
        help=f"{what}: an id, or a query as in the console's filter, 'role:train state:virtual'",
    )  # fmt: skip
    _add_federation(parser)


def _add_named(
    parser: argparse.ArgumentParser, help: str = "default: the only one that runs", metavar: str = "FEDERATION"
) -> None:
    """The federation as the first word, or with `-f` as for the verbs whose first word is a query."""
    parser.add_argument("federation", nargs="?", default=argparse.SUPPRESS, metavar=metavar, help=help)
    parser.add_argument("-f", "--federation", metavar="ID", help="the same")


def _add_federation(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-f", "--federation", metavar="ID", help="default: the only one that runs")
    add_cluster(parser)


def _add_waiting(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--timeout", type=float, default=120.0, metavar="SECONDS", help="wait so long for them (default: 120)"
    )
    parser.add_argument("--no-wait", action="store_true", help="let them start, and leave")


def _add_yes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="do not ask; needed where standard input is no terminal")


def add_check(parser: argparse.ArgumentParser) -> None:
    """Options of `check`."""
    parser.add_argument("layout", help="layout file, or the name of one that ships")
    parser.add_argument("--working-dir", metavar="DIR", help="folder of the modules it names (default: its own)")
    parser.add_argument(
        "--import", action="store_true", dest="imports", help="import its modules, which runs them, in a child process"
    )
    parser.add_argument("--json", action="store_true", help="print JSON on stdout")


def add_data(parser: argparse.ArgumentParser) -> None:
    """Options of `data`."""
    parser.add_argument("layout", help="layout file, or the name of one that ships")
    parser.add_argument("--working-dir", metavar="DIR", help="folder of the modules it names (default: its own)")
    parser.add_argument("--parts", type=int, metavar="N", help="deal out to so many parts instead")
    parser.add_argument("--ascii", action="store_true", help="draw with ASCII only")
    parser.add_argument("--json", action="store_true", help="print JSON on stdout")


def add_new(parser: argparse.ArgumentParser) -> None:
    """Options of `new`."""
    parser.add_argument("name", metavar="NAME", help="of the folder to make, and of its federation: my-digits")
    kinds = parser.add_mutually_exclusive_group()
    for kind, what in (
        ("numpy", "a model written in numpy (default)"),
        ("torch", "a model of PyTorch"),
        ("sklearn", "an estimator of scikit-learn"),
        ("jax", "a model of JAX"),
    ):
        kinds.add_argument(f"--{kind}", dest="kind", action="store_const", const=kind, help=what)
    parser.set_defaults(kind="numpy")


def add_json(parser: argparse.ArgumentParser) -> None:
    """`--json` alone."""
    parser.add_argument("--json", action="store_true", help="print JSON on stdout")


def add_nothing(parser: argparse.ArgumentParser) -> None:
    """No options."""
