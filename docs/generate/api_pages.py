"""The pages of the library's public names, from their docstrings."""

from __future__ import annotations

import enum
import inspect
import types
from collections.abc import Iterator
from operator import attrgetter
from typing import Any, ForwardRef, get_args

import red_tui
import red_tui.data
from docs.generate.docstrings import as_markdown, first_sentence
from docs.generate.markdown import table

INTRODUCTION = """\
# The library

`import red_tui as red` gives the names below, and imports neither Ray nor Textual until one of them needs it.
Everything else in the package is private: it may change with any version.

"""

PAGES: dict[str, tuple[str, str]] = {
    "nodes": (
        "Nodes",
        "FederatedNode FitResult EvaluateResult Parameters remote FederationConfig VirtualNode NodeState",
    ),
    "federation": (
        "Federations",
        "FederatedBase StarFederatedLearningSchema RingFederatedLearningSchema MeshFederatedLearningSchema"
        " KConnectedFederatedLearningSchema CustomFederatedLearningSchema HierarchicalFederatedLearningSchema"
        " Federation FailurePolicy open_federations",
    ),
    "rounds": (
        "Rounds and strategies",
        "RoundSettings RoundResult History RoundHook RunStart strategies Strategy FederatedServer FederatedAggregator"
        " load_parameters Verification verify",
    ),
    "runs": ("Runs", "runs Run RunSummary compare RunComparison"),
    "placement": ("Resources and plans", "get_resources_split BuildPlan"),
    "messages": ("Messages and topologies", "Message MailboxRule SessionResult Topology TopologyRule TopologyManager"),
    "cluster": ("Federations that live in the cluster", "launch attach adopt federations Client"),
    "data": (
        "Data",
        "data.Partition data.IID data.Dirichlet data.Shards data.Pathological data.PowerLaw data.Sizes data.NaturalId"
        " data.Explicit data.Split data.make_partition data.describe data.DataDescription data.DataRule data.Examples"
        " data.from_ray data.RayParts data.RayPart data.PartitionError data.DataError data.NoDataError",
    ),
    "errors": (
        "Errors",
        "RedError BuildError CheckpointError CommandRefused LayoutError MessageError NameTaken NotConnected"
        " PlacementError RoundError RunError SelectionError SessionError TopologyError",
    ),
}


def pages() -> dict[str, str]:
    """Each page by its name, and an index of all public names."""
    grouped = [name for _, names in PAGES.values() for name in names.split()]
    public = [*red_tui.__all__, *(f"data.{name}" for name in red_tui.data.__all__)]
    if sorted(grouped) != sorted(public):
        different = sorted(set(grouped) ^ set(public))
        raise ValueError(f"docs/generate/api_pages.py: {', '.join(different)}: public and on no page, or the reverse")
    made = {page: _page(title, names.split()) for page, (title, names) in PAGES.items()}
    rows = [
        (f"[`red.{name}`]({_target(name)})", _told(name))
        for page, (_, names) in PAGES.items()
        for name in names.split()
    ]
    made["index"] = INTRODUCTION + table(("name", "what it is"), rows)
    return made


def _told(name: str) -> str:
    value = attrgetter(name)(red_tui)
    if name == "Parameters":
        return "A model's parameters: numpy arrays by name."
    return first_sentence(value.__doc__)


def _target(name: str) -> str:
    """Page and anchor of a name; the anchor as forges and the documentation's builder make it of a heading."""
    page = next(page for page, (_, names) in PAGES.items() if name in names.split())
    return f"{page}.md#red{name}".lower()


def _page(title: str, names: list[str]) -> str:
    return f"# {title}\n\n" + "\n".join(_entry(name, attrgetter(name)(red_tui)) for name in names)


def _entry(name: str, value: Any) -> str:
    head = f"## `red.{name}`\n\n"
    if name == "Parameters":
        return head + f"{_told(name)}\n\n```text\nParameters = {_plain(value)}\n```\n"
    if isinstance(value, types.ModuleType):
        return head + as_markdown(value.__doc__) + "\n\n" + "".join(_classes_of(value))
    if isinstance(value, type):
        return head + _class(name, value)
    return head + _signature(f"red.{name}", value) + as_markdown(value.__doc__) + "\n"


def _classes_of(module: types.ModuleType) -> Iterator[str]:
    for name, value in vars(module).items():
        if isinstance(value, type) and value.__module__.startswith(module.__name__) and not name.startswith("_"):
            head = f"### `red.{module.__name__.rpartition('.')[2]}.{name}`\n\n"
            yield f"{head}{_signature(name, value)}{as_markdown(value.__doc__)}\n\n"


