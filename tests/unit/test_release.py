from __future__ import annotations

import datetime
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import release
from release import ReleaseError, look, section, set_version

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A small checkout with a version, a changelog and a commit."""
    (tmp_path / "red_tui").mkdir()
    (tmp_path / "red_tui" / "__init__.py").write_text('"""It."""\n\n__version__ = "0.1.0"\n')
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## [Unreleased]\n\n- Something new.\n")
    shutil.copy(ROOT / "release.py", tmp_path)
    git(tmp_path, "init", "--quiet")
    commit(tmp_path)
    return tmp_path


def git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org")
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


def commit(folder: Path) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "A change")


def test_a_dry_run_looks_and_changes_nothing(checkout: Path) -> None:
    command = [sys.executable, "release.py", "0.2.0", "--dry-run"]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 0 and "0.2.0 can be released" in done.stdout
    assert release.git(checkout, "status", "--porcelain") == "" and release.git(checkout, "tag") == ""


@pytest.mark.parametrize(
    ("version", "why"),
    [("0.2", "no version"), ("v0.2.0", "no version"), ("0.0.9", "older than 0.1.0")],
)
def test_a_version_that_is_none_or_older_is_refused(version: str, why: str, checkout: Path) -> None:
    with pytest.raises(ReleaseError, match=why):
        look(checkout, version)


def test_what_is_not_committed_is_not_released(checkout: Path) -> None:
    (checkout / "red_tui" / "more.py").touch()
    with pytest.raises(ReleaseError, match="not committed"):
        look(checkout, "0.2.0")


def test_a_version_without_a_word_in_the_changelog_is_not_released(checkout: Path) -> None:
    (checkout / "CHANGELOG.md").write_text("# Changelog\n\n## [Unreleased]\n\n## [0.1.0] - 2026-01-01\n\n- Old.\n")
    commit(checkout)
    with pytest.raises(ReleaseError, match="says nothing under"):
        look(checkout, "0.2.0")


def test_a_tag_that_is_there_is_not_made_again(checkout: Path) -> None:
    git(checkout, "tag", "v0.2.0")
    with pytest.raises(ReleaseError, match="there already"):
        look(checkout, "0.2.0")


def test_the_version_is_set_in_its_one_place_and_heads_its_changes(checkout: Path) -> None:
    set_version(checkout, "0.2.0", datetime.date(2026, 12, 24))
    assert '__version__ = "0.2.0"' in (checkout / "red_tui" / "__init__.py").read_text()
    changelog = (checkout / "CHANGELOG.md").read_text()
    assert section(changelog, "[Unreleased]") == ""
    assert section(changelog, "[0.2.0]") == "- Something new."
    assert "## [0.2.0] - 2026-12-24" in changelog


def test_this_checkout_says_what_its_next_version_brings() -> None:
    assert section((ROOT / "CHANGELOG.md").read_text(), "[Unreleased]")
