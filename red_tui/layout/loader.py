"""Reading a layout: every refusal names file, line, column, field and what is allowed."""

from __future__ import annotations

import difflib
import importlib.resources
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from red_tui.checks import shown
from red_tui.errors import LayoutError
from red_tui.layout.models import (
    ALTERNATIVES,
    Bundle,
    Failure,
    Layout,
    MailboxChoice,
    NodeGroup,
    Placement,
    Rounds,
    StrategyChoice,
    TopologyChoice,
)
from red_tui.layout.rules import Refused, unknown_role
from red_tui.layout.yaml_tree import first_comment, kind_of, path_text, read, refused_at
from red_tui.plain_text import MAX_WORD, brief
from red_tui.safe_yaml import Problem, TreePath, Unreadable, YamlTree, read_file

TOLD_KEYS = ("num_nodes", "node_index", "strategy", "round")
"""Config keys that a federation itself tells its nodes."""

COUNTED = {"CPU": "cpu", "GPU": "gpu"}

PROBLEMS = 100
"""Max problems of a layout that are told one by one."""


def refuse_contradictions(layout: Layout, file: str = "layout") -> None:
    """Raise LayoutError for the first thing that a layout says twice and differently, with its place in the file."""
    for field, text in _contradictions(layout):
        raise contradiction(layout, file, field, text)


def contradiction(layout: Layout, file: str, field: str, text: str) -> LayoutError:
    """The error of a contradiction in a field."""
    line, column = layout.position(field) or (None, None)
    where = f"{file}:{line}:{column}: " if line else f"{file}: "
    return LayoutError(f"{where}{field}: {text}", file=file, line=line, column=column, field=field, allowed=None)


def _contradictions(layout: Layout) -> Iterator[tuple[str, str]]:
    configs = [("config", layout.config), *((f"nodes[{at}].config", one.config) for at, one in enumerate(layout.nodes))]
    for field, config in configs:
        for key in TOLD_KEYS:
            if key in config:
                yield f"{field}.{key}", "the federation itself tells this to its nodes: choose another name"
    yield from _of_placement(layout.placement)


def _of_placement(placement: Placement) -> Iterator[tuple[str, str]]:
    for name, field in COUNTED.items():
        if name in placement.resources:
            yield f"placement.resources.{name}", f"this is said by {field}s: leave it out here"
    if not isinstance(placement.bundles, list):
        return
    totals = {name: 0.0 for name in (*COUNTED, *placement.resources)}
    for at, bundle in enumerate(placement.bundles):
        for name, field in COUNTED.items():
            if name in bundle.resources:
                yield f"placement.bundles[{at}].resources.{name}", f"this is said by {field}: leave it out here"
        for name, amount in {"CPU": bundle.cpu, "GPU": bundle.gpu, **bundle.resources}.items():
            totals[name] = totals.get(name, 0.0) + amount * bundle.count
    if placement.split != "uniform":
        yield "placement.split", "the bundles are listed with what each has, so nothing is split: leave one of them out"
    said = [("cpus", "CPU", placement.cpus), ("gpus", "GPU", placement.gpus or None)]
    said += [(f"resources.{name}", name, total) for name, total in placement.resources.items()]
    for field, name, wanted in said:
        if wanted is not None and abs(totals[name] - wanted) > 1e-6:
            text = f"{wanted:g} here and {totals[name]:g} in the listed bundles: leave one of them out"
            yield f"placement.{field}", text


