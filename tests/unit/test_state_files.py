"""What nodes keep, in files: read as it was written, whole after a kill at any moment, and damage is told."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from red_tui.errors import StateFolderError
from red_tui.node_states.host_states import ElsewhereError, HostStates, columns_of, places_of
from red_tui.node_states.kept_states import Kept, KeptStates
from red_tui.node_states.packed_state import PackedState, check_state, opened, packed_state, state_size
from red_tui.node_states.state_files import HEAD, StateDamageError, StateFiles, StatePlace, Stored
from red_tui.node_states.state_index import NAME, StateIndex, StateIndexError
from red_tui.node_states.state_keeper import StateKeeper
from red_tui.nodes.user_code import MethodError

QUICKLY = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


class Node:
    """A node that keeps what it is told to."""

    def __init__(self, state: Any, node_id: str = "client_3") -> None:
        self.state, self.node_id = state, node_id

    def get_state(self) -> Any:
        return self.state


@contextmanager
def disk_of(size: int) -> Iterator[None]:
    """A disk on which no file grows beyond a size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def place_in(folder: Path) -> StatePlace:
    return StatePlace(str(folder / "states"), at_home=False)


# -- the files ---------------------------------------------------------------------------------------


@QUICKLY
@given(states=st.lists(st.tuples(st.integers(0, 9), st.binary(max_size=300)), max_size=30), full=st.integers(1, 900))
def test_states_are_read_as_they_were_written_whatever_file_they_are_in(
    tmp_path_factory: pytest.TempPathFactory, states: list[tuple[int, bytes]], full: int
) -> None:
    folder = tmp_path_factory.mktemp("states")
    files, others = StateFiles(folder, full), StateFiles(folder)
    places = [files.append(row, data) for row, data in states]
    assert [others.read(place) for place in places] == [data for _, data in states]
    scanned = [(row, place) for name in files.names() for row, _, place in files.entries(name)]
    assert scanned == [(row, place) for (row, _), place in zip(states, places, strict=True)]
    for name in files.names():
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    files.close()
    others.close()


@QUICKLY
@given(data=st.data(), states=st.lists(st.binary(min_size=1, max_size=80), min_size=2, max_size=6))
def test_a_changed_byte_harms_one_state_and_no_other(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, states: list[bytes]
) -> None:
    folder = tmp_path_factory.mktemp("states")
    files = StateFiles(folder)
    places = [files.append(row, state) for row, state in enumerate(states)]
    harmed = data.draw(st.integers(0, len(states) - 1))
    at = data.draw(st.integers(places[harmed].offset + HEAD.size, places[harmed].end - 1))
    raw = bytearray((folder / places[0].file).read_bytes())
    raw[at] ^= 0x40
    (folder / places[0].file).write_bytes(raw)
    for row, place in enumerate(places):
        if row == harmed:
            with pytest.raises(StateDamageError, match=f"{place.file} is damaged at byte {place.offset:,}"):
                files.read(place)
        else:
            assert files.read(place) == states[row]
    files.close()


def test_a_file_that_was_cut_short_and_places_that_cannot_be_are_damage(tmp_path: Path) -> None:
    files = StateFiles(tmp_path)
    first, second = files.append(1, b"a" * 100), files.append(2, b"b" * 100)
    os.truncate(tmp_path / first.file, second.end - 1)
    assert files.read(first) == b"a" * 100
    for place in (second, Stored(first.file, -1, 5), Stored(first.file, 3, 100), Stored(first.file, 0, 2**62)):
        with pytest.raises(StateDamageError):
            files.read(place)
    assert [row for row, *_ in files.entries(first.file)] == [1]
    with pytest.raises(FileNotFoundError):
        files.read(Stored("other.states", 0, 5))
    files.close()


