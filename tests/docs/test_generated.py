"""The pages that are made from the code are up to date, and the pages written by hand name what exists."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

from docs.generate import DOCS
from docs.generate.api_pages import PAGES

ARCHITECTURE = DOCS / "explanation" / "architecture.md"
PACKAGE = DOCS.parent / "red_tui"


def test_pages_made_from_the_code_are_up_to_date() -> None:
    """In a process of its own: where Ray has made actors of a class, it has changed the class."""
    command = [sys.executable, "-m", "docs.generate", "--check"]
    done = subprocess.run(command, cwd=DOCS.parent, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_public_name_stands_on_a_page() -> None:
    for page, (_, names) in PAGES.items():
        text = (DOCS / "reference" / "api" / f"{page}.md").read_text()
        for name in names.split():
            assert f"`red.{name}`" in text


def test_every_page_is_in_the_table_of_contents() -> None:
    listed = (DOCS / "index.md").read_text()
    for page in DOCS.rglob("*.md"):
        name = str(page.relative_to(DOCS).with_suffix(""))
        assert name == "index" or name in listed.split(), f"docs/index.md does not list {name}"


def defined() -> dict[str, set[str]]:
    """Classes and functions of the package, each with its methods, those of its bases included."""
    own: dict[str, set[str]] = {}
    bases: dict[str, list[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                own.setdefault(node.name, set())
            elif isinstance(node, ast.ClassDef):
                inner = (one.name for one in node.body if isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef)))
                own.setdefault(node.name, set()).update(inner)
                bases[node.name] = [base.id for base in node.bases if isinstance(base, ast.Name)]

    def methods(name: str) -> set[str]:
        return own.get(name, set()).union(*(methods(base) for base in bases.get(name, ())))

    return {name: methods(name) for name in own}


def test_the_journeys_name_classes_and_methods_that_exist() -> None:
    known = defined()
    named = re.findall(r"`([A-Z]\w*|[a-z]\w*(?=\(\)`))(?:\.(\w+))?(?:\(\))?`", ARCHITECTURE.read_text())
    assert len(named) > 30
    missing = [
        f"{owner}.{method}" if method else owner
        for owner, method in named
        if owner not in known or (method and method not in known[owner])
    ]
    assert not missing, f"docs/explanation/architecture.md: {', '.join(missing)}: there is no such class or method"


def test_the_journeys_name_rooms_that_exist() -> None:
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix in ("", ".py")}
    named = set(re.findall(r"\| `(\w+)/` \|", ARCHITECTURE.read_text()))
    assert named and named <= rooms, f"docs/explanation/architecture.md: {', '.join(named - rooms)}: no such room"
