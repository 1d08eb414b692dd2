"""The pages of a layout's and of the config file's keys, from the JSON Schemas that editors use too."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from docs.generate.markdown import table
from red_tui.console.config import settings
from red_tui.layout import json_schema

Schema = Mapping[str, Any]

INTRODUCTION = """\
# Layouts

A layout is a YAML file that says what a federation is. `red-console check LAYOUT` says what is wrong with one, with
file, line and column. `red-console schema` prints the JSON Schema from which this page is made. The files in `layouts/`
name the schema in a comment, so that an editor with the YAML language server completes and checks their keys.
"""

SETTINGS = """\
# Settings of the console

The config file is `$RED_CONFIG`, else `console.yaml` in the platform's config folder. Every key may be left out.
`red-console doctor` prints each value with its source. The command line goes before the file.

"""


def settings_page() -> str:
    """The keys of `console.yaml`."""
    return SETTINGS + _keys(settings.schema())


def page() -> str:
    """The whole page: the keys of the file, then those of each part."""
    schema = json_schema()
    parts = schema.get("$defs", {})
    sections = [INTRODUCTION, "## The file\n\n" + _keys(schema)]
    for name in _reached(schema, parts):
        part = parts[name]
        if "properties" in part:
            description = " ".join(part.get("description", "").split())
            sections.append(f"## {name}\n\n{description}\n\n{_keys(part)}")
    return "\n".join(sections)


def _reached(schema: Schema, parts: Mapping[str, Schema]) -> list[str]:
    """Names of the parts in the order in which a reader of the page meets them."""
    found: list[str] = []
    waiting = list(_references(schema.get("properties", {})))
    while waiting:
        name = waiting.pop(0)
        if name not in found:
            found.append(name)
            waiting.extend(_references(parts[name]))
    return found


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if "$ref" in value:
            yield value["$ref"].rpartition("/")[2]
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def _keys(schema: Schema) -> str:
    required = schema.get("required", ())
    rows = []
    for key, value in schema["properties"].items():
        default = f"`{json.dumps(value['default'])}`" if "default" in value else ""
        if key in required:
            default = "**required**"
        rows.append((f"`{key}`", _kind(value), default, " ".join(value.get("description", "").split())))
    return table(("key", "value", "default", "meaning"), rows)


def _kind(value: Schema) -> str:
    """What may be written, in words."""
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return f"[{name}](#{_anchor(name)})"
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in value:
            kinds = [_kind(option) for option in value[choice] if option.get("type") != "null"]
            return " or ".join(dict.fromkeys(kinds))
    if "enum" in value:
        return ", ".join(f"`{option}`" for option in value["enum"])
    if "const" in value:
        return f"`{value['const']}`"
    if value.get("type") == "array":
        return f"list of {_kind(value.get('items', {}))}"
    if value.get("type") == "object":
        inner = value.get("additionalProperties")
        return f"mapping of names to {_kind(inner)}" if isinstance(inner, Mapping) else "mapping"
    names = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}
    return names.get(str(value.get("type")), "anything") + _bounds(value)


def _bounds(value: Schema) -> str:
    words = (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
    told = [f"{sign} {value[name]}" for name, sign in words if name in value]
    return f" {', '.join(told)}" if told else ""


def _anchor(name: str) -> str:
    return name.lower()
