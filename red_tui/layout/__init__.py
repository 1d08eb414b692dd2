"""Layouts: federations as YAML files, checked to the column before anything is started."""

from red_tui.layout.classes import load_template
from red_tui.layout.contradictions import refuse_contradictions
from red_tui.layout.models import (
    Bundle,
    Failure,
    GroupRows,
    Layout,
    NodeGroup,
    Placement,
    Rounds,
    json_schema,
)
from red_tui.layout.reading import load, loads
from red_tui.layout.rules import SCHEMAS, STRATEGIES
from red_tui.layout.shapes import Mailbox, Topology
from red_tui.layout.shipped import find_layouts, resolve

__all__ = [
    "SCHEMAS",
    "STRATEGIES",
    "Bundle",
    "Failure",
    "GroupRows",
    "Layout",
    "Mailbox",
    "NodeGroup",
    "Placement",
    "Rounds",
    "Topology",
    "find_layouts",
    "json_schema",
    "load",
    "load_template",
    "loads",
    "refuse_contradictions",
    "resolve",
]
