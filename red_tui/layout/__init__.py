"""Layouts: federations as YAML files, checked to the column before anything is started."""

from red_tui.layout.loader import find_layouts, load, loads, refuse_contradictions, resolve
from red_tui.layout.models import (
    Bundle,
    Failure,
    GroupRows,
    Layout,
    MailboxChoice,
    NodeGroup,
    Placement,
    Rounds,
    TopologyChoice,
    json_schema,
)
from red_tui.layout.rules import SCHEMAS, STRATEGIES
from red_tui.layout.templates import load_object, load_template

__all__ = [
    "SCHEMAS",
    "STRATEGIES",
    "Bundle",
    "Failure",
    "GroupRows",
    "Layout",
    "MailboxChoice",
    "NodeGroup",
    "Placement",
    "Rounds",
    "TopologyChoice",
    "find_layouts",
    "json_schema",
    "load",
    "load_object",
    "load_template",
    "loads",
    "refuse_contradictions",
    "resolve",
]
