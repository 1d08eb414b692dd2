"""Rules that deal the examples of a data set out to parts.

A rule is a few numbers.  A part is made of the rule, the labels, the number of parts and the part's own number: the
same for every caller, and without making the other parts.  A million virtual nodes own a rule, not a million arrays.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from red_tui.data.label_groups import Groups, PartitionError
from red_tui.data.shuffle import Shuffle, random_stream

IntArray: TypeAlias = npt.NDArray[np.int64]
FloatArray: TypeAlias = npt.NDArray[np.float64]
Labels: TypeAlias = "int | npt.ArrayLike | Mapping[str, npt.ArrayLike]"
"""The number of examples, a label for each, or columns by name with a value for each."""

CACHED_SPLITS = 4
LEAF_PARTS = 256
"""Parts whose shares are drawn together, below the tree that divides them all."""


class Split(Sequence[IntArray]):
    """The parts of one data set by one rule: `split[17]` is made when it is asked for.

    Args:
        num_parts: Number of parts.
        num_examples: Number of examples in the data set.
        make: Makes the indices of a part, in any order.
    """

    def __init__(self, num_parts: int, num_examples: int, make: Callable[[int], IntArray]) -> None:
        self.num_parts, self.num_examples, self._make = num_parts, num_examples, make

    def __len__(self) -> int:
        return self.num_parts

    @overload
    def __getitem__(self, part: int) -> IntArray: ...
    @overload
    def __getitem__(self, part: slice) -> Sequence[IntArray]: ...
    def __getitem__(self, part: int | slice) -> IntArray | Sequence[IntArray]:
        if isinstance(part, slice):
            return [self[index] for index in range(*part.indices(self.num_parts))]
        if not -self.num_parts <= part < self.num_parts:
            raise IndexError(f"there are {self.num_parts:,} parts, numbered from 0: there is no part {part}")
        return np.sort(self._make(part % self.num_parts))

    def __iter__(self) -> Iterator[IntArray]:
        return (self[part] for part in range(self.num_parts))


@dataclass(frozen=True, kw_only=True)
class Partition:
    """Base of all rules.

    Attributes:
        seed: Same seed, same labels, same number of parts: the same parts, whoever asks.
    """

    seed: int = 0
    name: ClassVar[str] = ""

    def __post_init__(self) -> None:
        _whole(self.seed, "seed", 0, self.name)

    def indices(self, labels: Labels, num_parts: int, part: int) -> IntArray:
        """The examples of one part, in ascending order.

        What takes time (counting labels, and where they are) is kept for the last few data sets of a process; of a
        permutation only the places that are asked for are made.

        Args:
            labels: A label for each example (numbers or text), columns by name, or, for rules that look at no label,
                the number of examples.
            num_parts: Number of parts, at least 1.
            part: The part's number, from 0.

        Returns:
            Indices into the data set, int64.

        Raises:
            PartitionError: If the data set cannot be dealt out so; with figures.
            IndexError: If there is no such part.
        """
        return self.split(labels, num_parts)[part]

    def split(self, labels: Labels, num_parts: int) -> Split:
        """All parts, each of which is made when it is asked for.

        Args:
            labels: See `indices`.
            num_parts: Number of parts, at least 1.

        Raises:
            PartitionError: If the data set cannot be dealt out so; with figures.
        """
        _whole(num_parts, "num_parts", 1, self.name)
        column = self._column(labels)
        return split_of(_Deal(self, num_parts, column if isinstance(column, int) else _digest(column), column))

    @abstractmethod
    def _maker(self, column: Any, num_parts: int) -> Callable[[int], IntArray]:
        """Give the function that makes the indices of a part, in any order.

        Args:
            column: The number of examples; for rules by column, the column.
            num_parts: Number of parts.
        """

    def _column(self, labels: Labels) -> int | npt.NDArray[Any]:
        """What the rule looks at: here the number of examples."""
        if isinstance(labels, (int, np.integer)) and not isinstance(labels, bool):
            return _whole(int(labels), "the number of examples", 0, self.name)
        if isinstance(labels, Mapping):
            lengths = {name: len(np.asarray(value)) for name, value in labels.items()}
            if len(set(lengths.values())) != 1:
                raise self._refusal(f"the columns have different lengths: {lengths or 'there is none'}")
            return next(iter(lengths.values()))
        array = np.asarray(labels)
        if not array.ndim:
            raise self._refusal(f"it deals out the number of examples, or a value for each, not {labels!r}")
        return len(array)

    def _flat(self, values: npt.ArrayLike) -> npt.NDArray[Any]:
        array = np.asarray(values)
        if array.ndim != 1:
            raise self._refusal(f"labels are one value per example, in one dimension, not of shape {array.shape}")
        return array

    def _refusal(self, text: str) -> PartitionError:
        return PartitionError(f"{self.name}: {text}", rule=self.name)

    def _no_column(self, name: str, labels: Mapping[str, Any]) -> PartitionError:
        return self._refusal(f"there is no column {name!r}: there are {', '.join(map(str, labels)) or 'none'}")

    def _enough(self, num_examples: int, num_parts: int, each: int = 1) -> None:
        """Raise PartitionError unless each part can have so many."""
        if num_examples < num_parts * each:
            raise self._refusal(
                f"{num_examples:,} examples cannot give {num_parts:,} parts at least {each:,} each"
                f" ({num_parts * each:,} would be needed): take fewer parts or a smaller minimum"
            )

    def _shuffle(self, place: str, size: int) -> Shuffle:
        return Shuffle(random_stream(self.seed, self.name, place), size)


@dataclass(frozen=True, kw_only=True)
class ByColumn(Partition):
    """A rule that looks at a column.

    Attributes:
        by: Name of the column, where labels are given as columns by name.
    """

    by: str = "label"

    def _column(self, labels: Labels) -> npt.NDArray[Any]:
        if isinstance(labels, Mapping):
            if self.by not in labels:
                raise self._refusal(
                    f"there is no column {self.by!r}: there are {', '.join(map(str, labels)) or 'none'}"
                )
            return self._flat(labels[self.by])
        if isinstance(labels, (int, np.integer)):
            raise self._refusal(f"it looks at the {self.by} of each example, and only their number was given")
        return self._flat(labels)


@dataclass(frozen=True, kw_only=True)
class IID(Partition):
    """Examples at random, as many to each part as to any other (give or take one)."""

    name: ClassVar[str] = "iid"

    def _maker(self, column: Any, num_parts: int) -> Callable[[int], IntArray]:
        self._enough(column, num_parts)
        order = self._shuffle("order", column)
        return lambda part: order.range(column * part // num_parts, column * (part + 1) // num_parts)


@dataclass(frozen=True, kw_only=True)
class Dirichlet(ByColumn):
    """Each label's examples go to the parts in proportions drawn from a symmetric Dirichlet distribution.

    Hsu, Qi and Brown, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification",
    2019, by label (as Yurochkin et al., 2019).  The proportions of one part are drawn without those of the others: a
    Dirichlet vector falls apart into Beta distributed halves, down a tree whose every fork has its own random numbers.

    Attributes:
        alpha: Concentration, above 0: near 0 a label goes to few parts, large it goes to all alike.
        min_size: Each part first gets this many examples at random, out of a reserve in which labels are as frequent as
            in the whole; what is left is dealt out by proportions.
    """

    name: ClassVar[str] = "dirichlet"
    alpha: float = 0.5
    min_size: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        _positive(self.alpha, "alpha", self.name)
        _whole(self.min_size, "min_size", 0, self.name)

    def _maker(self, column: Any, num_parts: int) -> Callable[[int], IntArray]:
        self._enough(len(column), num_parts, self.min_size)
        groups, reserved = Groups(column, self._shuffle), num_parts * self.min_size
        # Of each label's examples the first go to the reserve, as many as the label's share of all.
        reserve = groups.starts * reserved // max(len(column), 1)
        kept = np.diff(reserve)
        sizes = groups.counts - kept
        dealt = self._shuffle("reserve", reserved)

        def make(part: int) -> IntArray:
            own = dealt.range(part * self.min_size, (part + 1) * self.min_size)
            labels = np.searchsorted(reserve, own, side="right") - 1
            chosen = [(int(label), own[labels == label] - reserve[label]) for label in np.unique(labels)]
            low, high = dirichlet_shares(self, num_parts, part, len(sizes))
            first, last = np.rint(low * sizes).astype(np.int64) + kept, np.rint(high * sizes).astype(np.int64) + kept
            chosen += [(label, np.arange(first[label], last[label])) for label in np.flatnonzero(last > first).tolist()]
            return groups.examples(chosen)

        return make


def dirichlet_shares(rule: Dirichlet, num_parts: int, part: int, num_labels: int) -> tuple[FloatArray, FloatArray]:
    """Where a part's share of each label begins and ends, from 0 to 1: arrays of `num_labels` numbers."""
    first, last = 0, num_parts
    low, high = np.zeros(num_labels), np.ones(num_labels)
    while last - first > LEAF_PARTS:
        middle = (first + last) // 2
        rng = random_stream(rule.seed, rule.name, f"{first}-{last}")
        left = _log_gamma(rng, rule.alpha * (middle - first), (num_labels,))
        right = _log_gamma(rng, rule.alpha * (last - middle), (num_labels,))
        cut = low + (high - low) * _portion(left, right)
        if part < middle:
            last, high = middle, cut
        else:
            first, low = middle, cut
    rng = random_stream(rule.seed, rule.name, f"{first}-{last}")
    weights = _log_gamma(rng, rule.alpha, (last - first, num_labels))
    weights = np.exp(weights - weights.max(axis=0))
    ends = np.cumsum(weights / weights.sum(axis=0), axis=0)
    place = part - first
    begin = low if place == 0 else low + (high - low) * np.minimum(ends[place - 1], 1.0)
    end = high if part == last - 1 else low + (high - low) * np.minimum(ends[place], 1.0)
    return begin, end


