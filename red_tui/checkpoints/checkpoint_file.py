"""One checkpoint as a safetensors file: named groups of arrays, with notes beside them.

A key is `GROUP/NAME`; the group `parameters` is in every checkpoint.  The notes stand in the metadata of the file:

    format       `red-tui checkpoint 2`; files of format 1 hold parameters only, under their plain names
    federation, layout, version, round
    groups       JSON: names of all groups, those without arrays too
    digests      JSON: SHA-256 of each group
    figures      JSON: what the round measured: loss, metrics, num_examples, seconds
    extra        JSON: further plain data of the round
    sha256       SHA-256 over all of these; in format 1 that of the parameters
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
from safetensors import SafetensorError, safe_open

from red_tui import __version__
from red_tui.errors import CheckpointError
from red_tui.nodes.extension_types import EXTENSION_TYPES, extension_type, from_bits, is_extension

Arrays = Mapping[str, npt.NDArray[Any]]
Groups = Mapping[str, Arrays]

PARAMETERS = "parameters"
"""The group that is in every checkpoint."""

_NUMPY_TYPES = {
    "BOOL": "bool", "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64", "U8": "uint8", "U16": "uint16",
    "U32": "uint32", "U64": "uint64", "F16": "float16", "F32": "float32", "F64": "float64",
    "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
}  # fmt: skip
_FILE_TYPES = {name: code for code, name in _NUMPY_TYPES.items()}

DTYPES = tuple(_FILE_TYPES)
"""Names of the types that a checkpoint holds."""

_FORMAT_1, _FORMAT_2 = "red-tui checkpoint 1", "red-tui checkpoint 2"
_SIGNED = ("format", "federation", "layout", "version", "round", "groups", "digests", "figures", "extra")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_PORTION = 1 << 24
"""Bytes that are written at a time."""

HEAD_LIMIT = 100_000_000
"""Bytes of a head up to which safetensors reads a file."""

AS_THEY_ARE: str = "keep"
AS_FLOAT32: str = "float32"
AS_BITS: str = "bits"
"""How bfloat16 and float8 are read: as the types of `ml_dtypes`, as float32, or as uint16 and uint8."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read and found whole.

    Attributes:
        path: Its file.
        round: The round after which it was written.
        parameters: The parameters, as arrays of their own.
        extra: What `save` was given beside them.
        federation: Id of the federation.
        layout: Digest of the layout that it ran.
        version: Version of red-tui that wrote it.
        digest: SHA-256 over names, types, shapes and bytes of the parameters.
        groups: Further arrays by group and name, such as `groups["strategy"]`.  A checkpoint of format 1 has none.
        figures: What the round measured: `loss`, and what nodes reported, by name.
        format: 1 or 2.
    """

    path: Path
    round: int
    parameters: dict[str, npt.NDArray[Any]]
    extra: Mapping[str, Any]
    federation: str
    layout: str
    version: str
    digest: str
    groups: Mapping[str, dict[str, npt.NDArray[Any]]] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    format: int = 2


@dataclass(frozen=True)
class TensorPlace:
    """Where an array lies in a file."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
    size: int


@dataclass(frozen=True)
class CheckpointNotes:
    """What a checkpoint says of itself: its head, without its arrays.

    Attributes:
        path: Its file.
        format: 1 or 2.
        round: The round after which it was written.
        federation: Id of the federation.
        layout: Digest of the layout that it ran.
        version: Version of red-tui that wrote it.
        figures: What the round measured, by name.
        extra: What `save` was given beside the arrays.
        groups: Names of its groups.
        digests: SHA-256 of each group.
        places: Where each array lies, by group and name.
        size: Bytes of the file.
    """

    path: Path
    format: int
    round: int
    federation: str
    layout: str
    version: str
    figures: Mapping[str, float]
    extra: Mapping[str, Any]
    groups: tuple[str, ...]
    digests: Mapping[str, str]
    places: Mapping[tuple[str, str], TensorPlace]
    size: int


# -- writing -------------------------------------------------------------------------------------------