def _class(name: str, cls: type) -> str:
    told = [as_markdown(cls.__doc__)]
    if issubclass(cls, enum.Enum):
        return told[0] + "\n\n" + ", ".join(f"`{member.value}`" for member in cls) + "\n"
    if not issubclass(cls, BaseException):
        told.insert(0, _signature(f"red.{name}", cls).rstrip())
        init = vars(cls).get("__init__")
        if init is not None and init.__doc__ and not init.__doc__.startswith("Initialize self"):
            told.append(as_markdown(init.__doc__))
    documented = _documented_elsewhere(cls)
    bases = [base.__name__ for base in cls.__mro__[1:] if base in documented]
    if bases:
        told.append(f"It has all that [`red.{bases[0]}`]({_target(bases[0])}) has.")
    for member, value in sorted(_members(cls, documented)):
        told.append(_member(member, value))
    return "\n\n".join(part for part in told if part) + "\n"


def _documented_elsewhere(cls: type) -> set[type]:
    public = {getattr(red_tui, name) for name in red_tui.__all__ if name != "Parameters"}
    return {base for base in cls.__mro__[1:] if base in public}


def _members(cls: type, documented: set[type]) -> Iterator[tuple[str, Any]]:
    """Public attributes that say what they are, of the class and of its private bases."""
    said_by_bases = {name for base in documented for kind in base.__mro__ for name in vars(kind)}
    seen: set[str] = set()
    for kind in cls.__mro__:
        if kind in documented or not kind.__module__.startswith("red_tui"):
            continue
        for name, value in vars(kind).items():
            inner = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
            known = isinstance(value, (property, classmethod, staticmethod)) or inspect.isfunction(inner)
            if name.startswith("_") or name in seen or not known or not (inner.__doc__ or "").strip():
                continue
            seen.add(name)
            if name not in said_by_bases or kind is cls:
                yield name, value


def _member(name: str, value: Any) -> str:
    if isinstance(value, property):
        made = _plain(inspect.signature(value.fget).return_annotation) if value.fget else ""
        return f"### `{name}`\n\n```text\n{name}: {made}\n```\n\n{as_markdown(value.__doc__)}"
    inner = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
    bound = not isinstance(value, staticmethod)
    kind = "classmethod " if isinstance(value, classmethod) else ""
    return f"### `{name}()`\n\n" + _signature(kind + name, inner, bound) + as_markdown(inner.__doc__)


def _signature(name: str, value: Any, bound: bool = False) -> str:
    """How it is called; one argument a line where it is long."""
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return ""
    arguments = [parameter for parameter in list(signature.parameters.values())[int(bound) :]]
    told: list[str] = []
    starred = False
    for parameter in arguments:
        if parameter.kind is parameter.VAR_POSITIONAL:
            starred = True
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            told.append("*")
            starred = True
        told.append(_argument(parameter))
    result = signature.return_annotation
    end = "" if result is signature.empty or isinstance(value, type) else f" -> {_plain(result)}"
    line = f"{name}({', '.join(told)}){end}"
    if len(line) > 110:
        line = f"{name}(\n" + "".join(f"    {argument},\n" for argument in told) + f"){end}"
    return f"```text\n{line}\n```\n\n"


def _argument(parameter: inspect.Parameter) -> str:
    stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    annotation = "" if parameter.annotation is parameter.empty else f": {_plain(parameter.annotation)}"
    if parameter.default is parameter.empty:
        return f"{stars}{parameter.name}{annotation}"
    default = parameter.default
    shown = repr(default) if isinstance(default, (str, int, float, bool, tuple, type(None))) else "…"
    return f"{parameter.name}{annotation}{' = ' if annotation else '='}{shown}"


def _plain(annotation: Any) -> str:
    """A type as a reader writes it."""
    if annotation is None or annotation is type(None):
        return "None"
    if isinstance(annotation, str):
        return annotation.strip("'\"")
    if isinstance(annotation, ForwardRef):
        return annotation.__forward_arg__
    if isinstance(annotation, type) and not get_args(annotation):
        return annotation.__name__
    text = str(annotation)
    for prefix in ("typing.", "collections.abc."):
        text = text.replace(prefix, "")
    return text.replace("numpy.ndarray[tuple[Any, ...], numpy.dtype[Any]]", "numpy.ndarray")
