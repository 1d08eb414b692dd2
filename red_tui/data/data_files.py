"""Data sets that are files: columns by name from `.npz`, `.csv` and `.parquet`."""

from __future__ import annotations

import csv
import platform
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from red_tui.errors import RedError


class DataError(RedError):
    """Data cannot be had.  Fields: source."""

    exit_code = 2


def read_columns(path: Path) -> dict[str, Any]:
    """Columns by name from a file.

    Args:
        path: Its suffix says what it is: one of `READERS`.

    Returns:
        Arrays of one length.  Of a `.csv` the first line names the columns; they are whole numbers where all values
        are, else numbers (an empty field is NaN), else text.

    Raises:
        DataError: If the file is not there or cannot be read; with its line where a line is wrong.
    """
    try:
        return READERS[path.suffix](path)
    except FileNotFoundError:
        raise DataError(
            f"there is no file {path} on {platform.node()} (looked for from {Path.cwd()}): put it beside the layout,"
            " from where it travels to every host, or name a path that every host has",
            source=str(path),
        ) from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read as data: {error}", source=str(path)) from error


def _npz(path: Path) -> dict[str, Any]:
    stored = np.load(path, allow_pickle=False)
    if isinstance(stored, np.ndarray):
        raise ValueError("it is a single array, written with np.save: write it with np.savez and a name")
    with stored:
        return {name: stored[name] for name in stored.files}


def _csv(path: Path) -> dict[str, Any]:
    columns: list[list[str]] = []
    heads: list[str] = []
    with path.open(newline="", encoding="utf-8-sig") as text:
        lines = csv.reader(text)
        for row in lines:
            if not row:
                continue
            if not heads:
                heads, columns = row, [[] for _ in row]
                twice = [head for head, count in Counter(heads).items() if count > 1]
                if twice:
                    raise ValueError(f"line {lines.line_num} names the column {twice[0]!r} more than once")
                continue
            if len(row) != len(heads):
                raise DataError(
                    f"{path}, line {lines.line_num}: {len(row)} fields, and the first line names {len(heads)}",
                    source=str(path),
                )
            for column, value in zip(columns, row, strict=True):
                column.append(value)
    if not heads:
        raise ValueError("it is empty: its first line must name the columns")
    return {head: _typed(column) for head, column in zip(heads, columns, strict=True)}


def _parquet(path: Path) -> dict[str, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(
            f"{path}: Parquet needs pyarrow, which is not installed here: pip install 'red-tui[data]'", source=str(path)
        ) from error
    try:
        return columns_of_table(parquet.read_table(path))
    except pyarrow.ArrowException as error:
        raise ValueError(str(error)) from error


READERS: dict[str, Callable[[Path], dict[str, Any]]] = {".npz": _npz, ".csv": _csv, ".parquet": _parquet}
"""How a file is read, by its suffix."""


def columns_of_table(table: Any) -> dict[str, Any]:
    """Arrays by name from a table of Arrow; text without gaps becomes text of numpy, lists of one length rows."""
    return {name: _plain(table.column(name).to_numpy()) for name in table.column_names}


def _plain(column: Any) -> Any:
    if column.dtype != object or not len(column):
        return column
    if all(isinstance(value, str) for value in column):
        return column.astype(np.str_)
    if all(isinstance(value, np.ndarray) and value.shape == column[0].shape for value in column):
        return np.stack(list(column))
    return column


def _typed(values: Sequence[str]) -> Any:
    """Whole numbers, else numbers, else text."""
    texts = np.asarray(values, dtype=np.str_)
    try:
        return texts.astype(np.int64)
    except (ValueError, OverflowError):
        pass
    empty = np.char.strip(texts) == ""
    try:
        numbers = np.full(len(texts), np.nan)
        numbers[~empty] = texts[~empty].astype(np.float64)
    except ValueError:
        return texts
    return texts if empty.all() else numbers