def notes_of(
    groups: Groups, *, federation: str, layout: str, round_number: int, figures: Mapping[str, float], extra: Any
) -> tuple[dict[str, str], dict[str, str]]:
    """The metadata of a file, and the digests of its groups."""
    digests = {name: digest_of(arrays) for name, arrays in groups.items()}
    notes = {
        "format": _FORMAT_2,
        "federation": federation,
        "round": str(round_number),
        "layout": layout,
        "version": __version__,
        "groups": json.dumps(list(groups)),
        "digests": json.dumps(digests),
        "figures": json.dumps({name: float(value) for name, value in figures.items() if np.isfinite(value)}),
        "extra": json.dumps(extra or {}, default=_plain),
    }
    notes["sha256"] = _signature(notes)
    return notes, digests


def keyed(groups: Groups) -> dict[str, npt.NDArray[Any]]:
    """Arrays of all groups under the keys of a file."""
    return {f"{group}/{name}": array for group, arrays in groups.items() for name, array in arrays.items()}


def write_file(path: Path, arrays: Arrays, metadata: Mapping[str, str]) -> int:
    """Write a new safetensors file of mode 0600, to the disk itself; gives its size.

    Arrays lie in it as the format wants them, by the size of their numbers; its head names them in their own order.

    Args:
        path: Where; nothing may be there.
        arrays: As `storable` gives them, by the keys of the file.
        metadata: Texts by name.

    Raises:
        CheckpointError: If it has so many arrays that nobody could read it; nothing is written then.
        OSError: If the disk refuses it.
    """
    order = sorted(arrays, key=lambda key: (-arrays[key].dtype.itemsize, key))
    head: dict[str, Any] = {"__metadata__": dict(metadata), **dict.fromkeys(arrays)}
    end = 0
    for key in order:
        array = arrays[key]
        head[key] = {
            "dtype": _FILE_TYPES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [end, end + array.nbytes],
        }
        end += array.nbytes
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > HEAD_LIMIT:
        raise CheckpointError(
            f"the names, types and shapes of {len(arrays):,} arrays take {len(text):,} bytes of a file's head, of which"
            f" safetensors reads up to {HEAD_LIMIT:,}: keep fewer and larger arrays",
            file=str(path),
        )
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
        _write_all(descriptor, memoryview(len(text).to_bytes(8, "little") + text))
        for key in order:
            if arrays[key].size:
                _write_all(descriptor, arrays[key].reshape(-1).view(np.uint8).data)
        os.fsync(descriptor)
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: memoryview) -> None:
    done = 0
    while done < len(data):
        done += os.write(descriptor, data[done : done + _PORTION])


def storable(name: Any, value: Any, what: str, target: Path) -> npt.NDArray[Any]:
    """An array as a file takes it: dense, in rows, of little bytes first.

    Args:
        name: Its name.
        value: What was given under it.
        what: What such arrays are, for the message: `parameter`.
        target: The file, for the message.

    Raises:
        CheckpointError: If a checkpoint cannot hold it.
    """
    if not isinstance(name, str) or name == "__metadata__" or _LONE_SURROGATE.search(name):
        raise CheckpointError(f"{name!r} cannot name a {what} in a checkpoint: use another text", file=str(target))
    array = np.asarray(value)
    if array.dtype.name not in _FILE_TYPES:
        raise CheckpointError(
            f"{what} {name!r} is {array.dtype}: a checkpoint holds bool, int8 to int64, uint8 to uint64, float16 to"
            f" float64, {', '.join(EXTENSION_TYPES)}; convert it (complex to two real arrays)",
            file=str(target),
        )
    if is_extension(array.dtype):
        return np.asarray(array, order="C")
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")


