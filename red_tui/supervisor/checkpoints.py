"""Checkpoints of a federation's parameters: one safetensors file a round, whole or not there at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from red_tui import __version__
from red_tui.errors import RedError, StateFolderError
from red_tui.rounds.ray_calls import answer_of
from red_tui.state_folder import private_folder

Parameters = Mapping[str, npt.NDArray[Any]]

DTYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64",
)  # fmt: skip
"""What a checkpoint holds."""

_NAME = re.compile(r"round-(\d{6,})\.safetensors\Z")
_ASIDE = ".aside-"
_FORMAT = "red-tui checkpoint 1"


class CheckpointError(RedError):
    """A checkpoint cannot be written or used.  Field: file."""


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
    """

    path: Path
    round: int
    parameters: dict[str, npt.NDArray[Any]]
    extra: Mapping[str, Any]
    federation: str
    layout: str
    version: str
    digest: str


@dataclass(frozen=True)
class Saved:
    """A checkpoint that was written: what the journal notes of it."""

    round: int
    path: Path
    digest: str
    size: int

    def to_wire(self) -> dict[str, Any]:
        """Plain data for the `checkpoint` of an event."""
        return {"round": self.round, "file": self.path.name, "digest": self.digest, "size": self.size}


@dataclass(frozen=True)
class FoundCheckpoint:
    """The last good checkpoint, if there is one, and those after it that were refused.

    Attributes:
        checkpoint: The last good one, or None.
        refused: Why each newer file was refused, by its name, newest first.
    """

    checkpoint: Checkpoint | None
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one federation in one folder.  One process writes them at a time.

    It is plain data: an actor may be sent one and save from the process that has the parameters, on the
    machine of the folder or where the folder is shared.

    Attributes:
        folder: Where they are; made with mode 0700 when the first is written.
        keep: How many of the last ones stay.
        federation: Id of the federation; a checkpoint of another is refused.
        layout: Digest of the layout, noted in each file.
    """

    folder: Path
    keep: int = 3
    federation: str = ""
    layout: str = ""

    def __post_init__(self) -> None:
        if self.keep < 1:
            raise CheckpointError(f"at least 1 checkpoint is kept, not {self.keep}", file=str(self.folder))

    def path(self, round_number: int) -> Path:
        """File of a round."""
        return self.folder / f"round-{round_number:06d}.safetensors"

    def files(self) -> dict[int, Path]:
        """All files that are named as checkpoints, by round, oldest first; nothing is said of their contents."""
        try:
            named = {
                int(found.group(1)): entry for entry in self.folder.iterdir() if (found := _NAME.match(entry.name))
            }
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise CheckpointError(f"{self.folder} cannot be read: {error.strerror}", file=str(self.folder)) from error
        return dict(sorted(named.items()))

    # -- writing ---------------------------------------------------------------------------------

    def save(self, round_number: int, parameters: Parameters, extra: Mapping[str, Any] | None = None) -> Saved:
        """Write the checkpoint of a round aside, flush it to disk, name it, and let the oldest ones go.

        Whenever the process is killed, the file of the round is the whole new one, the whole old one or
        not there; older checkpoints are there until then.

        Args:
            round_number: The round that just finished.
            parameters: Arrays of the types in `DTYPES`.
            extra: Further plain data (as JSON has it) that belongs to the round.

        Raises:
            CheckpointError: If something cannot be kept in a checkpoint, or the disk refuses it; older
                checkpoints are as they were.
        """
        target = self.path(round_number)
        arrays = {name: _array(name, value, target) for name, value in parameters.items()}
        digest = digest_of(arrays)
        metadata = {
            "format": _FORMAT,
            "federation": self.federation,
            "round": str(round_number),
            "layout": self.layout,
            "version": __version__,
            "sha256": digest,
            "extra": json.dumps(extra or {}, default=_plain),
        }
        aside = self.folder / f"{_ASIDE}{target.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
        try:
            private_folder(self.folder)
            self._clear_asides()
            size = _write(aside, arrays, metadata)
            os.replace(aside, target)
            _flush(self.folder)
        except (OSError, SafetensorError, StateFolderError) as error:
            with contextlib.suppress(OSError):
                aside.unlink()
            raise CheckpointError(
                f"the checkpoint of round {round_number} could not be written to {self.folder} ({error}):"
                " free its disk or make its folder writable; older checkpoints are as they were",
                file=str(target),
            ) from error
        self._let_go(round_number)
        return Saved(round_number, target, digest, size)

    def _clear_asides(self) -> None:
        """Remove what a killed process left half written."""
        for entry in self.folder.glob(f"{_ASIDE}*"):
            with contextlib.suppress(OSError):
                entry.unlink()

    def _let_go(self, newest: int) -> None:
        """Remove all but the last `keep` up to `newest`; later ones are not this run's and stay until it gets there."""
        past = [path for number, path in self.files().items() if number <= newest]
        for path in past[: -self.keep]:
            with contextlib.suppress(OSError):
                path.unlink()

    # -- reading ---------------------------------------------------------------------------------

    def latest(self, at_most: int | None = None) -> FoundCheckpoint:
        """The last good checkpoint; what is truncated, damaged or foreign is passed over and reported.

        Args:
            at_most: Look at rounds up to this one: the last that the journal counts.
        """
        refused: dict[str, str] = {}
        for number, path in reversed(self.files().items()):
            if at_most is not None and number > at_most:
                continue
            try:
                return FoundCheckpoint(self.load(path), refused)
            except CheckpointError as error:
                refused[path.name] = error.message
        return FoundCheckpoint(None, refused)

    def load(self, path: Path) -> Checkpoint:
        """Read a checkpoint and look whether it is whole and this federation's.

        Raises:
            CheckpointError: If it is truncated, damaged, no checkpoint, or another federation's; the
                message names the file.
        """
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                raise CheckpointError(f"{path} is no file", file=str(path))
            _check_size(path)
            with safe_open(path, framework="np") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != _FORMAT:
                    raise _foreign(path, "it was not written by red-tui")
                if self.federation and metadata["federation"] != self.federation:
                    raise _foreign(
                        path, f"it belongs to federation {metadata['federation']!r}, not {self.federation!r}"
                    )
                parameters = {name: np.array(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
            number, extra = int(metadata["round"]), json.loads(metadata["extra"])
            federation, layout, version = (metadata[key] for key in ("federation", "layout", "version"))
            named = _NAME.match(path.name)
            if named and int(named.group(1)) != number:
                raise _foreign(path, f"it holds round {number}")
            if digest_of(parameters) != metadata["sha256"]:
                raise CheckpointError(
                    f"{path} is damaged: its parameters are not those that were written", file=str(path)
                )
        except FileNotFoundError as error:
            raise CheckpointError(f"{path}: there is no such checkpoint", file=str(path)) from error
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror or error}", file=str(path)) from error
        except (SafetensorError, KeyError, TypeError, ValueError, RecursionError, MemoryError, OverflowError) as error:
            raise CheckpointError(
                f"{path} is truncated or no checkpoint ({type(error).__name__}: {error})", file=str(path)
            ) from error
        return Checkpoint(path, number, parameters, extra, federation, layout, version, metadata["sha256"])


def _check_size(path: Path) -> None:
    """Raise CheckpointError if a file holds more than there is memory for: its header is believed up to its size."""
    size, free = path.stat().st_size, psutil.virtual_memory().available
    if size > free:
        raise CheckpointError(
            f"{path} claims {size:,} bytes of parameters, and this host has {free:,} bytes of memory left",
            file=str(path),
        )


def digest_of(parameters: Parameters) -> str:
    """SHA-256 over names, types, shapes and bytes of parameters, whatever their order."""
    digest = hashlib.sha256()
    for name in sorted(parameters):
        array = parameters[name]
        digest.update(json.dumps([name, array.dtype.name, list(array.shape)]).encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _write(path: Path, arrays: dict[str, npt.NDArray[Any]], metadata: dict[str, str]) -> int:
    """Write a file of mode 0600 to the disk itself; gives its size."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    save_file(arrays, path, metadata=metadata)
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fchmod(descriptor, 0o600)
        os.fsync(descriptor)
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def _flush(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _array(name: Any, value: Any, target: Path) -> npt.NDArray[Any]:
    """A parameter as safetensors takes it: dense, in rows, of the machine's byte order.

    Raises:
        CheckpointError: If a checkpoint cannot hold it.
    """
    if not isinstance(name, str) or name == "__metadata__":
        raise CheckpointError(f"{name!r} cannot name a parameter in a checkpoint: use another text", file=str(target))
    array = np.asarray(value)
    if array.dtype.name not in DTYPES:
        raise CheckpointError(
            f"parameter {name!r} is {array.dtype}: a checkpoint holds bool, int8 to int64, uint8 to uint64 and float16"
            " to float64; convert it (bfloat16 to float32, complex to two real parameters)",
            file=str(target),
        )
    return np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")


def _foreign(path: Path, why: str) -> CheckpointError:
    return CheckpointError(f"{path} is no checkpoint of this federation: {why}", file=str(path))


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)


SAVE_TIMEOUT = 60.0
LOAD_TIMEOUT = 60.0


class CheckpointKeeper:
    """Saves the parameters of each round as a checkpoint and finds the last good one.

    The files lie on the host of the supervisor, so that is where the actor runs.  It is one process for all rounds: a
    plain task of a job whose driver has ended would get a new process each time.  It ends with the supervisor.

    Args:
        folder: Where the checkpoints of the federation are.
        keep: How many of the last are kept.
        federation: Id of the federation.
        layout: Digest of its layout.
    """

    def __init__(self, folder: Path, keep: int, federation: str, layout: str) -> None:
        self._checkpoints = Checkpoints(folder, keep=keep, federation=federation, layout=layout)
        self._actor: Any = None
        self.refused: dict[str, str] = {}

    async def save(self, number: int, reference: Any) -> dict[str, Any]:
        """Save the parameters after a round; gives what the journal notes of it.

        Raises:
            RedError: If they cannot be saved.
        """
        answer: dict[str, Any] = await self._answer(self._process().save.remote(number, reference), SAVE_TIMEOUT)
        if "error" in answer:
            raise RedError(answer["error"])
        return answer

    async def load(self, at_most: int | None) -> tuple[int, Any] | None:
        """The last good parameters of a round up to `at_most` (None: of any): its number and a reference, or None."""
        reference, reported = self._process().load.options(num_returns=2).remote(at_most)
        report = await self._answer(reported, LOAD_TIMEOUT)
        self.refused = report["refused"]
        return None if report["round"] is None else (int(report["round"]), reference)

    def close(self) -> None:
        """End the actor."""
        import ray

        if ray.is_initialized():
            self._end()

    async def _answer(self, reference: Any, timeout: float) -> Any:
        """What the actor answers; if it does not, another one takes its place."""
        try:
            return await answer_of(reference, timeout)
        except Exception:
            self._end()
            raise

    def _process(self) -> Any:
        """The actor, which is started when it is first needed.  Ray starts it again if its process dies."""
        if self._actor is None:
            import ray
            from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

            here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
            actor = ray.remote(num_cpus=0, scheduling_strategy=here, max_restarts=-1, max_task_retries=3)
            self._actor = actor(CheckpointWriter).remote(self._checkpoints)
        return self._actor

    def _end(self) -> None:
        actor, self._actor = self._actor, None
        if actor is not None:
            import ray

            ray.kill(actor)


class CheckpointWriter:
    """The actor's class: it has the parameters for as long as it writes or reads them.

    Args:
        checkpoints: Where they are.
    """

    def __init__(self, checkpoints: Checkpoints) -> None:
        self._checkpoints = checkpoints

    def save(self, number: int, parameters: Any) -> dict[str, Any]:
        """Write the checkpoint of a round; gives what the journal notes of it, or `error`."""
        try:
            return self._checkpoints.save(number, parameters).to_wire()
        except Exception as error:
            return {"error": error.message if isinstance(error, RedError) else f"{type(error).__name__}: {error}"}

    def load(self, at_most: int | None) -> tuple[Any, dict[str, Any]]:
        """The last good parameters (first return), and which round they are of (second)."""
        found = self._checkpoints.latest(at_most)
        refused = dict(found.refused)
        if found.checkpoint is None:
            return None, {"round": None, "refused": refused}
        return found.checkpoint.parameters, {"round": found.checkpoint.round, "refused": refused}
