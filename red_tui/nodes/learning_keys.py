"""Keys of a config that local training knows, in whichever library; what makes no sense is refused."""

from __future__ import annotations

from typing import Any

LEARNING_RATE, BATCH_SIZE, LOCAL_EPOCHS = 0.01, 32, 1


def number_of(config: Any, key: str, default: float) -> float:
    """The value of a key that is a finite number of at least 0.

    Raises:
        ValueError: If it is none.
    """
    value = config.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
        raise ValueError(f"{key} must be a finite number of at least 0, not {value!r}")
    return float(value)


def whole_of(config: Any, key: str, default: int) -> int:
    """The value of a key that is a whole number of at least 1.

    Raises:
        ValueError: If it is none.
    """
    value = config.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{key} must be a whole number of at least 1, not {value!r}")
    return value


def steps_of(config: Any) -> int | None:
    """`local_steps`: the batches of a round, which go before its epochs; None where nobody says so.

    Raises:
        ValueError: If it is no whole number of at least 1.
    """
    return None if config.get("local_steps") is None else whole_of(config, "local_steps", 1)