def test_a_full_disk_leaves_what_was_written_and_takes_states_again_once_there_is_room(tmp_path: Path) -> None:
    files = StateFiles(tmp_path)
    first = files.append(1, b"a" * 1000)
    with disk_of(1500):
        for _ in range(2):
            with pytest.raises(OSError):
                files.append(2, b"b" * 1000)
    second = files.append(2, b"c" * 1000)
    assert (files.read(first), files.read(second)) == (b"a" * 1000, b"c" * 1000)
    assert second.offset == first.end, "nothing half written stays between them"
    files.close()


def test_files_that_others_could_have_written_are_not_read(tmp_path: Path) -> None:
    files = StateFiles(tmp_path)
    place = files.append(1, b"state")
    (tmp_path / place.file).chmod(0o666)
    with pytest.raises(StateFolderError, match="can be written by other users"):
        files.read(place)
    files.close()


def test_the_folder_is_private_and_lies_below_the_home_of_each_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RED_HOME", str(tmp_path / "home"))
    folder = StatePlace("federations/fed/states", at_home=True).folder()
    assert folder == tmp_path / "home" / "federations" / "fed" / "states"
    assert {stat.S_IMODE(part.stat().st_mode) for part in (folder, folder.parent, folder.parents[1])} == {0o700}
    monkeypatch.setenv("RED_HOME", str(tmp_path / "other"))
    assert StatePlace("federations/fed/states", at_home=True).folder().is_relative_to(tmp_path / "other")
    assert place_in(tmp_path).folder() == tmp_path / "states"


# -- a process's states ------------------------------------------------------------------------------


def test_a_state_goes_to_its_file_and_comes_back_through_any_process(tmp_path: Path) -> None:
    place, writer, reader = place_in(tmp_path), HostStates(), HostStates()
    state = {"rounds": 3, "w": np.arange(5.0)}
    stored = writer.keep(7, Node(state), place)
    assert isinstance(stored, Stored)
    back = opened(PackedState(reader.read(7, stored, place)))
    assert back["rounds"] == 3 and back["w"].tolist() == [0, 1, 2, 3, 4] and back["w"].flags.writeable
    assert writer.keep(7, Node(state), None) is state, "without a place it stays in memory"
    assert writer.keep(7, Node(None), place) is None


def test_a_state_that_is_still_the_same_is_not_written_again(tmp_path: Path) -> None:
    place, host = place_in(tmp_path), HostStates()
    first = host.keep(7, Node({"n": 1}), place)
    assert host.keep(7, Node({"n": 1}), place, known=first) == first
    changed = host.keep(7, Node({"n": 2}), place, known=first)
    assert changed != first
    assert host.keep(7, Node({"n": 1}), place, known=changed) != changed
    other = HostStates()
    other.read(7, first, place)
    assert other.keep(7, Node({"n": 1}), place, known=first) == first, "it was built with this state"
    other.forget([7])
    assert other.keep(7, Node({"n": 1}), place, known=first) != first


def test_a_disk_that_is_full_leaves_the_state_in_memory_and_says_why(tmp_path: Path) -> None:
    place, host = place_in(tmp_path), HostStates()
    with disk_of(10):
        assert host.keep(1, Node({"n": 1}), place) == {"n": 1}
    assert "too large" in host.trouble
    assert isinstance(host.keep(1, Node({"n": 1}), place), Stored) and host.trouble == ""


def test_a_folder_that_cannot_be_made_leaves_states_in_memory(tmp_path: Path) -> None:
    (tmp_path / "states").write_text("a file")
    host = HostStates()
    assert host.keep(1, Node({"n": 1}), place_in(tmp_path)) == {"n": 1}
    assert str(tmp_path / "states") in host.trouble


def test_a_file_of_another_machine_is_told_from_one_that_is_damaged(tmp_path: Path) -> None:
    place, host = place_in(tmp_path), HostStates()
    with pytest.raises(ElsewhereError):
        host.read(1, Stored("gone.states", 0, 4), place)
    stored = host.keep(1, Node("state"), place)
    os.truncate(tmp_path / "states" / stored.file, 3)
    with pytest.raises(StateDamageError):
        HostStates().read(1, stored, place)


