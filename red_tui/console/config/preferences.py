"""What an operator prefers: from the config file, the environment and the command line, each value with its source."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from red_tui.console.config.options import Preferences, PreferencesError

FILE = "console.yaml"


def config_path() -> Path:
    """The config file: `$RED_CONFIG`, else `console.yaml` in the platform's config folder."""
    if os.environ.get("RED_CONFIG"):
        return Path(os.environ["RED_CONFIG"])
    from platformdirs import user_config_dir

    return Path(user_config_dir("red-tui")) / FILE


def load(path: Path | None = None) -> Preferences:
    """What the config file says; the defaults if there is none.

    Raises:
        PreferencesError: If the file cannot be read, with the key and what is allowed.
    """
    try:
        path = config_path() if path is None else path
    except RuntimeError:  # a user without a home folder has no config file
        return Preferences()
    try:
        if not path.exists():
            return Preferences()
    except (OSError, ValueError) as error:
        raise PreferencesError(f"{path} cannot be read: {error}; RED_CONFIG names another") from None
    from red_tui.console.config.settings import read

    return read(path)


def load_or_default(path: Path | None = None) -> Preferences:
    """What the config file says; the defaults, with the reason in `trouble`, if it cannot be used.

    A file that cannot be used may have said that nothing is to be changed: the console is read-only where it names
    such a key, or where nobody can see what it names.
    """
    try:
        return load(path)
    except PreferencesError as error:
        from red_tui.safe_yaml import Unreadable, read_file

        try:
            protected = "read_only" in read_file(config_path() if path is None else path)
        except Unreadable:
            protected = True
        how = "the defaults hold, read-only as the file may ask for it" if protected else "the defaults hold"
        return Preferences(read_only=protected, trouble=f"{error.message}; {how}")


def rows(preferences: Preferences, given: Mapping[str, Any] | None = None) -> list[tuple[str, str, str]]:
    """Each value with its name and where it comes from, for `red-console doctor`.

    Args:
        preferences: What the config file says.
        given: What the command line says, by the same names; None is not said.
    """
    found = []
    chosen = {name: value for name, value in (given or {}).items() if value is not None}
    merged = replace(preferences, **chosen)
    for name in Preferences.__dataclass_fields__:
        if name in ("sources", "trouble"):
            continue
        source = "command line" if name in chosen else preferences.sources.get(name, "default")
        found.append((name, _told(getattr(merged, name)), source))
    return found


def _told(value: Any) -> str:
    if value is None:
        return "automatic"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_told(one)}" for name, one in value.items()) or "none"
    if isinstance(value, tuple):
        return " ".join(value) or "none"
    return str(value)
