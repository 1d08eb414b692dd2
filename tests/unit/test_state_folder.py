"""The folder of all state: where it is, whose it must be, and what is never removed or ended on a note's word."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from red_tui.errors import StateFolderError
from red_tui.replay.timeline import ReplayError, journal_path
from red_tui.state_folder import federation_folder, home, state_folder
from red_tui.supervisor.local_cluster import (
    MARK,
    alive,
    end_tree,
    make_folder,
    marked,
    read_cluster,
    remove_folder,
    running_cluster,
    stop_cluster,
    why_not_ours,
)

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A RED_HOME that is not there yet."""
    path = tmp_path / "home"
    monkeypatch.setenv("RED_HOME", str(path))
    return path


def note(own: Path, **changes: object) -> Path:
    """A note of a cluster in a home; nothing of that cluster lives."""
    fields = {"address": "127.0.0.1:1", "pid": 0, "created": 0.0, "folder": "", "ray_version": "", "python": ""}
    home()
    (own / "cluster.json").write_text(json.dumps({**fields, **changes}))
    return own / "cluster.json"


# -- where it is ----------------------------------------------------------------------------------


def test_a_tilde_in_red_home_is_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RED_HOME", "~/red")
    monkeypatch.chdir(tmp_path)
    assert state_folder() == tmp_path / "red" == home()
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize("given", ["red", "./red", "~nobody-of-this-name/red"])
def test_a_relative_red_home_is_refused_with_an_absolute_one(
    given: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RED_HOME", given)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StateFolderError, match=f"not absolute.*{tmp_path}"):
        home()
    assert list(tmp_path.iterdir()) == []


def test_without_a_home_folder_red_home_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unknown(uid: int) -> None:
        raise KeyError(uid)

    for name in ("RED_HOME", "XDG_STATE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StateFolderError, match="set HOME, or RED_HOME"):
        home()
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_the_folder_is_named(own: Path) -> None:
    own.write_text("")
    with pytest.raises(StateFolderError, match=f"{own} is a file"):
        home()
    own.unlink()
    own.symlink_to(own.with_name("nowhere"))
    with pytest.raises(StateFolderError, match="leads nowhere"):
        home()


# -- whose it is ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777], ids=oct)
def test_a_folder_that_others_can_write_is_refused_with_a_way_out(own: Path, mode: int) -> None:
    own.mkdir()
    own.chmod(mode)
    with pytest.raises(StateFolderError, match=f"chmod -R go-w {own}"):
        home()
    own.chmod(0o755)
    assert home() == own


@pytest.mark.parametrize("name", ["federations", "federations/fed", "federations/fed/launch.json"])
def test_a_folder_or_file_below_that_others_can_write_is_refused(own: Path, name: str) -> None:
    (federation_folder("fed") / "launch.json").write_text("{}")
    (own / name).chmod(0o777)
    with pytest.raises(StateFolderError, match=f"{own / name} can be written by other users"):
        federation_folder("fed")


@as_root
@pytest.mark.parametrize("name", ["", "federations", "federations/fed", "federations/fed/journal.db"])
def test_what_another_user_owns_is_refused_by_its_name(own: Path, name: str) -> None:
    (federation_folder("fed") / "journal.db").write_text("")
    os.chown(own / name, NOBODY, -1)
    with pytest.raises(StateFolderError, match=f"{own / name} belongs to user nobody"):
        federation_folder("fed")


@pytest.mark.parametrize("name", ["", "federations", "federations/fed", "federations/fed/journal.db"])
def test_a_journal_that_others_could_have_written_is_not_replayed_by_its_id(own: Path, name: str) -> None:
    journal = federation_folder("fed") / "journal.db"
    journal.write_text("")
    assert journal_path("fed") == journal
    (own / name).chmod(0o777)
    with pytest.raises(StateFolderError, match=f"{own / name} can be written by other users"):
        journal_path("fed")
    assert journal_path(str(journal)) == journal, "a path is the user's own word"


def test_a_path_in_the_home_of_nobody_is_no_journal() -> None:
    with pytest.raises(ReplayError, match="there is no journal at ~nobody-of-this-name/x"):
        journal_path("~nobody-of-this-name/x")


@as_root
def test_a_link_of_another_user_is_refused_though_it_leads_to_ones_own(own: Path) -> None:
    own.with_name("mine").mkdir()
    own.symlink_to(own.with_name("mine"))
    assert home() == own
    os.lchown(own, NOBODY, -1)
    with pytest.raises(StateFolderError, match="belongs to user nobody"):
        home()


def test_a_note_that_others_could_have_written_is_not_believed(own: Path) -> None:
    written = note(own, folder="/")
    assert read_cluster() is not None
    written.chmod(0o666)
    with pytest.raises(StateFolderError, match="can be written by other users"):
        stop_cluster()


# -- what a note can do ---------------------------------------------------------------------------


def test_a_folder_that_a_note_names_is_removed_only_if_it_was_made_here(own: Path, tmp_path: Path) -> None:
    precious = tmp_path / "red-ray-thesis"
    precious.mkdir()
    (precious / "thesis.tex").write_text("years")
    for folder in (precious, f"{precious}/", f"{own}/../{precious.name}", tmp_path):
        note(own, folder=str(folder))
        told = stop_cluster()
        assert "is left as it is" in told.left, folder
        assert (precious / "thesis.tex").exists()
    assert not (own / "cluster.json").exists(), "the note would stand for ever"


def test_a_folder_is_ours_by_its_mark_its_name_its_owner_and_by_no_link(tmp_path: Path) -> None:
    made = make_folder()
    assert made.stat().st_mode & 0o777 == 0o700 and why_not_ours(made) == ""
    copied, link = tmp_path / "red-ray-copied", tmp_path / "red-ray-link"
    copied.mkdir()
    (copied / ".red-tui-cluster").write_text((made / ".red-tui-cluster").read_text())
    link.symlink_to(made)
    assert "names another" in remove_folder(copied) and copied.exists()
    assert "no folder" in remove_folder(link) and made.exists()
    (made / ".red-tui-cluster").rename(made / "mark")
    (made / ".red-tui-cluster").symlink_to(made / "mark")
    assert "is not ours" in remove_folder(made)
    (made / "mark").replace(made / ".red-tui-cluster")
    if os.geteuid() == 0:
        os.chown(made, NOBODY, -1)
        assert "another user" in remove_folder(made)
        os.chown(made, 0, -1)
    assert remove_folder(made) == "" and not made.exists()
    assert remove_folder(made) == "", "what is gone is as removed"


@pytest.fixture
def bystander() -> Iterator[psutil.Process]:
    """A process that has nothing to do with a cluster."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as started:
        yield psutil.Process(started.pid)
        started.kill()


def test_a_process_that_a_note_names_is_ended_only_if_it_carries_the_clusters_mark(
    own: Path, bystander: psutil.Process
) -> None:
    note(own, pid=bystander.pid, created=bystander.create_time(), folder=str(own / "none"))
    assert alive(bystander.pid, bystander.create_time()) is not None
    assert running_cluster() is None
    assert stop_cluster().processes == 0
    assert bystander.is_running()


@pytest.mark.parametrize(
    "change", [{"pid": "1"}, {"folder": None}, {"address": 5}, {"created": "now"}], ids=lambda change: str(change)
)
def test_a_note_with_a_value_of_the_wrong_kind_is_as_none(own: Path, change: dict[str, object]) -> None:
    note(own, **change)
    assert read_cluster() is None


@as_root
def test_a_process_of_another_user_is_neither_found_by_a_mark_nor_ended(tmp_path: Path) -> None:
    sleeper = ["sh", "-c", "echo; read line"]
    with subprocess.Popen(
        sleeper, user=NOBODY, env={MARK: str(tmp_path)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        process = psutil.Process(other.pid)
        assert marked(MARK, str(tmp_path)) == []
        assert alive(other.pid, process.create_time()) is None
        assert end_tree([process], (MARK, str(tmp_path))) == 0
        assert other.poll() is None
        other.kill()
