"""The config file as a model: what it may say, its JSON schema, and errors that name the key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from red_tui import safe_yaml
from red_tui.console.config.options import Preferences, PreferencesError
from red_tui.console.grid.arrangement import GROUPINGS
from red_tui.console.grid.canvas import ZOOMS
from red_tui.console.input.actions import ACTIONS, key_of
from red_tui.console.screens.nodes_screen import COLUMNS
from red_tui.errors import SelectionError
from red_tui.plain_text import brief

MAX_BYTES = 1_000_000
"""Bytes of the config file."""


def _one_of(*allowed: str) -> AfterValidator:
    def check(value: Any) -> Any:
        for one in value if isinstance(value, (tuple, list)) else (value,):
            if one is not None and one not in allowed:
                raise ValueError(f"{one!r} is none of {', '.join(allowed)}")
        return value

    return AfterValidator(check)


class Settings(BaseModel):
    """What `console.yaml` may say.  Every key may be left out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    theme: str | None = Field(None, description="Name of a theme: red, red-safe, ansi, or one of Textual's.")
    ascii: bool | None = Field(None, description="Draw with ASCII signs only; by default the locale decides.")
    mouse: bool = Field(False, description="Let the terminal report the mouse.")
    read_only: bool = Field(False, description="Bind no key that changes a federation, on any cluster.")
    read_only_clusters: tuple[str, ...] = Field((), description="Addresses of clusters to be looked at only.")
    group: Annotated[str, _one_of(*GROUPINGS)] = Field("bundle", description="What the grid groups by at first.")
    zoom: Annotated[str | None, _one_of(*ZOOMS)] = Field(
        None, description="How the grid shows nodes at first; by default their number decides."
    )
    columns: Annotated[tuple[str, ...], _one_of(*COLUMNS)] = Field((), description="Columns of the list of nodes.")
    remember: bool = Field(True, description="Begin where the last session ended: screen, filter, columns, sorting.")
    replay_idle: float = Field(
        2.0, ge=0, description="Seconds after which a replay skips a time in which nothing happened; 0: never."
    )
    filters: dict[str, str] = Field(default_factory=dict, description="Saved filters: queries by name.")
    keys: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="Other keys by action id, as `red-console keys` lists them; [] unbinds."
    )

    @field_validator("filters")
    @classmethod
    def _queries(cls, filters: dict[str, str]) -> dict[str, str]:
        from red_tui.selection import parse

        for name, query in filters.items():
            try:
                parse(query)
            except SelectionError as error:
                raise ValueError(f"filter {name}: {error.message}") from error
        return filters

    @field_validator("keys", mode="before")
    @classmethod
    def _one_key(cls, keys: Any) -> Any:
        if not isinstance(keys, dict):
            return keys
        return {name: (value,) if isinstance(value, str) else value for name, value in keys.items()}

    @field_validator("keys")
    @classmethod
    def _known(cls, keys: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        known = {action.id for action in ACTIONS}
        for name in keys:
            if name not in known:
                raise ValueError(f"there is no action {name!r}: `red-console keys` lists them")
        return {name: tuple(key_of(key) for key in value) for name, value in keys.items()}


def read(path: Path) -> Preferences:
    """Read a config file.

    Raises:
        PreferencesError: If it is no YAML or says what it may not.
    """
    try:
        data = safe_yaml.load(safe_yaml.read_file(path, MAX_BYTES)) or {}
    except safe_yaml.Unreadable as error:
        raise PreferencesError(f"{path} cannot be read: {str(error).removeprefix('cannot be read').strip()}") from None
    if not isinstance(data, dict):
        raise PreferencesError(f"{path} must hold keys and values, such as: theme: red-safe")
    try:
        settings = Settings(**data)
    except (ValidationError, TypeError) as error:
        raise PreferencesError(f"{path}: {brief(_first(error), 500)}") from error
    values = {name: getattr(settings, name) for name in Settings.model_fields}
    return Preferences(**values, sources={name: str(path) for name in settings.model_fields_set})


def schema() -> dict[str, Any]:
    """The JSON schema of the config file, for editors."""
    return {"title": "red-console console.yaml", **Settings.model_json_schema()}


def _first(error: ValidationError | TypeError) -> str:
    if isinstance(error, TypeError):
        return str(error)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"there is no key {where!r}; there are {', '.join(Settings.model_fields)}"
    return f"{where}: {first['msg'].removeprefix('Value error, ')}"