def digest_of(arrays: Arrays) -> str:
    """SHA-256 over names, types, shapes and bytes of arrays, whatever their order."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(json.dumps([name, array.dtype.name, list(array.shape)]).encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


STATE_GROUPS = ("strategy", "server")
"""Groups of what a server keeps for the next round."""


def state_digest(digests: Mapping[str, str]) -> str:
    """One digest of what a server keeps for the next round, of those of the groups; empty where it keeps nothing."""
    told = [[name, digests[name]] for name in STATE_GROUPS if name in digests]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest() if told else ""


def round_digests(groups: Groups) -> dict[str, str]:
    """What a round's record says of its bytes: `parameters`, and `state` (empty where a server keeps nothing).

    They are those of the round's checkpoint, so that records and files can be compared.
    """
    digests = {name: digest_of(arrays) for name, arrays in groups.items()}
    return {PARAMETERS: digests[PARAMETERS], "state": state_digest(digests)}


def _signature(notes: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps([notes[key] for key in _SIGNED]).encode()).hexdigest()


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)


# -- reading -------------------------------------------------------------------------------------------

_UNREADABLE = (SafetensorError, KeyError, TypeError, ValueError, RecursionError, MemoryError, OverflowError)


def read_notes(path: Path) -> CheckpointNotes:
    """What a checkpoint says of itself; its arrays are not looked at.

    Raises:
        CheckpointError: If it is truncated or no checkpoint; the message names the file.
    """
    with _in_words(path):
        metadata, size = _head_of(path)
        if not is_format(metadata, path):
            raise foreign(path, "it was not written by red-tui")
        return _parsed(path, metadata, size)


def is_format(metadata: Mapping[str, str], path: Path) -> bool:
    """Whether a safetensors file with this metadata is a checkpoint.

    Raises:
        CheckpointError: If a later red-tui wrote it.
    """
    written = metadata.get("format", "")
    if written.startswith("red-tui checkpoint ") and written not in (_FORMAT_1, _FORMAT_2):
        raise CheckpointError(
            f"{path} is of the format {written.rpartition(' ')[2]!r}, which a later red-tui wrote: use that"
            f" one in place of {__version__}",
            file=str(path),
        )
    return written in (_FORMAT_1, _FORMAT_2)


def read_parameters(path: Path, extension: str = AS_THEY_ARE) -> dict[str, npt.NDArray[Any]]:
    """The parameters of a checkpoint, or all arrays of a safetensors file that another program wrote.

    Raises:
        CheckpointError: If it is truncated, damaged, no such file, or of a type that cannot be had here.
    """
    with _in_words(path):
        metadata, size = _head_of(path)
        if not is_format(metadata, path):
            _check_size(path, size)
            places = places_of(path)
            for name, place in places.items():
                if place.dtype not in _NUMPY_TYPES:
                    raise CheckpointError(
                        f"{path}: {name!r} is {place.dtype}, which numpy has no type for: convert it to float32 where"
                        " it was written",
                        file=str(path),
                    )
            return {
                name: _read_as(bits, places[name].dtype, name, path, extension)
                for name, bits in read_arrays(path, places).items()
            }
    return read_checkpoint(path, extension).parameters


@contextlib.contextmanager
def _in_words(path: Path) -> Iterator[None]:
    """What goes wrong while a file is read, as a CheckpointError that names it."""
    try:
        yield
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: there is no such checkpoint", file=str(path)) from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}", file=str(path)) from error
    except _UNREADABLE as error:
        raise CheckpointError(
            f"{path} is truncated or no checkpoint ({type(error).__name__}: {error})", file=str(path)
        ) from error


def _head_of(path: Path) -> tuple[Mapping[str, str], int]:
    """The metadata of a safetensors file whose head is sound, and the bytes of the file."""
    size = _size_of(path)
    with safe_open(path, framework="np") as file:
        return file.metadata() or {}, size


def _size_of(path: Path) -> int:
    entry = path.stat()
    if not stat.S_ISREG(entry.st_mode):
        raise CheckpointError(f"{path} is no file", file=str(path))
    return entry.st_size


def _parsed(path: Path, metadata: Mapping[str, str], size: int) -> CheckpointNotes:
    places = places_of(path)
    number, extra = int(metadata["round"]), json.loads(metadata["extra"])
    federation, layout, version = (metadata[key] for key in ("federation", "layout", "version"))
    if metadata["format"] == _FORMAT_1:
        split = {(PARAMETERS, key): place for key, place in places.items()}
        digests = {PARAMETERS: metadata["sha256"]}
        return CheckpointNotes(
            path, 1, number, federation, layout, version, {}, extra, (PARAMETERS,), digests, split, size
        )
    if _signature(metadata) != metadata["sha256"]:
        raise CheckpointError(f"{path} is damaged: its notes are not those that were written", file=str(path))
    groups, digests = tuple(map(str, json.loads(metadata["groups"]))), json.loads(metadata["digests"])
    keys = {key: key.partition("/") for key in places}
    split = {(group, name): places[key] for key, (group, _, name) in keys.items()}
    if {group for group, _ in split} - {*groups} or {*groups} != {*digests} or PARAMETERS not in groups:
        raise ValueError("its groups are not those that it names")
    figures = json.loads(metadata["figures"])
    return CheckpointNotes(path, 2, number, federation, layout, version, figures, extra, groups, digests, split, size)


def places_of(path: Path) -> dict[str, TensorPlace]:
    """Where each array of a safetensors file lies, by its key; `safe_open` has found that the head is sound."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        head = json.loads(file.read(length))
    found = {}
    for key, entry in head.items():
        if key != "__metadata__":
            first, stop = entry["data_offsets"]
            found[key] = TensorPlace(entry["dtype"], tuple(entry["shape"]), 8 + length + first, stop - first)
    return found