@dataclass(frozen=True, kw_only=True)
class Shards(ByColumn):
    """Examples in the order of their labels, cut into shards of one size; each part gets some shards at random.

    McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017,
    section 3.

    Attributes:
        per_part: Shards a part.
    """

    name: ClassVar[str] = "shards"
    per_part: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        _whole(self.per_part, "per_part", 1, self.name)

    def _maker(self, column: Any, num_parts: int) -> Callable[[int], IntArray]:
        self._enough(len(column), num_parts, self.per_part)
        groups, size, shards = Groups(column, self._shuffle), len(column), num_parts * self.per_part
        dealt = self._shuffle("shards", shards)

        def make(part: int) -> IntArray:
            own = dealt.range(part * self.per_part, (part + 1) * self.per_part).tolist()
            chosen = []
            for shard in own:
                chosen += groups.between(size * shard // shards, size * (shard + 1) // shards)
            return groups.examples(chosen)

        return make


@dataclass(frozen=True, kw_only=True)
class Pathological(ByColumn):
    """Each part sees a fixed number of labels, and a label's examples go evenly to the parts that see it.

    Attributes:
        classes: Labels a part.
    """

    name: ClassVar[str] = "pathological"
    classes: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        _whole(self.classes, "classes", 1, self.name)

    def _maker(self, column: Any, num_parts: int) -> Callable[[int], IntArray]:
        self._enough(len(column), num_parts, self.classes)
        groups = Groups(column, self._shuffle)
        num_labels, counts = len(groups.counts), groups.counts
        if self.classes > num_labels:
            raise self._refusal(f"a part cannot see {self.classes} labels: the data set has {num_labels}")
        if num_parts * self.classes < num_labels:
            raise self._refusal(
                f"{num_parts} parts of {self.classes} labels each leave out some of the {num_labels} labels:"
                f" take at least {math.ceil(num_labels / self.classes)} parts"
            )
        # Parts in blocks: within a block each label comes equally often, and in an order of the block's own.
        turns = math.lcm(self.classes, num_labels) // num_labels
        block_parts = turns * num_labels // self.classes
        whole, over = divmod(num_parts, block_parts)
        seen = np.full(num_labels, whole * turns, dtype=np.int64)
        np.add.at(seen, self._labels_of(whole, over * self.classes, num_labels), 1)
        short = np.flatnonzero(counts < seen)
        if len(short):
            label = short[0]
            raise self._refusal(
                f"label {np.unique(column)[label]!s} has {counts[label]:,} examples and"
                f" {seen[label]:,} parts would see it: take fewer parts or fewer labels a part"
            )

        def make(part: int) -> IntArray:
            block, place = divmod(part, block_parts)
            slots = range(place * self.classes, (place + 1) * self.classes)
            labels = self._labels_of(block, slots.stop, num_labels)[slots.start :]
            chosen = []
            for slot, label in zip(slots, labels.tolist(), strict=True):
                rank, size = block * turns + slot // num_labels, counts[label]
                first, last = size * rank // seen[label], size * (rank + 1) // seen[label]
                chosen.append((label, np.arange(first, last)))
            return groups.examples(chosen)

        return make

    def _labels_of(self, block: int, slots: int, num_labels: int) -> IntArray:
        """The labels of the first slots of a block."""
        shuffled = random_stream(self.seed, self.name, f"block {block}").permutation(num_labels)
        return np.resize(shuffled, slots) if slots else shuffled[:0]


@dataclass(frozen=True, kw_only=True)
class PowerLaw(Partition):
    """Examples at random, with sizes that fall by a power law: the part of rank k gets a share of k to the -exponent.

    Attributes:
        exponent: At least 0: 0 makes all alike, 1 halves the size at twice the rank.
        min_size: Each part gets at least this many.
    """

    name: ClassVar[str] = "power-law"
    exponent: float = 1.0
    min_size: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (_is_number(self.exponent) and 0 <= self.exponent < math.inf):
            raise self._refusal(f"exponent must be a finite number of at least 0, not {self.exponent!r}")
        _whole(self.min_size, "min_size", 0, self.name)

    def _maker(self, column: Any, num_parts: int) -> Callable[[int], IntArray]:
        self._enough(column, num_parts, self.min_size)
        order, free = self._shuffle("order", column), column - num_parts * self.min_size
        ranks = self._shuffle("ranks", num_parts)
        ends = np.cumsum(np.arange(1.0, num_parts + 1) ** -self.exponent)
        # Where the examples of each rank end: the largest come first.
        cuts = np.rint(free * (ends / ends[-1])).astype(np.int64) + np.arange(1, num_parts + 1) * self.min_size

        def make(part: int) -> IntArray:
            rank = int(ranks.range(part, part + 1)[0])
            return order.range(int(cuts[rank - 1]) if rank else 0, int(cuts[rank]))

        return make


@dataclass(frozen=True, kw_only=True)
class Sizes(Partition):
    """Examples at random, as many to each part as is said; what is left belongs to nobody.

    Attributes:
        sizes: The number of examples of each part.
    """

    name: ClassVar[str] = "sizes"
    sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "sizes", tuple(_whole(size, "a size", 0, self.name) for size in self.sizes))

    def _maker(self, column: Any, num_parts: int) -> Callable[[int], IntArray]:
        if len(self.sizes) != num_parts:
            raise self._refusal(f"it says {len(self.sizes):,} sizes, and there are {num_parts:,} parts")
        if sum(self.sizes) > column:
            raise self._refusal(f"its sizes add up to {sum(self.sizes):,}, and there are {column:,} examples")
        order, cuts = self._shuffle("order", column), np.cumsum([0, *self.sizes])
        return lambda part: order.range(int(cuts[part]), int(cuts[part + 1]))


