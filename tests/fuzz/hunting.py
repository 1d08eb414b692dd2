"""Runs a target over inputs and notes what it must not do: a foreign exception, more than a second, much memory."""

from __future__ import annotations

import contextlib
import hashlib
import random
import re
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.mutation import Mutator

CPU_SECONDS = 1.0
"""Of the processor, for one input: a busy machine is no finding."""
WALL_SECONDS = 60.0
"""For an input that waits for something."""
MEMORY = 300_000_000
"""Bytes by which one input may make the process grow."""

CORPUS = Path(__file__).with_name("corpus")


class Hang(BaseException):
    """An input took too long; no handler of ordinary exceptions catches it."""


@dataclass(frozen=True)
class Target:
    """Something that reads what others wrote.

    Attributes:
        name: Its name, and its folder in the corpus.
        run: Reads one input; checks of what it read are its own assertions.
        allowed: What it may raise.
        seeds: Inputs to begin with.
        words: Words of its language.
    """

    name: str
    run: Callable[[bytes], None]
    allowed: tuple[type[BaseException], ...]
    seeds: Sequence[bytes]
    words: Sequence[bytes] = ()

    def corpus(self) -> list[bytes]:
        """Inputs that are kept: each failed once."""
        folder = CORPUS / self.name
        return [path.read_bytes() for path in sorted(folder.iterdir())] if folder.is_dir() else []


@dataclass
class Finding:
    """What an input led to that it must not."""

    target: str
    data: bytes
    what: str

    def save(self, folder: Path) -> Path:
        """Write the input, and what it led to beside it."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.target}-{hashlib.sha256(self.what.encode()).hexdigest()[:8]}"
        path.write_bytes(self.data)
        path.with_suffix(".txt").write_text(self.what, errors="backslashreplace")
        return path


@dataclass
class Hunt:
    """A run over one target.

    Args:
        target: What is run.
        seed: Of all chance.
    """

    target: Target
    seed: int
    count: int = 0
    findings: dict[str, Finding] = field(default_factory=dict)
    """By what they have in common."""

    def __post_init__(self) -> None:
        chance = random.Random(f"{self.target.name} {self.seed}")
        self._mutator = Mutator(chance, [*self.target.seeds, *self.target.corpus()], self.target.words)
        self._seen: set[str] = set()

    def replay_corpus(self) -> None:
        """Run what is kept, and the seeds."""
        for data in [*self.target.corpus(), *self.target.seeds]:
            self.one(data)

    def run(self, seconds: float = float("inf"), inputs: float = float("inf")) -> None:
        """Run so long, or so many inputs."""
        end, last = time.monotonic() + seconds, self.count + inputs
        while self.count < last and time.monotonic() < end:
            data = self._mutator.next()
            outcome = self.one(data)
            if outcome not in self._seen:
                self._seen.add(outcome)
                self._mutator.keep(data)

    def one(self, data: bytes) -> str:
        """Run one input; gives how it ended, in short."""
        self.count += 1
        before, began = _memory(), time.process_time()
        try:
            with _limited():
                self.target.run(data)
            outcome = "read"
        except self.target.allowed as error:
            outcome = _kind_of(error)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            outcome = self._note(data, error)
        taken, grown = time.process_time() - began, _memory() - before
        if taken > CPU_SECONDS and "Hang" not in outcome:
            self._add("slow", data, f"{taken:.2f} s of the processor")
        if grown > MEMORY:
            self._add("memory", data, f"{grown / 1e6:.0f} MB of memory")
        return outcome

    def _note(self, data: bytes, error: BaseException) -> str:
        frames = traceback.extract_tb(error.__traceback__)
        last = next((frame for frame in reversed(frames) if "red_tui" in frame.filename), frames[-1])
        key = f"{type(error).__name__} in {Path(last.filename).name}:{last.lineno}"
        self._add(key, data, "".join(traceback.format_exception(error))[-6000:])
        return key

    def _add(self, key: str, data: bytes, what: str) -> None:
        known = self.findings.get(key)
        if known is None or len(data) < len(known.data):
            self.findings[key] = Finding(self.target.name, data, f"{key}\n{what}")


def _kind_of(error: BaseException) -> str:
    """An error without what it quotes: inputs that end in another one are of interest."""
    return type(error).__name__ + re.sub(r"'[^']*'|\"[^\"]*\"|\d+", "", str(error)[:300])[:60]


def _memory() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024)


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    def stop(number: int, frame: object) -> None:
        raise Hang(f"more than {CPU_SECONDS:g} s of the processor, or {WALL_SECONDS:g} s of waiting")

    before = {number: signal.signal(number, stop) for number in (signal.SIGPROF, signal.SIGALRM)}
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    signal.setitimer(signal.ITIMER_REAL, WALL_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