def test_what_cannot_be_serialised_is_named_with_its_node_and_its_key(tmp_path: Path) -> None:
    import threading

    state = {"rounds": 3, "optimizer": {"lock": threading.Lock()}}
    expected = r"the state of node 'client_3' cannot be kept on disk: state\['optimizer'\]\['lock'\] is <unlocked"
    with pytest.raises(TypeError, match=expected):
        packed_state(state, "client_3")
    with pytest.raises(TypeError, match=r"cannot be sent to another process: state\[1\] is"):
        check_state([1, threading.Lock()], "client_3")
    for place in (None, place_in(tmp_path)):
        with pytest.raises(MethodError) as caught:
            HostStates().keep(1, Node(state), place)
        assert caught.value.method == "get_state" and "state['optimizer']['lock']" in str(caught.value.error)


@given(
    state=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text() | st.binary(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=12,
    )
)
def test_any_plain_state_comes_back_equal(state: Any) -> None:
    assert opened(PackedState(packed_state(state, "n"))) == state
    assert state_size(state) >= 0


@given(st.dictionaries(st.integers(0, 2**40), st.tuples(st.sampled_from("abc"), st.integers(0), st.integers(0))))
def test_places_travel_as_columns(raw: dict[int, tuple[str, int, int]]) -> None:
    stored = {row: Stored(name, offset % 2**60, size % 2**60) for row, (name, offset, size) in raw.items()}
    assert places_of(columns_of(stored)) == stored
    assert places_of(None) == {}


# -- the index ---------------------------------------------------------------------------------------


def test_the_index_says_after_a_restart_what_it_was_told(tmp_path: Path) -> None:
    index = StateIndex(tmp_path)
    index.put({1: Stored("a", 0, 5), 2: Stored("a", 60, 5), 3: Stored("b", 0, 7)}, "machine", "worker")
    index.put({2: Stored("b", 90, 9)}, "machine", "worker")
    index.leave(1, "client_1")
    index.forget([1])
    index.close()
    again = StateIndex(tmp_path)
    assert again.kept() == {2: Stored("b", 90, 9), 3: Stored("b", 0, 7)}
    assert again.left() == {"client_1": Stored("a", 0, 5)}
    assert again.files() == {
        "a": ("machine", "worker", Stored("a", 60, 5).end),
        "b": ("machine", "worker", Stored("b", 90, 9).end),
    }
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600
    again.close()


@pytest.mark.parametrize("harm", ["text", "pages", "empty", "gone"])
def test_a_damaged_index_is_made_again_from_the_states_of_this_machine(tmp_path: Path, harm: str) -> None:
    files, index = StateFiles(tmp_path, full=200), StateIndex(tmp_path)
    for number in range(3):
        index.put({row: files.append(row, f"{row}:{number}".encode() * 9) for row in range(40)}, "m", "h")
    wanted = index.kept()
    index.close()
    path = tmp_path / NAME
    raw = bytearray(path.read_bytes())
    if harm == "text":
        path.write_text("this is no database, and longer than the head of one is" * 4)
    elif harm == "pages":
        raw[4096:] = os.urandom(len(raw) - 4096)
        path.write_bytes(raw)
    elif harm == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()
    again = StateIndex(tmp_path)
    assert again.kept() == wanted
    assert "was damaged" in again.damage and "40 nodes" in again.damage
    assert list(tmp_path.glob("index-damaged-*.db")) or harm == "gone"
    again.close()
    files.close()


def test_an_index_of_a_later_version_is_not_touched(tmp_path: Path) -> None:
    StateIndex(tmp_path).close()
    with sqlite3.connect(tmp_path / NAME) as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(StateIndexError, match="later red-tui"):
        StateIndex(tmp_path)


WRITER = """
import sys
from pathlib import Path
from red_tui.node_states.state_files import StateFiles
from red_tui.node_states.state_index import StateIndex
folder = Path(sys.argv[1])
files, index = StateFiles(folder, full=20_000), StateIndex(folder)
number = 0
while True:
    number += 1
    index.put({row: files.append(row, b"%d:%d;" % (row, number) * 50) for row in range(20)}, "m", "h")
    print(number, flush=True)
"""


