from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from red_tui import __version__
from red_tui.checkpoints import checkpoint_file
from red_tui.checkpoints.checkpoint_file import DTYPES, read_checkpoint, read_notes
from red_tui.checkpoints.checkpoint_folder import Checkpoints
from red_tui.errors import CheckpointError
from red_tui.nodes.extension_types import EXTENSION_TYPES, from_bits

SIMPLE = {"w": np.arange(6.0).reshape(2, 3), "steps": np.array(7)}


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints", federation="digits", layout="abc")


def assert_same(found: dict[str, Any], given: dict[str, Any]) -> None:
    assert set(found) == set(given)
    for name, value in given.items():
        array = np.asarray(value)
        assert found[name].shape == array.shape and found[name].dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(found[name], array)


# -- what comes back -------------------------------------------------------------------------------


def test_a_checkpoint_comes_back_with_all_that_belongs_to_it(checkpoints: Checkpoints) -> None:
    saved = checkpoints.save(14, SIMPLE, {"momentum": np.float32(0.5), "names": ["a"]})
    found = checkpoints.latest()
    assert found.refused == {} and found.checkpoint is not None
    one = found.checkpoint
    assert_same(one.parameters, SIMPLE)
    assert (one.round, one.extra) == (14, {"momentum": 0.5, "names": ["a"]})
    assert (one.federation, one.layout, one.version) == ("digits", "abc", __version__)
    assert one.path == saved.path == checkpoints.folder / "round-000014.safetensors"
    assert saved.to_wire() == {
        "round": 14,
        "file": "round-000014.safetensors",
        "digest": one.digest,
        "size": saved.path.stat().st_size,
    }
    assert one.parameters["w"].flags.writeable


def test_arrays_come_back_in_their_order(checkpoints: Checkpoints) -> None:
    """A server that draws noise for one array after another draws the same after it was resumed."""
    order = ["w", "n", "b", "half", "a", "flag"]
    types = [np.float64, np.int64, np.float32, np.float16, np.float64, np.bool_]
    arrays = {name: np.ones(3, kind) for name, kind in zip(order, types, strict=True)}
    saved = checkpoints.save(1, arrays, groups={"strategy": dict(reversed(arrays.items()))})
    one = checkpoints.load(saved.path)
    assert list(one.parameters) == order and list(one.groups["strategy"]) == order[::-1]
    assert_same(one.parameters, arrays)
    with safe_open(saved.path, framework="np") as file:
        assert {str(file.get_tensor(f"parameters/{name}").dtype) for name in "wa"} == {"float64"}


def test_groups_come_back_beside_the_parameters_each_under_its_own_names(checkpoints: Checkpoints) -> None:
    strategy = {"m/w": np.ones((2, 3)), "w": np.float64(2.0), "t": np.array(3)}
    figures = {"loss": 0.25, "accuracy": np.float32(0.5), "lost": float("nan")}
    checkpoints.save(2, SIMPLE, {"seed": 7}, {"strategy": strategy, "nodes": {}}, figures)
    one = checkpoints.latest().checkpoint
    assert one is not None and one.format == 2 and set(one.groups) == {"strategy", "nodes"}
    assert_same(one.parameters, SIMPLE)
    assert_same(one.groups["strategy"], strategy)
    assert one.groups["nodes"] == {}
    assert one.figures == {"loss": 0.25, "accuracy": 0.5}
    notes = read_notes(one.path)
    assert (notes.round, notes.groups, notes.figures) == (2, ("parameters", "strategy", "nodes"), one.figures)
    assert notes.digests["parameters"] == one.digest and notes.size == one.path.stat().st_size


def test_a_group_that_cannot_be_kept_is_said_and_nothing_is_lost(checkpoints: Checkpoints) -> None:
    checkpoints.save(1, SIMPLE)
    for name in ("parameters", "", "Strategy", "a/b", 3):
        with pytest.raises(CheckpointError, match="cannot name a group"):
            checkpoints.save(2, SIMPLE, groups={name: {}})  # type: ignore[dict-item]
    with pytest.raises(CheckpointError, match="strategy array 'm' is object: a checkpoint holds bool"):
        checkpoints.save(2, SIMPLE, groups={"strategy": {"m": np.array([None])}})
    assert list(checkpoints.files()) == [1]


