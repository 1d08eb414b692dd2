"""What is fuzzed: each reader of text, frames or files that somebody else wrote."""

from __future__ import annotations

import contextlib
import io
import json
import random
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from red_tui.checkpoints.checkpoint_folder import Checkpoints
from red_tui.cli import main as cli, status as watching
from red_tui.cli.shell_completion import candidates
from red_tui.console.config import preferences, session_state as remembered
from red_tui.console.input.command_line import TALKING
from red_tui.errors import RedError
from red_tui.journal.journal import Fold, Journal
from red_tui.journal.launch_record import LaunchRecord
from red_tui.layout import loads
from red_tui.layout.round_settings import read_changes, value_of, written
from red_tui.nodes.ids import ListedIds, PatternIds
from red_tui.nodes.states import NodeState
from red_tui.nodes.table import NodeTable
from red_tui.nodes.template import EvaluateResult, FitResult
from red_tui.protocol.events import Event
from red_tui.protocol.frames import read_frame
from red_tui.replay.time_points import clock_moment, parse_moment, parse_speed
from red_tui.replay.timeline import Replay
from red_tui.runtime.node_runtime import check_evaluate, check_fit, numbers
from red_tui.selection import complete, parse
from red_tui.selection.stop_condition import Until, portable
from tests.fuzz.hunting import Target
from tests.fuzz.seeds import SEEDS, SHIPPED, WORDS

MESSAGE = 3000
"""Characters that a message has at most: it is shown on a screen."""
NOW = 1_790_000_000.0

_folder = tempfile.TemporaryDirectory(prefix="red-fuzz-")
FOLDER = Path(_folder.name)