@dataclass(frozen=True, kw_only=True)
class NaturalId(ByColumn):
    """A part is an owner, such as a writer or a hospital: all examples with one value of a column.

    With fewer parts than owners each part gets several, as many as any other (give or take one), at random.

    Attributes:
        column: Name of the column of owners.
    """

    name: ClassVar[str] = "natural-id"
    column: str = "owner"

    def _column(self, labels: Labels) -> npt.NDArray[Any]:
        if isinstance(labels, Mapping) and self.column not in labels:
            raise self._refusal(
                f"there is no column {self.column!r}: there are {', '.join(map(str, labels)) or 'none'}"
            )
        return self._flat(labels[self.column]) if isinstance(labels, Mapping) else super()._column(labels)

    def _maker(self, column: Any, num_parts: int) -> Callable[[int], IntArray]:
        groups = Groups(column, self._shuffle)
        owners = len(groups.counts)
        if num_parts > owners:
            raise self._refusal(
                f"column {self.column!r} has {owners:,} different owners, too few for {num_parts:,} parts"
            )
        order = self._shuffle("owners", owners)

        def make(part: int) -> IntArray:
            if num_parts == owners:
                return groups.whole([part])
            return groups.whole(order.range(owners * part // num_parts, owners * (part + 1) // num_parts).tolist())

        return make


@dataclass(frozen=True, kw_only=True)
class Explicit(Partition):
    """Parts that are written down.

    Attributes:
        parts: The indices of each part; or a JSON file with a list of lists, or an `.npz` file with `part_0`, `part_1`
            and so on.
        overlap: Whether an example may be in several parts.
    """

    name: ClassVar[str] = "explicit"
    parts: str | tuple[tuple[int, ...], ...] = ()
    overlap: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.parts, str):
            if isinstance(self.parts, Path):
                object.__setattr__(self, "parts", str(self.parts))
            else:
                object.__setattr__(self, "parts", tuple(tuple(np.asarray(part).tolist()) for part in self.parts))

    def _maker(self, column: Any, num_parts: int) -> Callable[[int], IntArray]:
        parts = self._read() if isinstance(self.parts, str) else [np.asarray(part) for part in self.parts]
        if len(parts) != num_parts:
            raise self._refusal(f"{len(parts):,} parts are written down, and {num_parts:,} are wanted")
        for number, part in enumerate(parts):
            if part.ndim != 1 or (part.size and part.dtype.kind not in "iu"):
                raise self._refusal(f"part {number} is no list of whole numbers")
            if part.size and not 0 <= part.min() <= part.max() < column:
                raise self._refusal(f"part {number} names an example beyond the {column:,} that there are, from 0")
        whole = [part.astype(np.int64) for part in parts]
        counts = np.bincount(np.concatenate([*whole, np.zeros(0, np.int64)]), minlength=column)
        if not self.overlap and counts.size and counts.max() > 1:
            twice = int(counts.argmax())
            raise self._refusal(f"example {twice} is in {counts[twice]} parts: say overlap=True if that is meant")
        return lambda part: whole[part]

    def _read(self) -> list[npt.NDArray[Any]]:
        path = Path(str(self.parts)).expanduser()
        try:
            if path.suffix == ".npz":
                with np.load(path, allow_pickle=False) as stored:
                    return [stored[f"part_{number}"] for number in range(len(stored.files))]
            listed = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError) as error:
            raise self._refusal(f"{path} cannot be read: {error}") from error
        if not isinstance(listed, list) or not all(isinstance(part, list) for part in listed):
            raise self._refusal(f"{path} is no list of lists of indices")
        return [np.asarray(part) for part in listed]