def read_checkpoint(path: Path, extension: str = AS_THEY_ARE) -> Checkpoint:
    """Read a checkpoint and look whether it is whole.

    Args:
        path: Its file.
        extension: How bfloat16 and float8 are read: `keep` (types of `ml_dtypes`), `float32`, or `bits`.

    Raises:
        CheckpointError: If it is truncated, damaged, no checkpoint, or of a type that cannot be had here.
    """
    notes = read_notes(path)
    with _in_words(path):
        _check_size(path, notes.size)
        stored = read_arrays(path, notes.places)
        groups: dict[str, dict[str, npt.NDArray[Any]]] = {group: {} for group in notes.groups}
        for (group, name), bits in stored.items():
            groups[group][name] = bits
        for group, arrays in groups.items():
            types = {name: notes.places[group, name].dtype for name in arrays}
            if _digest_of_bits(arrays, types) != notes.digests[group]:
                raise CheckpointError(f"{path} is damaged: its {group} are not those that were written", file=str(path))
            groups[group] = {name: _read_as(bits, types[name], name, path, extension) for name, bits in arrays.items()}
    parameters = groups.pop(PARAMETERS)
    return Checkpoint(
        path,
        notes.round,
        parameters,
        notes.extra,
        notes.federation,
        notes.layout,
        notes.version,
        notes.digests[PARAMETERS],
        groups,
        notes.figures,
        notes.format,
    )


def read_arrays(path: Path, places: Mapping[Any, TensorPlace]) -> dict[Any, npt.NDArray[Any]]:
    """The arrays of a file; those of an extension type as their bits, uint16 or uint8."""
    arrays = {}
    with path.open("rb") as file:
        for key, place in places.items():
            name = _NUMPY_TYPES[place.dtype]
            width = EXTENSION_TYPES.get(name)
            array = np.empty(place.shape, dtype=f"<u{width}" if width else np.dtype(name).newbyteorder("<"))
            if array.nbytes != place.size:
                raise ValueError(f"{key!r} has {place.size} bytes, and its shape says {array.nbytes}")
            file.seek(place.offset)
            if array.size and file.readinto(array.reshape(-1).view(np.uint8).data) != place.size:
                raise ValueError(f"{key!r} ends before its last number")
            arrays[key] = np.asarray(array, dtype=array.dtype.newbyteorder("="))
    return arrays


def _digest_of_bits(arrays: Arrays, types: Mapping[str, str]) -> str:
    """`digest_of`, for arrays of which those of an extension type are given as bits."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(json.dumps([name, _NUMPY_TYPES[types[name]], list(array.shape)]).encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _read_as(bits: npt.NDArray[Any], code: str, name: str, path: Path, extension: str) -> npt.NDArray[Any]:
    """An array that was read, in the type that is wanted."""
    dtype = _NUMPY_TYPES[code]
    if dtype not in EXTENSION_TYPES or extension == AS_BITS:
        return bits
    if extension == AS_FLOAT32:
        return from_bits(bits, dtype)
    try:
        return bits.view(extension_type(dtype))
    except ModuleNotFoundError as error:
        raise CheckpointError(
            f"{path}: {name!r} is {dtype}, a type of ml_dtypes, which is not installed here: `pip install ml_dtypes`,"
            " or read it as float32 (red.load_parameters(…, extension='float32'))",
            file=str(path),
        ) from error


def _check_size(path: Path, size: int) -> None:
    """Raise CheckpointError if a file holds more than there is memory for: its header is believed up to its size."""
    free = psutil.virtual_memory().available
    if size > free:
        raise CheckpointError(
            f"{path} claims {size:,} bytes of parameters, and this host has {free:,} bytes of memory left",
            file=str(path),
        )


def foreign(path: Path, why: str) -> CheckpointError:
    """The error of a file that is not this federation's."""
    return CheckpointError(f"{path} is no checkpoint of this federation: {why}", file=str(path))