def text_of(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


@contextlib.contextmanager
def short_messages() -> Any:
    """Assert that what is refused is refused in few words."""
    try:
        yield
    except RedError as error:
        assert len(error.message) < MESSAGE, f"a message of {len(error.message)} characters"
        raise


# -- text --------------------------------------------------------------------------------------------


def run_layout(data: bytes) -> None:
    with short_messages():
        layout = loads(text_of(data), "x.yaml")
    assert loads(layout.to_yaml(), "x.yaml") == layout
    layout.differences(layout)


def run_config(data: bytes) -> None:
    path = FOLDER / "console.yaml"
    path.write_bytes(data)
    found = preferences.load_or_default(path)
    assert len(found.trouble) < MESSAGE
    preferences.rows(found)


def federation() -> NodeTable:
    table = NodeTable()
    table.append(PatternIds.parse("client_{i}", 12), "train")
    table.append(PatternIds.parse("judge_{i:03d}", 4), "train-eval")
    table.append(ListedIds(("hub", "a.b-c")), "test")
    for row in range(5):
        table.set(row, state=NodeState.READY, bundle=row + 1, rounds=row, loss=0.1 * (row + 1), seconds=2.0)
    return table


TABLE = federation()


def run_query(data: bytes) -> None:
    text = text_of(data)
    if len(text) < 2000:
        complete(text, len(text) // 2, TABLE)
        complete(text, len(text), TABLE)
    with short_messages():
        query = parse(text)
    mask = query.mask(TABLE)
    again = parse(query.format())
    assert again == query or (again.mask(TABLE) == mask).all()


def run_until(data: bytes) -> None:
    text = text_of(data)
    with short_messages():
        until = Until.parse(text, NOW)
    until.shown(NOW)
    until.reached({"loss": 0.5, "accuracy": 0.9})
    Until.parse(portable(text, NOW), NOW)
    if str(until):
        Until.parse(str(until), NOW)


def run_moment(data: bytes) -> None:
    text = text_of(data)
    for read in (parse_speed, lambda text: watching.moment(text, NOW)):
        with contextlib.suppress(RedError), short_messages():
            read(text)
    with short_messages():
        moment = parse_moment(text)
    if moment.kind == "clock":
        clock_moment(moment.value, NOW, NOW - 1e5, NOW + 1e5)
    replay = open_replay()
    replay.seek_moment(moment)


def run_typed(data: bytes) -> None:
    text = text_of(data)
    for read in TALKING.values():
        with contextlib.suppress(RedError), short_messages():
            read(text)
    with contextlib.suppress(RedError), short_messages():
        assert isinstance(written(value_of(text)), str)
    known = {
        "fraction": 1.0,
        "deadline": 60.0,
        "min_results": 0.5,
        "evaluate_every": 1,
        "lr": 0.1,
        "name": "a",
        "b": [1],
    }
    with short_messages():
        read_changes(text, known)


def run_words(data: bytes) -> None:
    words = [word for word in text_of(data).split("\n") if word not in ("--help", "-h", "--version")]
    candidates(words, tuple(cli.COMMANDS), cli.parser_of)
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        cli.whole_parser(open_only=not (words and words[0] in cli.COMMANDS)).parse_args(words)


# -- what other processes send ---------------------------------------------------------------------------


def run_frames(data: bytes) -> None:
    stream = io.BytesIO(data)
    with short_messages():
        while read_frame(stream) is not None:
            pass


class Odd(float):
    """A number that does not want to be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


def value_from(chance: random.Random, depth: int = 0) -> Any:
    """Something that a template may return."""
    makers: list[Callable[[], Any]] = [
        lambda: chance.choice([None, True, 0, 1, -1, 2**70, 10**400, -(10**400), 1e308, -1e308, float("nan"),
        float("inf")]),
        lambda: chance.choice(["", "a", "1", "é" * 50, "\0", "x" * 5000, b"1", 1j, object(), int, Odd(1.0),
        range(3)]),
        lambda: chance.choice([np.float32(1), np.float64("nan"), np.int64(2), np.bool_(True), np.str_("a"),
        np.datetime64("NaT")]),
        lambda: np.array(chance.choice([1.0, "a", None, 1j, [], [1.0, 2.0], [[1, 2], [3, 4]], float("nan"), 2**60])),
        lambda: np.zeros(chance.choice([(0,), (2,), (3, 0), (2, 2), ()]), chance.choice(["f2", "f4", "f8", "i8",
        "u1", "?", "O", "U3", "c8", "M8[s]", "V4"])),
        lambda: np.ma.masked_array([1.0, 2.0], [True, False]),
        lambda: np.array([1.0, 2.0])[:: chance.choice([1, -1])],
    ]  # fmt: skip
    if depth < 3:
        keys = ["w", "b", "", "a\nb", 3, None, "x" * 3000, (1,)]
        makers += [
            lambda: {chance.choice(keys): value_from(chance, depth + 1) for _ in range(chance.randrange(4))},
            lambda: [value_from(chance, depth + 1) for _ in range(chance.randrange(3))],
            lambda: FitResult(
                value_from(chance, depth + 1), value_from(chance, depth + 1), value_from(chance, depth + 1)
            ),
        ]
    return chance.choice(makers)()


def run_answers(data: bytes) -> None:
    chance = random.Random(data)
    model = {"w": np.zeros(2), "b": np.zeros((), "i8")}
    good = {"w": np.ones(2), "b": np.array(1)}
    results = [
        lambda: check_fit(value_from(chance), model),
        lambda: check_fit(FitResult({**good, "w": value_from(chance)}, value_from(chance)), model),
        lambda: check_fit(FitResult(good, value_from(chance), value_from(chance)), model),
        lambda: check_evaluate(EvaluateResult(value_from(chance), value_from(chance), value_from(chance))),
        lambda: check_evaluate(EvaluateResult(0.5, value_from(chance))),
        lambda: numbers(value_from(chance)),
        lambda: numbers({"accuracy": value_from(chance), "loss": value_from(chance)}),
    ]
    with np.errstate(all="ignore"):
        found = chance.choice(results)()
    if isinstance(found, FitResult):
        assert all(np.isfinite(value).all() for value in found.parameters.values())
        assert np.isfinite(float(found.num_examples)) and found.num_examples >= 0
    elif isinstance(found, EvaluateResult):
        assert np.isfinite(float(found.loss)) and np.isfinite(float(found.num_examples))
    else:
        assert all(type(name) is str and type(value) is float for name, value in found.items())


# -- files ---------------------------------------------------------------------------------------------


def _events() -> list[Event]:
    rows = {"rows": [[0, 8]], "state": "ready", "bundles": [[0, 8, 1]]}
    added = {"added": [["pattern", "client_", "", 0, 8, 0]], "first": 0, "role": "train", "group": 0}
    result = {"number": 1, "state": "done", "loss": 0.5, "metrics": {"accuracy": 0.9}, "participants": 8, "failed": 0}
    bodies = [
        added,
        rows,
        {"round": 1, "phase": "fit"},
        {"result": result},
        {"run": [3, None]},
        {"id": "a", "command": "x"},
    ]
    kinds = ["nodes", "node", "round", "round", "run", "operator"]
    return [
        Event(seq, NOW + seq, kind, "info", "client_0", f"text {seq}", "", body)
        for seq, (kind, body) in enumerate(zip(kinds, bodies, strict=True), start=1)
    ]


def made_journal() -> bytes:
    path = FOLDER / "made" / "journal.db"
    path.parent.mkdir(exist_ok=True)
    journal = Journal(path)
    for event in _events():
        journal.append(event)
    journal.close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode=DELETE")
        db.execute("VACUUM")
    return path.read_bytes()


_replays: list[Replay] = []


def open_replay() -> Replay:
    if not _replays:
        path = FOLDER / "replay.db"
        path.write_bytes(made_journal())
        _replays.append(Replay(path))
    return _replays[0]


def read_journal(path: Path) -> None:
    replay = Replay(path)
    try:
        for position in (0, 1, len(replay.events) // 2, len(replay.events)):
            replay.seek(position)
            replay.fold()
        replay.seek_moment("end")
    finally:
        replay.close()


def run_journal_file(data: bytes) -> None:
    path = FOLDER / "journal.db"
    for beside in FOLDER.glob("journal.db*"):
        beside.unlink()
    path.write_bytes(data)
    with short_messages():
        read_journal(path)


def run_journal_rows(data: bytes) -> None:
    """A whole file whose rows are strange: each line of the input replaces the text or the data of an event."""
    path = FOLDER / "rows.db"
    for beside in FOLDER.glob("rows.db*"):
        beside.unlink()
    path.write_bytes(JOURNAL)
    with contextlib.closing(sqlite3.connect(path)) as db:
        columns = [row[1] for row in db.execute("PRAGMA table_info(events)")]
        for seq, line in enumerate(data.split(b"\n")[:6], start=1):
            column = columns[-1] if line[:1] in b"{[\x80" or not line else columns[line[0] % len(columns)]
            if column != columns[0] and line:
                db.execute(f"UPDATE events SET {column} = ? WHERE {columns[0]} = ?", (_cell(line), seq))
        db.commit()
    with short_messages():
        read_journal(path)


def _cell(line: bytes) -> Any:
    return line if line[-1:] == b"\xff" else line.decode("utf-8", "replace")


def run_fold(data: bytes) -> None:
    with short_messages():
        fold = Fold.from_bytes(data)
    fold.to_bytes()


def run_checkpoint(data: bytes) -> None:
    path = FOLDER / "round-000003.safetensors"
    path.write_bytes(data)
    with short_messages():
        Checkpoints(FOLDER, federation="digits").load(path)


def run_record(data: bytes) -> None:
    folder = FOLDER / "record"
    folder.mkdir(exist_ok=True)
    layout, _, record = data.partition(b"\0\0")
    (folder / "layout.yaml").write_bytes(layout)
    (folder / "launch.json").write_bytes(record)
    with short_messages():
        LaunchRecord.read(folder)


def run_remembered(data: bytes) -> None:
    (FOLDER / remembered.FILE).write_bytes(data)
    remembered.load_session_state(FOLDER)


def made_checkpoint() -> bytes:
    saved = Checkpoints(FOLDER / "made", federation="digits").save(
        3, {"w": np.ones((2, 3), "f4"), "n": np.array(7)}, {"a": 1}
    )
    return saved.path.read_bytes()


def made_fold() -> bytes:
    fold = Fold()
    for event in _events():
        fold.take(event)
    return fold.to_bytes()


JOURNAL = made_journal()
RECORD = b'\0\0{"layout": "a", "path": "x", "cluster": {}, "who": "me", "namespace": "red", "created": 1.0}'
ANSWER = (TypeError, ValueError)
"""What a check of a node's answer raises."""


def _target(name: str, run: Callable[[bytes], None], *made: bytes, allowed: Any = (RedError,)) -> Target:
    return Target(name, run, allowed, [*made, *SEEDS.get(name, ())], WORDS.get(name, ()))


TARGETS = [
    _target("query", run_query),
    _target("until", run_until),
    _target("moment", run_moment),
    _target("typed", run_typed),
    _target("words", run_words, allowed=(RedError, SystemExit)),
    _target("frames", run_frames),
    _target("answers", run_answers, b"", allowed=ANSWER),
    _target("layout", run_layout, *SHIPPED),
    _target("config", run_config),
    _target("remembered", run_remembered, allowed=()),
    _target("record", run_record, SHIPPED[0] + RECORD),
    _target("checkpoint", run_checkpoint, made_checkpoint()),
    _target("fold", run_fold, made_fold(), Fold().to_bytes()),
    _target("journal-rows", run_journal_rows, b"\n".join(json.dumps(event.data).encode() for event in _events())),
    _target("journal-file", run_journal_file, JOURNAL),
]