RULES: dict[str, type[Partition]] = {
    rule.name: rule for rule in (IID, Dirichlet, Shards, Pathological, PowerLaw, Sizes, NaturalId, Explicit)
}
"""The rules, by the names that layouts use."""


def make_partition(name: str, options: Mapping[str, Any]) -> Partition:
    """The rule of a name, as layouts write it: `{name: dirichlet, alpha: 0.3, by: label}`.

    Args:
        name: One of `RULES`.
        options: Its attributes.

    Raises:
        PartitionError: If there is no such rule or option, or a value makes no sense.
    """
    rule = RULES.get(name)
    if rule is None:
        raise PartitionError(f"there is no partition {name!r}: there are {', '.join(RULES)}", rule=name)
    options_known = [known.name for known in fields(rule)]
    for option in options:
        if option not in options_known:
            raise PartitionError(
                f"{name}: there is no option {option!r}: there are {', '.join(options_known)}", rule=name
            )
    try:
        return rule(**options)
    except (TypeError, ValueError) as error:
        raise PartitionError(f"{name}: {error}", rule=name) from error


# -- helpers -------------------------------------------------------------------------------------


def _log_gamma(rng: np.random.Generator, shape: float, size: tuple[int, ...]) -> FloatArray:
    """Logarithms of Gamma(shape) draws: no shape is so small that all of them become 0.

    With G of Gamma(shape + 1) and U uniform, G times U to the 1/shape is of Gamma(shape) (Marsaglia and Tsang, 2000).
    """
    return np.log(rng.standard_gamma(shape + 1.0, size)) + np.log1p(-rng.random(size)) / shape