def test_a_head_that_nobody_reads_is_refused_before_a_file_that_can_be_read_goes(
    checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = Checkpoints(checkpoints.folder, keep=1, federation="digits", layout="abc")
    checkpoints.save(1, SIMPLE)
    monkeypatch.setattr(checkpoint_file, "HEAD_LIMIT", 20_000)
    many = {str(place): np.zeros(1) for place in range(400)}
    with pytest.raises(CheckpointError, match=r"shapes of 402 arrays take .* of which safetensors reads up to 20,000"):
        checkpoints.save(2, SIMPLE, groups={"nodes": many})
    assert [path.name for path in checkpoints.folder.iterdir()] == ["round-000001.safetensors"]
    checkpoints.save(2, SIMPLE)
    assert list(checkpoints.files()) == [2], "without them it is written"


def test_it_is_safetensors_that_says_how_long_a_head_may_be(tmp_path: Path) -> None:
    for length, words in ((checkpoint_file.HEAD_LIMIT + 1, "too large"), (checkpoint_file.HEAD_LIMIT, "header length")):
        (tmp_path / "cut").write_bytes(length.to_bytes(8, "little") + b"{}")
        with pytest.raises(SafetensorError, match=words), safe_open(tmp_path / "cut", framework="np"):
            pass


def test_files_of_earlier_versions_are_read() -> None:
    folder = Path(__file__).parents[1] / "fixtures" / "version_0_1"
    files = sorted(folder.glob("*/checkpoints/*.safetensors"))
    assert len(files) == 7
    for path in files:
        one = read_checkpoint(path)
        assert (one.format, one.groups, one.version) == (
            1,
            {},
            "0.1.0",
        ) and path.name == f"round-{one.round:06d}.safetensors"
        with safe_open(path, framework="np") as file:
            assert_same(one.parameters, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118


def test_a_file_of_a_later_format_says_so(checkpoints: Checkpoints, tmp_path: Path) -> None:
    save_file(SIMPLE, tmp_path / "later.safetensors", metadata={"format": "red-tui checkpoint 3"})
    with pytest.raises(CheckpointError, match="format '3', which a later red-tui wrote"):
        checkpoints.load(tmp_path / "later.safetensors")


# -- bfloat16 and float8 ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXTENSION_TYPES)
def test_all_bits_of_an_extension_type_come_back(checkpoints: Checkpoints, name: str) -> None:
    width = EXTENSION_TYPES[name]
    bits = np.arange(256**width, dtype=f"u{width}")
    given = bits.view(getattr(ml_dtypes, name))
    checkpoints.save(1, {"w": given.reshape(2, -1), "one": given[1], "none": given[:0], "strided": given[::-3]})
    one = checkpoints.latest().checkpoint
    assert one is not None and {array.dtype.name for array in one.parameters.values()} == {name}
    np.testing.assert_array_equal(one.parameters["w"].view(bits.dtype), bits.reshape(2, -1))
    np.testing.assert_array_equal(one.parameters["strided"].view(bits.dtype), bits[::-3])
    assert one.parameters["one"].shape == () and one.parameters["none"].shape == (0,)
    as_bits, wide = (read_checkpoint(one.path, extension).parameters["w"] for extension in ("bits", "float32"))
    np.testing.assert_array_equal(as_bits, bits.reshape(2, -1))
    np.testing.assert_array_equal(wide, given.astype(np.float32).reshape(2, -1))
    assert wide.dtype == np.float32
    np.testing.assert_array_equal(from_bits(bits[:0], name), np.empty(0, np.float32))


WITHOUT = """
import sys
sys.modules["ml_dtypes"] = None
from pathlib import Path
from red_tui.checkpoints.checkpoint_file import read_checkpoint
from red_tui.errors import CheckpointError
try:
    read_checkpoint(Path(sys.argv[1]))
except CheckpointError as error:
    print(error.message)
print(read_checkpoint(Path(sys.argv[1]), "float32").parameters["w"].tolist())
"""


def test_without_ml_dtypes_it_is_said_what_to_do_and_the_numbers_are_there(checkpoints: Checkpoints) -> None:
    saved = checkpoints.save(1, {"w": np.array([1.5, -0.25], ml_dtypes.bfloat16)})
    done = subprocess.run([sys.executable, "-c", WITHOUT, str(saved.path)], capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    said, numbers = done.stdout.splitlines()
    assert "'w' is bfloat16, a type of ml_dtypes, which is not installed here: `pip install ml_dtypes`" in said
    assert numbers == "[1.5, -0.25]"


def test_files_are_private_to_their_owner(checkpoints: Checkpoints) -> None:
    before = os.umask(0)
    try:
        saved = checkpoints.save(1, SIMPLE)
    finally:
        os.umask(before)
    assert stat.S_IMODE(saved.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(checkpoints.folder.stat().st_mode) == 0o700


arrays = st.sampled_from([name for name in DTYPES if name not in EXTENSION_TYPES]).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__"), arrays, max_size=4))
def test_every_type_and_shape_comes_back(tmp_path_factory: pytest.TempPathFactory, given: dict[str, Any]) -> None:
    checkpoints = Checkpoints(tmp_path_factory.getbasetemp() / "every-type", keep=1)
    checkpoints.save(1, given)
    found = checkpoints.latest().checkpoint
    assert found is not None
    assert_same(found.parameters, given)


def test_views_and_foreign_byte_orders_come_back_as_their_values(checkpoints: Checkpoints) -> None:
    grid = np.arange(24).reshape(4, 6)
    given = {
        "strided": grid[::2, ::-1], "transposed": grid.T, "big": np.arange(3, dtype=">f4"), "number": np.float32(2.5),
        "empty": np.zeros((0, 4)), "list": [1.0, 2.0],
    }  # fmt: skip
    checkpoints.save(1, given)
    found = checkpoints.latest().checkpoint
    assert found is not None
    assert_same(found.parameters, given)


@pytest.mark.parametrize("dtype", ["c8", "c16", "g", "U1", "O", "M8[s]", [("a", "i4")], "V2"])
def test_what_a_checkpoint_cannot_hold_is_said_by_name(checkpoints: Checkpoints, dtype: Any) -> None:
    checkpoints.save(1, SIMPLE)
    with pytest.raises(CheckpointError, match=r"parameter 'w' is .*: a checkpoint holds bool, int8 to int64"):
        checkpoints.save(2, {"w": np.zeros(2, dtype)})
    with pytest.raises(CheckpointError, match="cannot name a parameter"):
        checkpoints.save(2, {"__metadata__": np.zeros(2)})
    assert list(checkpoints.files()) == [1]


def test_an_actor_may_be_sent_one(checkpoints: Checkpoints) -> None:
    assert pickle.loads(pickle.dumps(checkpoints)) == checkpoints


# -- which one counts ------------------------------------------------------------------------------


def test_the_last_ones_stay(checkpoints: Checkpoints) -> None:
    for number in (1, 2, 3, 4, 1_000_000):
        checkpoints.save(number, SIMPLE)
    assert list(checkpoints.files()) == [3, 4, 1_000_000]
    assert checkpoints.path(1_000_000).name == "round-1000000.safetensors"


def test_a_run_that_goes_on_from_an_earlier_round_keeps_its_own(checkpoints: Checkpoints) -> None:
    for number in (7, 8, 9):
        checkpoints.save(number, {"w": np.zeros(1)})
    for number in (4, 5, 6, 7):
        checkpoints.save(number, {"w": np.ones(1)})
    assert list(checkpoints.files()) == [5, 6, 7, 8, 9]
    found = checkpoints.latest(at_most=7).checkpoint
    assert found is not None and found.round == 7 and found.parameters["w"] == 1


def test_without_any_there_is_none(checkpoints: Checkpoints) -> None:
    assert checkpoints.latest().checkpoint is None and checkpoints.files() == {}
    checkpoints.save(3, SIMPLE)
    assert checkpoints.latest(at_most=2).checkpoint is None


def damaged_truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def damaged_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


def damaged_empty(path: Path) -> None:
    path.write_bytes(b"")


def damaged_text(path: Path) -> None:
    path.write_text("these are no parameters at all, for certain")


def damaged_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-4] ^= 16
    path.write_bytes(content)


def damaged_figures(path: Path) -> None:
    """A loss that is not the one which was written."""
    content = path.read_bytes()
    assert content.count(b"0.125") == 1
    path.write_bytes(content.replace(b"0.125", b"0.025"))


def damaged_foreign(path: Path) -> None:
    save_file(SIMPLE, path)


def damaged_other_federation(path: Path) -> None:
    other = Checkpoints(path.parent / "other", federation="letters").save(3, SIMPLE)
    os.replace(other.path, path)


def damaged_other_round(path: Path) -> None:
    shutil.copy(path.with_name("round-000002.safetensors"), path)


def damaged_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def damaged_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def damaged_claim(path: Path) -> None:
    """A header of 200 bytes that claims eight terabytes; the file is as long, with nothing in it."""
    size = 1 << 43
    metadata = {"format": "red-tui checkpoint 1", "federation": "digits", "round": "3", "layout": "", "extra": "{}"}
    metadata |= {"version": "", "sha256": ""}
    head = json.dumps({"__metadata__": metadata, "w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}})
    path.write_bytes(len(head).to_bytes(8, "little") + head.encode())
    os.truncate(path, 8 + len(head) + size)


def damaged_claim_beyond_the_file(path: Path) -> None:
    head = json.dumps({"w": {"dtype": "F64", "shape": [1 << 40], "data_offsets": [0, 1 << 43]}})
    path.write_bytes(len(head).to_bytes(8, "little") + head.encode())


def damaged_notes(path: Path) -> None:
    """Notes beside the parameters that are nested without end."""
    with safe_open(path, framework="np") as file:
        metadata = {**file.metadata(), "extra": "[" * 100_000}
        parameters = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(parameters, path, metadata=metadata)


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (damaged_claim, "claims 8,796,093,022"),
        (damaged_claim_beyond_the_file, "is truncated or no checkpoint"),
        (damaged_notes, "is truncated or no checkpoint"),
        (damaged_truncated, "is truncated or no checkpoint"),
        (damaged_header, "is truncated or no checkpoint"),
        (damaged_empty, "is truncated or no checkpoint"),
        (damaged_text, "is truncated or no checkpoint"),
        (damaged_bit, "is damaged: its parameters are not those that were written"),
        (damaged_figures, "is damaged: its notes are not those that were written"),
        (damaged_foreign, "it was not written by red-tui"),
        (damaged_other_federation, "it belongs to federation 'letters', not 'digits'"),
        (damaged_other_round, "it holds round 2"),
        (damaged_folder, "is no file"),
        (damaged_link, "there is no such checkpoint"),
    ],
)
def test_what_is_not_whole_is_refused_by_name_and_the_one_before_is_used(
    checkpoints: Checkpoints, damage: Any, why: str
) -> None:
    for number in (1, 2, 3):
        checkpoints.save(number, {"w": np.full(5, float(number))}, figures={"loss": 0.125})
    damage(checkpoints.path(3))
    found = checkpoints.latest()
    assert found.checkpoint is not None and found.checkpoint.round == 2
    assert list(found.refused) == ["round-000003.safetensors"]
    assert "round-000003.safetensors" in found.refused["round-000003.safetensors"]
    assert why in found.refused["round-000003.safetensors"]
    with pytest.raises(CheckpointError, match=r"round-000003\.safetensors"):
        checkpoints.load(checkpoints.path(3))


def test_a_layout_may_change_between_checkpoint_and_resume(checkpoints: Checkpoints) -> None:
    checkpoints.save(1, SIMPLE)
    found = Checkpoints(checkpoints.folder, federation="digits", layout="other").latest().checkpoint
    assert found is not None and found.layout == "abc"


# -- when the process is killed, or the disk is full -------------------------------------------------

CHILD = """
import json, os, signal, sys
from pathlib import Path
import numpy as np
import red_tui.checkpoints.checkpoint_folder as module
from red_tui.checkpoints.checkpoint_folder import CheckpointError, Checkpoints

checkpoints = Checkpoints(Path(sys.argv[1]), federation="digits")
told = {}

def parameters(number, size=500_000):
    return {"w": np.full(size, float(number))}
"""

WRITER = """
number = int(sys.argv[2])
while True:
    number += 1
    checkpoints.save(number, parameters(number))
    os.write(1, b"%d\\n" % number)
"""

KILLED_AT = """
checkpoints.save(1, parameters(1))
checkpoints.save(2, parameters(2))
owner, name, when = {
    "before it writes": (module, "write_file", "before"),
    "before it flushes": (os, "fsync", "before"),
    "before it names": (os, "replace", "before"),
    "after it names": (os, "replace", "after"),
    "before it lets go": (Checkpoints, "_let_go", "before"),
}[sys.argv[2]]
really = getattr(owner, name)

def killing(*args, **kwargs):
    if when == "after":
        really(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(owner, name, killing)
checkpoints.save(3, parameters(3))
"""

FULL = """
import resource
checkpoints.save(1, parameters(1))
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
try:
    checkpoints.save(2, parameters(2))
except CheckpointError as error:
    told["error"] = error.message
told["left"] = sorted(os.listdir(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
checkpoints.save(3, parameters(3))
print(json.dumps(told))
"""


def whole(folder: Path) -> int:
    """The round of the last good checkpoint, whose parameters are those of that round."""
    found = Checkpoints(folder, federation="digits").latest()
    assert found.refused == {} and found.checkpoint is not None
    assert (found.checkpoint.parameters["w"] == found.checkpoint.round).all()
    return found.checkpoint.round


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_process_leaves_the_last_good_one(tmp_path: Path, seed: int) -> None:
    chance, last = random.Random(seed), 0
    for _ in range(3):
        command = [sys.executable, "-c", CHILD + WRITER, str(tmp_path), str(last)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert child.stdout is not None
        said, wanted = last, last + chance.randrange(1, 8)
        for line in child.stdout:
            said = max(said, int(line))
            if said >= wanted:
                child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        last = whole(tmp_path)
        assert last - said in (0, 1)


@pytest.mark.parametrize(
    ("point", "good"),
    [
        ("before it writes", 2),
        ("before it flushes", 2),
        ("before it names", 2),
        ("after it names", 3),
        ("before it lets go", 3),
    ],
)
def test_wherever_a_save_is_killed_the_last_good_one_is_there(tmp_path: Path, point: str, good: int) -> None:
    done = subprocess.run([sys.executable, "-c", CHILD + KILLED_AT, str(tmp_path), point], timeout=150)
    assert done.returncode == -signal.SIGKILL
    assert whole(tmp_path) == good
    Checkpoints(tmp_path, federation="digits").save(4, {"w": np.full(3, 4.0)})
    assert [name for name in os.listdir(tmp_path) if not name.startswith("round-")] == []
    assert whole(tmp_path) == 4


def test_a_full_disk_costs_only_the_checkpoint_that_it_refuses(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CHILD + FULL, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert "the checkpoint of round 2 could not be written" in told["error"]
    assert "older checkpoints are as they were" in told["error"]
    assert told["left"] == ["round-000001.safetensors"]
    assert whole(tmp_path) == 3


def test_a_folder_that_is_in_the_way_is_said(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file")
    with pytest.raises(CheckpointError, match="could not be written"):
        Checkpoints(tmp_path / "checkpoints").save(1, SIMPLE)
    with pytest.raises(CheckpointError, match="cannot be read"):
        Checkpoints(tmp_path / "checkpoints").latest()
    with pytest.raises(CheckpointError, match="at least 1 checkpoint is kept, not 0"):
        Checkpoints(tmp_path, keep=0)