_PARTS: dict[TreePath, type[BaseModel]] = {
    (): Layout,
    ("nodes", "*"): NodeGroup,
    ("placement",): Placement,
    ("placement", "bundles", "*"): Bundle,
    ("rounds",): Rounds,
    ("rounds", "strategy"): StrategyChoice,
    ("failure",): Failure,
    ("topology",): TopologyChoice,
    ("mailbox",): MailboxChoice,
}
_WANTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
_COMPARED = {
    "greater_than": ("above", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("below", "lt"),
    "less_than_equal": ("at most", "le"),
}
_QUOTED = re.compile(r"'([^']*)'")


def load(path: str | Path) -> Layout:
    """Read the layout in a file.

    Raises:
        LayoutError: If it cannot be read or says something that a layout cannot say.
    """
    try:
        text = read_file(path)
    except Unreadable as error:
        raise _error(str(path), f"{brief(str(path), 300)}: {error}; give the path of a layout") from None
    return loads(text, str(path))


def loads(text: str, file: str = "layout") -> Layout:
    """Read a layout from text; `file` is what messages call it.

    Raises:
        LayoutError: For the first problem in the order of the file; it says how many more there are.
    """
    try:
        tree = read(text)
    except Unreadable as error:
        message = f"{file}:{error.line}:{error.column}: {error.text}"
        raise _error(file, message, line=error.line, column=error.column) from None
    if not isinstance(tree.data, dict):
        raise _error(file, f"{file}:1:1: a layout is a mapping, not {kind_of(tree.data)}; it starts with federation:")
    data = dict(tree.data)
    if "title" not in data:
        data["title"] = first_comment(text)[:200]
    layout, problems = None, list(tree.problems)
    try:
        layout = Layout.model_validate(data)
    except ValidationError as error:
        problems += [_problem(tree, found) for found in error.errors(include_url=False)]
        problems += _role_problems(tree, data)
    if problems or layout is None:
        raise _first(problems, file)
    layout._marks = {path_text(path): place for path, place in tree.values.items()}
    return layout


def what_is_wrong(part: type[BaseModel], values: dict[str, Any]) -> str:
    """What is wrong with values of a part of a layout, in words that follow their name; nothing if they are right."""
    try:
        part.model_validate(values)
    except ValidationError as error:
        return _problem(YamlTree(data=values), error.errors(include_url=False)[0]).text
    return ""


def _first(problems: list[Problem], file: str) -> LayoutError:
    """The first problem in the order of the file; of several about one value the one found first."""
    by_path: dict[TreePath, Problem] = {}
    for problem in problems:
        by_path.setdefault(problem.path, problem)
    ordered = sorted(by_path.values(), key=lambda problem: (problem.line, problem.column))
    first, more = ordered[0], len(ordered) - 1
    told = [_told(problem, file) for problem in ordered[:PROBLEMS]]
    message = told[0]
    if more:
        message += f" — and {more} more {'problem' if more == 1 else 'problems'}"
    if len(ordered) > PROBLEMS:
        told.append(f"{file}: and {len(ordered) - PROBLEMS} more problems")
    allowed = list(first.allowed) if first.allowed is not None else None
    place = {"line": first.line, "column": first.column, "field": path_text(first.path)}
    return _error(file, message, **place, allowed=allowed, problems=told)


def _told(problem: Problem, file: str) -> str:
    """One problem in a line: where it is, what is wrong, and what would be right."""
    field, place = path_text(problem.path), f"{file}:{problem.line}:{problem.column}"
    message = f"{place}: {brief(field, 200)}: " if field else f"{place}: "
    message += brief(problem.text, 600)
    if problem.allowed is not None:
        close = difflib.get_close_matches(problem.word[:MAX_WORD], problem.allowed, 1) if problem.word else []
        message += f"; did you mean {close[0]}?" if close else ";"
        message += f" ({', '.join(problem.allowed)})" if problem.allowed else " (none is allowed)"
        message = message.replace("; (", " (")
    return message


def _error(file: str, message: str, **fields: Any) -> LayoutError:
    return LayoutError(message, **{"file": file, "line": None, "column": None, "field": "", "allowed": None, **fields})


def _problem(tree: YamlTree, found: Any) -> Problem:
    """One error of pydantic as a problem with a place."""
    path, kind, context = _path(tree, found["loc"]), found["type"], found.get("ctx") or {}
    refused = context.get("error")
    if isinstance(refused, Refused):
        return refused_at(tree, path, refused)
    value = found["input"]
    if kind == "extra_forbidden":
        allowed, name = _keys(path[:-1]), str(path[-1])
        return Problem(*tree.place(path, at_key=True), path, "there is no such key", allowed, name)
    if kind == "missing":
        return Problem(*tree.place(path[:-1]), path, f"is missing; add the key {path[-1]}")
    place = tree.place(path)
    if kind == "literal_error":
        allowed = tuple(_QUOTED.findall(str(context.get("expected"))))
        shown = tree.words.get(path, value)
        return Problem(*place, path, f"{_quoted(shown)} is not allowed", allowed, str(shown))
    if kind in _WANTED:
        return Problem(*place, path, _wrong_type(tree, path, _WANTED[kind], value))
    if kind in _COMPARED:
        relation, name = _COMPARED[kind]
        return Problem(*place, path, f"must be {relation} {_plain(context[name])}, not {value}")
    if kind == "finite_number":
        return Problem(*place, path, f"must be a finite number, not {value}")
    if kind == "too_short":
        return Problem(*place, path, "is empty; at least one is needed")
    if kind == "string_pattern_mismatch":
        return Problem(*place, path, f"{_quoted(value)} does not have the form {context['pattern']}")
    if kind == "string_too_long":
        return Problem(*place, path, f"is too long: at most {context['max_length']} characters")
    return Problem(*place, path, str(found["msg"]))


def _wrong_type(tree: YamlTree, path: TreePath, wanted: str, value: Any) -> str:
    written = tree.words.get(path)
    if wanted == "text" and written is not None:
        if value is None:
            return (
                "must be text, and nothing is written here" if not written else f"must be text: put {written} in quotes"
            )
        return f'must be text, and YAML reads {written} as {kind_of(value)}: write "{written}" in quotes'
    if isinstance(value, (str, bool, int, float)):
        return f"must be {wanted}, not {kind_of(value)} ({_quoted(written if written is not None else value)})"
    return f"must be {wanted}, not {kind_of(value)}"


def _quoted(value: Any) -> str:
    text = str(value)
    return f'"{text}"' if len(text) <= 80 else f'"{text[:77]}..."'


def _path(tree: YamlTree, loc: tuple[str | int, ...]) -> TreePath:
    """Pydantic's location without the names that it adds for alternatives."""
    path: TreePath = ()
    around: Any = tree.data
    for part in loc:
        if part in ALTERNATIVES or (isinstance(around, list) and isinstance(part, str)):
            continue
        if around is not None and not isinstance(around, (list, dict)):
            break
        path = (*path, part)
        if isinstance(around, list) and isinstance(part, int) and part < len(around):
            around = around[part]
        else:
            around = around.get(part) if isinstance(around, dict) else None
    return path


def _keys(path: TreePath) -> tuple[str, ...]:
    """The keys of the part at a path."""
    model = _PARTS.get(tuple("*" if isinstance(part, int) else part for part in path), Layout)
    return tuple(field.alias or name for name, field in model.model_fields.items())


def _role_problems(tree: YamlTree, data: dict[str, Any]) -> list[Problem]:
    """Unknown roles, which pydantic does not reach as long as anything else is wrong."""
    groups, further = data.get("nodes"), data.get("roles")
    further = [word for word in further if isinstance(word, str)] if isinstance(further, list) else []
    problems = []
    for index, group in enumerate(groups if isinstance(groups, list) else []):
        role = group.get("role") if isinstance(group, dict) else None
        refused = unknown_role(role, further) if isinstance(role, str) else None
        if refused:
            problems.append(refused_at(tree, ("nodes", index, "role"), refused))
    return problems


PACKAGE = "red_tui.layouts"
SUFFIXES = (".yaml", ".yml")


def find_layouts() -> list[tuple[Path, str]]:
    """Path and title of each shipped layout, by name."""
    found = []
    for path in sorted(_shipped(), key=lambda path: path.name):
        with path.open(encoding="utf-8") as lines:
            found.append((path, first_comment("".join(itertools.islice(lines, 20)))))
    return found


def resolve(name: str | Path) -> Path:
    """The file that a path, or the name of a shipped layout such as `digits`, means.

    Raises:
        LayoutError: If there is none.
    """
    if not isinstance(name, (str, Path)):
        raise LayoutError(
            f"a layout is named by the path of its file, or by the name of a shipped one, not by {shown(name)}",
            file="",
            line=None,
            column=None,
            field="",
            allowed=None,
        )
    path = Path(name).expanduser()
    if path.is_file():
        return path
    shipped = {found.stem: found for found, _ in find_layouts()}
    if path.parent == Path() and path.suffix in ("", *SUFFIXES) and path.stem in shipped:
        return shipped[path.stem]
    names = sorted(shipped)
    close = difflib.get_close_matches(path.stem, names, 1)
    hint = f"did you mean {close[0]}? " if close else ""
    what = "is a folder, not a layout" if path.is_dir() else "there is no such layout file"
    raise LayoutError(
        f"{name}: {what}; {hint}give a path, or one of the shipped: {', '.join(names) or 'none'}",
        file=str(name),
        line=None,
        column=None,
        field="",
        allowed=names,
    )


def _plain(bound: float) -> str:
    """A bound as one writes it: 50,000,000 and 0.5."""
    return f"{bound:,}" if isinstance(bound, int) else f"{bound:g}"


def _shipped() -> list[Path]:
    """Files of the installed package, else of the folder `layouts` beside the package in a checkout."""
    try:
        packaged = [item for item in importlib.resources.files(PACKAGE).iterdir() if isinstance(item, Path)]
    except (ModuleNotFoundError, FileNotFoundError, NotADirectoryError):
        packaged = []
    found = [item for item in packaged if item.suffix in SUFFIXES]
    if found:
        return found
    folder = Path(__file__).resolve().parents[2] / "layouts"
    return [item for item in folder.glob("*") if item.suffix in SUFFIXES] if folder.is_dir() else []
