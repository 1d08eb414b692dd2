"""`make release VERSION=0.2.0`: look whether a version can be released, then set it, build it and tag it.

Nothing leaves this machine: the wheel and the source distribution lie in `dist/`, the tag is in the checkout.
"""

from __future__ import annotations

import argparse
import datetime
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent
VERSION = re.compile(r"^__version__ = \"(.+)\"$", re.MULTILINE)
HOME = Path("red_tui", "__init__.py")
CHANGELOG = Path("CHANGELOG.md")


class ReleaseError(Exception):
    """Why this version cannot be released."""


def number(version: str) -> tuple[int, ...]:
    """The parts of a version.

    Raises:
        ReleaseError: If it is none.
    """
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise ReleaseError(f"{version!r} is no version: write three numbers, such as 0.2.0")
    return tuple(int(part) for part in version.split("."))


def section(changelog: str, heading: str) -> str:
    """What the changelog says under a heading such as `[Unreleased]`."""
    found = re.search(rf"^## {re.escape(heading)}[^\n]*\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    return found.group(1).strip() if found else ""


def look(root: Path, version: str) -> None:
    """Look whether a version can be released.

    Raises:
        ReleaseError: If it is not newer, something is not committed, the changelog is silent, or the tag is taken.
    """
    present = VERSION.search((root / HOME).read_text(encoding="utf-8"))
    if present is None:
        raise ReleaseError(f"{HOME} says no __version__")
    if number(version) < number(present.group(1)):
        raise ReleaseError(f"{version} is older than {present.group(1)}, which {HOME} says")
    if git(root, "status", "--porcelain"):
        raise ReleaseError("something is not committed: git status says what")
    if git(root, "tag", "--list", f"v{version}"):
        raise ReleaseError(f"the tag v{version} is there already")
    if not section((root / CHANGELOG).read_text(encoding="utf-8"), "[Unreleased]"):
        raise ReleaseError(f"{CHANGELOG} says nothing under [Unreleased]: say there what this version brings")


def set_version(root: Path, version: str, day: datetime.date) -> None:
    """Write the version where it stands, and its heading into the changelog."""
    home, changelog = root / HOME, root / CHANGELOG
    home.write_text(VERSION.sub(f'__version__ = "{version}"', home.read_text(encoding="utf-8")), encoding="utf-8")
    heading = f"## [Unreleased]\n\n## [{version}] - {day.isoformat()}\n"
    told = changelog.read_text(encoding="utf-8").replace("## [Unreleased]\n", heading, 1)
    changelog.write_text(told, encoding="utf-8")


def build(root: Path) -> None:
    """Build the source distribution, and the wheel from it."""
    subprocess.run([sys.executable, "-m", "build", "--no-isolation", str(root)], check=True)


def git(root: Path, *arguments: str) -> str:
    """What a git command prints."""
    return subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True).stdout.strip()


def main() -> int:
    """Release, or with --dry-run only look."""
    parser = argparse.ArgumentParser(prog="release", description=__doc__)
    parser.add_argument("version")
    parser.add_argument("--dry-run", action="store_true", help="only look whether it can be done")
    options = parser.parse_args()
    try:
        look(ROOT, options.version)
    except ReleaseError as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    if options.dry_run:
        print(f"{options.version} can be released: nothing was changed")
        return 0
    set_version(ROOT, options.version, datetime.date.today())
    build(ROOT)
    git(ROOT, "commit", "--all", "--message", f"Release {options.version}")
    git(ROOT, "tag", "--annotate", f"v{options.version}", "--message", f"red-tui {options.version}")
    print(f"released {options.version}: dist/ holds it, the tag is v{options.version}; nothing was pushed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
