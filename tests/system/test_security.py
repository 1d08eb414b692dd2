"""What another user of this machine can, and cannot, do to whoever uses red-tui; see SECURITY.md."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.neighbour import NOBODY, Neighbour, require_another_user
from tests.system.support import Home, Sandbox, processes_of, write_layout

OK, FAILED, USAGE, NOT_CONNECTED = 0, 1, 2, 3


@pytest.fixture(scope="module")
def neighbour(sandbox: Sandbox) -> Iterator[Neighbour]:
    """Another user's Ray, noted where Ray's own `ray.init` looks for a cluster."""
    other = Neighbour()
    note = other.note(sandbox.folder)
    yield other
    note.unlink()
    other.close()


def test_the_trap_of_these_tests_springs_where_the_cluster_is_named(neighbour: Neighbour, home: Home) -> None:
    told = home.red("status", "digits", "--address", neighbour.address)
    assert told.code == NOT_CONNECTED and "it is no supervisor of red-tui" in told.err, told
    assert neighbour.trap.exists(), "the tests below would show nothing"
    neighbour.trap.unlink()


@pytest.mark.parametrize("verb", [("ls",), ("status",), ("down", "digits", "--yes")], ids=lambda verb: verb[0])
def test_another_users_ray_is_not_asked_and_said_to_be_left_alone(
    verb: tuple[str, ...], neighbour: Neighbour, home: Home
) -> None:
    told = home.red(*verb)
    assert (told.code, told.out) == (NOT_CONNECTED, "")
    assert f"the Ray at {neighbour.address}, which user nobody noted" in told.err
    assert f"--address {neighbour.address}" in told.err
    assert not neighbour.trap.exists()


def test_up_and_scripts_start_a_ray_of_their_own_beside_another_users(
    neighbour: Neighbour, home: Home, tmp_path: Path
) -> None:
    up = home.red("up", str(write_layout(tmp_path / "small.yaml", "digits")))
    assert up.code == OK and "is left alone" in up.err, up.err
    noted = home.noted
    assert noted is not None and noted["address"] != neighbour.address
    assert home.red("down", "--all", "--yes").code == OK
    script = "from red_tui.placement.groups import ensure_ray; ensure_ray(); import ray;"
    own = home.python(script + "print(ray.get_runtime_context().gcs_address)")
    assert own.code == OK and own.out.strip() not in ("", neighbour.address), own.err
    assert not neighbour.trap.exists()
    assert processes_of(home) == []


def test_a_note_of_ones_own_that_leads_to_another_users_ray_is_not_followed(neighbour: Neighbour, home: Home) -> None:
    note = neighbour.note(home.sandbox.folder)
    os.chown(note, os.geteuid(), -1)
    told = home.red("ls")
    neighbour.note(home.sandbox.folder)
    assert told.code == NOT_CONNECTED and "is not this user's and left alone" in told.err
    assert not neighbour.trap.exists()


def test_another_users_home_journal_and_cluster_note_are_refused(home: Home, tmp_path: Path) -> None:
    require_another_user()
    home.path.mkdir(mode=0o700)
    folder = home.path / "federations" / "digits"
    folder.mkdir(parents=True)
    layout = write_layout(tmp_path / "small.yaml", "digits")
    for path in (folder, home.path / "federations", home.path):
        os.chown(path, NOBODY, NOBODY)
        for verb in (("adopt", "digits"), ("up", str(layout), "--resume"), ("replay", "digits", "--json")):
            told = home.red(*verb)
            assert told.code == USAGE and f"{path} belongs to user nobody" in told.err, (path, told)
    for verb in (("ls",), ("down", "--all", "--yes"), ("up", str(layout))):
        told = home.red(*verb)
        assert (told.code, told.out) == (USAGE, "") and "set RED_HOME to a folder of your own" in told.err
    os.chown(home.path, os.geteuid(), -1)
    note = home.path / "cluster.json"
    note.write_text("{}")
    os.chown(note, NOBODY, NOBODY)
    for verb in (("ls",), ("down", "--all", "--yes")):
        told = home.red(*verb)
        assert told.code == USAGE and f"{note} belongs to user nobody" in told.err
    note.unlink()
    assert processes_of(home) == []