@pytest.mark.parametrize("acknowledged", [1, 7, 30])
def test_a_process_that_is_killed_at_any_moment_has_lost_no_state_that_it_had_noted(
    tmp_path: Path, acknowledged: int
) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    last = 0
    while last < acknowledged:
        last = int(writer.stdout.readline())
    writer.send_signal(signal.SIGKILL)
    last = max([last, *(int(line) for line in writer.stdout.read().splitlines() if line)])
    writer.wait()
    writer.stdout.close()
    index, files = StateIndex(tmp_path), StateFiles(tmp_path)
    kept = index.kept()
    assert sorted(kept) == list(range(20)) and not index.damage
    found = {row: files.read(stored) for row, stored in kept.items()}
    numbers = {int(data.split(b";")[0].split(b":")[1]) for data in found.values()}
    assert len(numbers) == 1 and numbers <= {last, last + 1}, "all rows of one turn, or none"
    number = numbers.pop()
    assert found == {row: b"%d:%d;" % (row, number) * 50 for row in range(20)}
    index.close()
    files.close()


# -- where states lie ----------------------------------------------------------------------------------


def test_states_belong_into_files_once_they_have_outgrown_the_bound() -> None:
    kept = KeptStates(bound=100)
    for row in range(10):
        kept.hold(row, Kept("block", row), 10)
    assert kept.memory == 100 and not kept.outgrown
    kept.hold(3, Kept("newer", 0), 11)
    assert kept.memory == 101 and kept.outgrown
    kept.let_go(3)
    assert kept.memory == 90 and not kept.outgrown
    assert not KeptStates(bound=None).outgrown and KeptStates(bound=0).on_disk


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["hold", "put", "pop", "leave", "join", "move", "dead", "restart"]),
        st.integers(0, 5),
        st.integers(1, 50),
        st.integers(0, 3),
    ),
    max_size=40,
)