def _portion(left: FloatArray, right: FloatArray) -> FloatArray:
    """exp(left) / (exp(left) + exp(right))."""
    top = np.maximum(left, right)
    left, right = np.exp(left - top), np.exp(right - top)
    return left / (left + right)


def _digest(column: npt.NDArray[Any]) -> bytes:
    """What tells two columns apart, also where one was changed in place."""
    if column.dtype.hasobject:
        column = column.astype(np.str_)
    kind = hashlib.sha256(f"{column.dtype.str}{column.shape}".encode())
    kind.update(np.ascontiguousarray(column).view(np.uint8).data)
    return kind.digest()


@dataclass(frozen=True)
class _Deal:
    """What a split depends on; the column itself is compared by its digest."""

    rule: Partition
    num_parts: int
    digest: int | bytes
    column: Any = field(compare=False)


@functools.lru_cache(maxsize=CACHED_SPLITS)
def split_of(deal: _Deal) -> Split:
    """The parts of a data set; kept for the last few."""
    num_examples = deal.column if isinstance(deal.column, int) else len(deal.column)
    return Split(deal.num_parts, num_examples, deal.rule._maker(deal.column, deal.num_parts))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def _whole(value: Any, what: str, least: int, rule: str) -> int:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
        raise PartitionError(f"{rule}: {what} must be a whole number of at least {least}, not {value!r}", rule=rule)
    return int(value)


def _positive(value: Any, what: str, rule: str) -> None:
    if not (_is_number(value) and 0 < value < math.inf):
        raise PartitionError(f"{rule}: {what} must be a finite number above 0, not {value!r}", rule=rule)
