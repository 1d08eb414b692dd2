"""Results of rounds as a journal holds them: checked before anybody stands on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from red_tui.supervisor.journal_damage import Damage, is_time
from red_tui.supervisor.journal_limits import ROWS_LIMIT
from red_tui.supervisor.journal_rows import read_spans

WHOLE = ("number", "state", "loss", "metrics", "train_metrics", "seconds", "participants", "ended")
"""What a result has of every version."""


def _is_count(value: Any, most: int = ROWS_LIMIT) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300


def _is_measure(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool) and value < 1 << 1023)


def _are_measures(value: Any) -> bool:
    return isinstance(value, Mapping) and all(_is_measure(one) for one in value.values())


def _are_texts(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(one, str) for one in value.values())


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "number": lambda value: _is_count(value, 1 << 53) and value > 0,
    "state": lambda value: value in ("done", "failed"),
    "loss": _is_measure,
    "train_loss": _is_measure,
    "metrics": _are_measures,
    "train_metrics": _are_measures,
    "seconds": _is_number,
    "participants": _is_count,
    "failed": _is_count,
    "evaluated": _is_count,
    "num_examples": _is_measure,
    "ended": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool) and is_time(value),
    "ids": _are_ids,
    "failures": _are_texts,
    "spread": lambda value: isinstance(value, Mapping),
    "error": lambda value: isinstance(value, str),
}


def check_result(result: Any, whole: bool = True) -> None:
    """Look whether a round's result is one.

    Args:
        result: What a journal holds.
        whole: Whether all has to be there that every result has; else only what is there is looked at.

    Raises:
        ValueError: If it is none; the message says what of it.
    """
    if not isinstance(result, Mapping):
        raise ValueError("it is no object")
    missing = [name for name in (WHOLE if whole else ("number", "state")) if name not in result]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")
    for name, is_good in _CHECKS.items():
        if name in result and not is_good(result[name]):
            raise ValueError(f"its {name} is {str(result[name])[:40]}")
    try:
        read_spans(result.get("rows") or (), 2)
    except (TypeError, OverflowError) as error:
        raise ValueError(f"its rows are {str(result['rows'])[:40]}") from error


def is_result(result: Any) -> bool:
    """Whether a round's result can be shown; one that cannot is passed over, as folds do."""
    try:
        check_result(result, whole=False)
    except ValueError:
        return False
    return True


def sound_results(results: Iterable[Any], damage: Damage) -> list[Mapping[str, Any]]:
    """The results that are whole; the others are noted."""
    sound = []
    for place, result in enumerate(results, start=1):
        try:
            check_result(result)
        except ValueError as error:
            number = result.get("number") if isinstance(result, Mapping) else None
            name = f"the result of round {number}" if _is_count(number, 1 << 53) else f"result {place}"
            damage.note(name, str(error))
        else:
            sound.append(result)
    return sound