@QUICKLY
@given(operations=OPERATIONS)
def test_whatever_happens_no_file_is_cleared_away_in_which_a_state_counts(
    tmp_path_factory: pytest.TempPathFactory, operations: list[tuple[str, int, int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("states")
    kept = KeptStates(bound=0)
    kept.load(StateIndex(folder))
    held: dict[int, int] = {}
    stored: dict[int, Stored] = {}
    left_held: dict[str, int] = {}
    left: dict[str, Stored] = {}
    cleared: set[str] = set()
    for number, (operation, row, size, bundle) in enumerate(operations):
        place = Stored(f"{bundle}-{number // 4}", number * 1000, size)
        if operation == "hold":
            kept.hold(row, Kept("block", row), size)
            held[row] = size
        elif operation == "put" and place.file not in cleared:
            kept.put({row: place}, "m", "h", bundle)
            held.pop(row, None)
            stored[row] = place
        elif operation == "pop":
            kept.pop(row)
            held.pop(row, None)
            stored.pop(row, None)
        elif operation == "leave":
            kept.leave(row, f"n{row}")
            if row in held:
                left_held[f"n{row}"] = held[row]
            elif row in stored:
                left[f"n{row}"] = stored[row]
        elif operation == "join":
            kept.join(row, f"n{row}")
            if f"n{row}" in left:
                held.pop(row, None)
                stored[row] = left.pop(f"n{row}")
            if f"n{row}" in left_held:
                held[row] = left_held.pop(f"n{row}")
        elif operation == "move" and row in stored:
            after = Stored(f"moved-{number}", 0, stored[row].size)
            kept.move({row: (stored[row], after), 99: (place, after)}, "m", "h")
            stored[row] = after
        elif operation == "dead":
            cleared |= kept.dead_files().keys()
        elif operation == "restart":
            assert kept.index is not None
            kept.index.close()
            kept = KeptStates(bound=0)
            kept.load(StateIndex(folder))
            held, left_held = {}, {}
        wanted = {place.file for place in (*stored.values(), *left.values())}
        assert not wanted & cleared
        assert {row: kept.stored(row) for row in range(6)} == {
            row: None if row in held else stored.get(row) for row in range(6)
        }
        assert sorted(kept) == sorted(held.keys() | stored.keys())
        assert sorted(kept.held()) == sorted(held)
        assert kept.disk == sum(one.end - one.offset for one in (*stored.values(), *left.values()))
    assert kept.index is not None
    assert kept.index.kept() == stored and kept.index.left() == left
    kept.index.close()


def test_a_file_that_is_being_written_is_not_cleared_away(tmp_path: Path) -> None:
    kept = KeptStates(bound=0)
    kept.load(StateIndex(tmp_path))
    kept.put({1: Stored("one-0", 0, 5)}, "m", "h", bundle=1)
    kept.put({1: Stored("two-0", 0, 5)}, "m", "h", bundle=2)
    assert not kept.dead_files(), "its host may write the next state behind this one"
    kept.put({2: Stored("one-1", 0, 5)}, "m", "h", bundle=1)
    assert list(kept.dead_files()) == ["one-0"]
    assert kept.index is not None
    kept.index.close()


def test_states_are_moved_out_of_files_that_are_nearly_empty(tmp_path: Path) -> None:
    place, kept = place_in(tmp_path), KeptStates(bound=0)
    folder = place.folder()
    kept.load(StateIndex(folder))
    files, keeper = StateFiles(folder, full=3_000), StateKeeper(place)
    kept.put({row: files.append(row, b"%d" % row * 500) for row in range(40)}, "m", "h")
    kept.put({row: files.append(row, b"new") for row in range(40) if row % 10}, "m", "h")
    files.roll()
    chosen = kept.wasteful(spare=1000)
    rows = {row: stored for places in chosen.values() for row, stored in places.items()}
    assert {row for row in rows if row % 10 == 0} == {0, 10, 20, 30}
    answer = keeper.move(columns_of(rows))
    moved = places_of(answer["stored"])
    assert moved.keys() == rows.keys() and not answer["trouble"]
    kept.move({row: (rows[row], after) for row, after in moved.items()}, "m", "h")
    dead = kept.dead_files()
    assert chosen.keys() <= dead.keys()
    keeper.remove(list(dead))
    assert set(files.names()) == kept.files().keys()
    states, lost = keeper.read(columns_of({row: at for row in range(40) if (at := kept.stored(row))}))
    assert not lost
    assert [state.data for state in states if state] == [
        b"%d" % row * 500 if row % 10 == 0 else b"new" for row in range(40)
    ]
    assert kept.index is not None
    kept.index.close()


def test_a_keeper_tells_what_it_cannot_write_or_read_and_does_the_rest(tmp_path: Path) -> None:
    import threading

    keeper = StateKeeper(place_in(tmp_path))
    block = [{"n": 1}, {"lock": threading.Lock()}, None, PackedState(packed_state("packed", "d"))]
    answer = keeper.write([1, 2, 3, 4], list("abcd"), [(0, index) for index in range(4)], block)
    written = places_of(answer["stored"])
    assert sorted(written) == [1, 4] and answer["trouble"] == ""
    assert answer["refused"][3] == "" and "node 'b'" in answer["refused"][2] and "'lock'" in answer["refused"][2]
    (tmp_path / "states" / "other.states").write_bytes(b"")
    asked = {**written, 5: Stored("gone.states", 0, 4), 6: Stored("other.states", 0, 4)}
    states, lost = keeper.read(columns_of(asked))
    assert [opened(state) for state in states] == [{"n": 1}, "packed", None, None]
    assert "not there" in lost[5] and "damaged" in lost[6]
    assert keeper.has([*(one.file for one in written.values()), "x.states"]) == [written[1].file]
    with disk_of(10):
        assert "too large" in keeper.write([1], ["a"], [(0, None)], "state" * 9)["trouble"]
    keeper.remove_all()
    assert not (tmp_path / "states").exists()
