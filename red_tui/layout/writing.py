"""Writing a layout as a file."""

from __future__ import annotations

import re
from typing import Any

import yaml

from red_tui.layout.tree import first_comment

_BREAKS = re.compile("[\x85\u2028\u2029\ufeff]")
"""Line breaks of YAML that a reader folds unless they are escaped."""


class _Dumper(yaml.SafeDumper):
    """Quotes texts that look like `1e-3`, which this package reads as numbers, and escapes odd line breaks."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style='"' if _BREAKS.search(value) else None)


_Dumper.add_representer(str, _text)

_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+\Z", re.ASCII),
    list("-+.0123456789"),
)


def written(data: dict[str, Any]) -> str:
    """A layout's data as a file that reads back as an equal layout; its title becomes the first comment line."""
    title = data["title"]
    data = {key: value for key, value in data.items() if key != "title"}
    head = f"# {title}\n"
    if first_comment(head) != title:
        head, data = "", {"title": title, **data}
    return head + yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
