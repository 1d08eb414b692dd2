"""The verbs of `red-console` that need no screen."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from red_tui.errors import CommandRefused, NotConnected, RedError
from red_tui.federation.layouts import spec_of
from red_tui.layout import load, resolve
from red_tui.selection.until import portable


def say(text: str) -> None:
    """Narration."""
    print(text, file=sys.stderr, flush=True)


def narrate(key: str, text: str, state: str) -> None:
    """A step, on stderr."""
    if state != "running":
        say(f"{'✓' if state == 'done' else '✗'} {text}")


@contextlib.contextmanager
def quiet_driver() -> Iterator[None]:
    """Keep what Ray's core prints about dead workers off the terminal.

    Its C++ part writes to file descriptor 2: that goes to a file, while `sys.stderr` keeps the terminal.
    """
    logging.getLogger("ray").setLevel(logging.ERROR)
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as sink:
        old = sys.stderr
        os.dup2(sink.fileno(), 2)
        sys.stderr = os.fdopen(terminal, "w", buffering=1, encoding=old.encoding, errors="replace")
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            sys.stderr.close()
            sys.stderr = old


@contextlib.contextmanager
def ending_in_order() -> Iterator[Callable[[], None]]:
    """Let SIGTERM and SIGHUP end what is done here as Ctrl+C does.

    Gives a function that sees to that again: Ray has taken SIGTERM for itself by the time it is connected.
    """

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    def take_signals() -> None:
        for number in before:
            signal.signal(number, interrupt)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    take_signals()
    try:
        yield take_signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_layout(options: argparse.Namespace) -> int:
    """Launch, run rounds, print the results, end what was started."""
    from red_tui.supervisor.cluster import running_cluster, stop_cluster
    from red_tui.supervisor.launch import attach

    parsed = load(resolve(options.layout))
    rounds = options.rounds if options.rounds is not None else parsed.rounds.count
    if rounds < 1:
        raise CommandRefused(f"--rounds must be at least 1, not {rounds}")
    until = portable(options.until) if options.until else None
    with quiet_driver(), ending_in_order() as take_signals:
        started_here = running_cluster() is None
        launched = False

        def step(key: str, text: str, state: str) -> None:
            nonlocal launched
            launched = launched or (key, state) == ("launch", "done")
            narrate(key, text, state)

        client = None
        try:
            client = _launched(options, step)
            take_signals()
            wires = _follow(client, rounds, until)
        finally:
            if not options.keep:
                if launched:
                    with contextlib.suppress(RedError):
                        (client or attach(parsed.federation, namespace=options.namespace, connected=True)).down()
                _disconnect()
                if started_here:
                    stop_cluster()
    _print_rounds(wires, options.json)
    done = [wire for wire in wires if wire["state"] == "done"]
    return 0 if done and len(done) == len(wires) else 1


def _launched(options: argparse.Namespace, step: Callable[[str, str, str], None] = narrate) -> Any:
    """A client of the federation that the options' layout describes, launched with its steps told."""
    from red_tui.supervisor.launch import launch

    return launch(
        options.layout,
        options.address,
        namespace=options.namespace,
        working_dir=options.working_dir,
        cpus=options.cpus,
        resume=bool(getattr(options, "resume", False)),
        step=step,
    )


def _follow(client: Any, rounds: int, until: str | None) -> list[dict[str, Any]]:
    """Start a run and tell of it until it is over; gives its rounds."""
    update = client.snapshot()
    before = {_key(wire) for wire in update.get("rounds", [])}
    client.start_run(rounds, until)
    wires: list[dict[str, Any]] = []
    began, last = False, ""
    while True:
        update = client.watch(update, timeout=5.0)
        for event in update.get("events", []):
            # A round that succeeded with failures has its own line; one that failed says here why.
            if (event[3] == "error" or (event[3] == "warn" and event[2] != "round")) and event[5] != last:
                last = event[5]
                say(f"  {event[4]}: {last}")
        for wire in update.get("rounds", []):
            # A supervisor that was started anew tells everything again.
            if _key(wire) not in before:
                before.add(_key(wire))
                wires.append(wire)
                say(_progress(wire, len(wires), rounds))
        status = update.get("round")
        if status is not None:
            began = began or status["target"] is not None
            if began and status["target"] is None:
                return wires
        if not began and not client.running:
            # The whole run fell between two looks.
            missed = client.watch(update, timeout=0.0).get("rounds", [])
            return wires + [wire for wire in missed if _key(wire) not in before]


def _key(wire: dict[str, Any]) -> tuple[int, str, float]:
    return int(wire["number"]), str(wire["state"]), round(float(wire["ended"]), 3)


def _progress(wire: dict[str, Any], done: int, rounds: int) -> str:
    width = 24
    filled = round(width * done / rounds)
    bar = "█" * filled + "░" * (width - filled)
    if wire["state"] == "failed":
        return f"{bar} round {wire['number']} failed"
    metrics = "  ".join(f"{name} {value:.4g}" for name, value in wire["metrics"].items() if value is not None)
    loss = wire["loss"] if wire["loss"] is not None else wire["train_loss"]
    shown = f"loss {loss:.4g}" if loss is not None else ""
    return f"{bar} round {wire['number']}/{rounds}  {shown}  {metrics}  {wire['seconds']:.2f} s"


def _print_rounds(wires: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print(json.dumps({"rounds": wires}))
        return
    metrics = sorted({name for wire in wires for name in wire["metrics"]})
    print("".join(f"{name:>12}" for name in ("round", "loss", *metrics, "train_loss", "nodes", "failed", "seconds")))
    for wire in wires:
        if wire["state"] == "failed":
            print(f"{wire['number']:>12}{'failed':>12}")
            continue
        cells = [wire["number"], wire["loss"], *(wire["metrics"].get(name) for name in metrics)]
        cells += [wire["train_loss"], wire["participants"], wire["failed"], wire["seconds"]]
        print("".join(f"{_cell(cell):>12}" for cell in cells))


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def up(options: argparse.Namespace) -> int:
    """Launch and leave."""
    with quiet_driver():
        client = _launched(options)
        told = client.status()
        _disconnect()
    if told.get("begins_anew"):
        say(f"{told['id']} begins anew: what it did before is set aside (--resume would have gone on with it)")
    if options.json:
        print(json.dumps(_public(told)))
    else:
        print(f"{told['id']}: {told['nodes']} virtual nodes; `red-console {told['id']}` opens it")
    return 0


def adopt(options: argparse.Namespace) -> int:
    """Take a federation up again."""
    with quiet_driver():
        from red_tui.supervisor.launch import adopt as take_up

        client = take_up(
            options.federation, options.address, namespace=options.namespace, cpus=options.cpus, step=narrate
        )
        told = _public(client.status())
        _disconnect()
    if options.json:
        print(json.dumps(told))
    else:
        counts = ", ".join(f"{count} {state}" for state, count in told["states"].items())
        print(f"{options.federation} goes on after round {told['round']}: {counts}")
    return 0


def ls(options: argparse.Namespace) -> int:
    """List federations."""
    from red_tui.supervisor.launch import federations

    with quiet_driver():
        rows = federations(options.address, namespace=options.namespace)
        _disconnect()
    if options.json:
        print(json.dumps(rows))
        return 0
    if not rows:
        say("no federation runs on this cluster: `red-console up LAYOUT` launches one")
    else:
        print(f"{'federation':<24}{'state':<16}{'nodes':>8}{'round':>8}{'age':>10}")
    for row in rows:
        shown = row["round"] if row["round"] is not None else "-"
        print(f"{row['id']:<24}{row['state']:<16}{row['nodes']:>8}{shown:>8}{_age(row['age_s']):>10}")
    return 0


def _age(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def status(options: argparse.Namespace) -> int:
    """One federation in short."""
    from red_tui.supervisor.launch import attach
    from red_tui.supervisor.registry import listed

    with quiet_driver():
        _connect(options)
        fed_id = options.federation or _only(listed(options.namespace))
        client = attach(fed_id, namespace=options.namespace, connected=True)
        told = client.status()
        history = client.history
        _disconnect()
    last = history[-1].to_wire() if len(history) else None
    if options.json:
        print(json.dumps({**_public(told), "last_round": last}))
        return 0
    state = "a session runs" if told.get("session") else told["state"]
    print(f"{told['id']}: {state}, {told['nodes']} nodes, round {told['round']}, {_age(told['age_s'])} old")
    print("  " + "  ".join(f"{count} {state}" for state, count in told["states"].items()))
    if last is not None:
        print("  " + _progress(last, told["round"], max(1, told["round"])).lstrip("█░ "))
    return 0


def _public(told: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in told.items() if key != "layout"}


def _only(rows: list[dict[str, Any]]) -> str:
    if len(rows) == 1:
        return str(rows[0]["id"])
    if not rows:
        raise NotConnected("no federation runs on this cluster: `red-console up LAYOUT` launches one", address="")
    raise CommandRefused(f"several federations are here: name one of {', '.join(row['id'] for row in rows)}")


def down(options: argparse.Namespace) -> int:
    """End a federation, or the local cluster."""
    if options.all:
        from red_tui.supervisor.cluster import read_cluster, stop_cluster

        if options.federation or options.address:
            raise CommandRefused("--all ends the local cluster: name neither a federation nor an address with it")
        if read_cluster() is None:
            say("no local cluster of red-console runs: nothing to end")
            return 0
        ended = stop_cluster()
        if options.json:
            print(json.dumps({"processes": ended}))
        say(f"the local cluster is down, {ended} processes ended")
        return 0
    from red_tui.supervisor.launch import attach
    from red_tui.supervisor.registry import end_orphan, listed

    with quiet_driver():
        _connect(options)
        rows = listed(options.namespace)
        fed_id = options.federation or _only(rows)
        orphan = not any(row["id"] == fed_id and row["state"] in ("idle", "running") for row in rows)
        if orphan:
            ended = end_orphan(fed_id, options.namespace)
            text = f"{ended} actors of {fed_id}, which had lost its supervisor, are ended"
        else:
            attach(fed_id, namespace=options.namespace, connected=True).down()
            text = f"federation {fed_id} is down; the cluster goes on (end a local one with `red-console down --all`)"
        _disconnect()
    if options.json:
        print(json.dumps({"federation": fed_id, "text": text}))
    say(text)
    return 0


def check(options: argparse.Namespace) -> int:
    """Check a layout: its text, its templates."""
    path = resolve(options.layout)
    parsed = load(path)
    folder = Path(options.working_dir) if options.working_dir else path.resolve().parent
    _, spec = spec_of(parsed, str(path), folder)
    if options.json:
        print(json.dumps({"file": str(path), "federation": parsed.federation, "nodes": parsed.num_nodes, "ok": True}))
    else:
        template = f"{spec.groups[0].template.__module__}:{spec.groups[0].template.__name__}"
        print(f"{path}: good: federation {parsed.federation}, {parsed.num_nodes} nodes of {template}")
    return 0


def _connect(options: argparse.Namespace) -> None:
    from red_tui.supervisor.connect import connect

    connect(options.address, namespace=options.namespace, start=False)


def _disconnect() -> None:
    import ray

    ray.shutdown()
