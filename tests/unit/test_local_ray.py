"""Ray clusters of this machine: whose they are, where they listen, and what `doctor` says of it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from red_tui.cli import doctor
from red_tui.errors import NotConnected, RedError
from red_tui.placement import groups as connection, local_ray, local_ray as short_folders
from red_tui.placement.local_ray import Listener, is_own, loopback_only, make_short_folder, noted_ray, sockets_fit


@pytest.fixture
def note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where Ray's note of the last cluster would be."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    return tmp_path / "ray" / "ray_current_cluster"


@pytest.fixture
def listener() -> Iterator[int]:
    """A port of this machine at which this process, which is no Ray, listens."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield int(server.getsockname()[1])


@pytest.mark.parametrize("text", ["", "nonsense", "\x1b[31m:1", "\xff\xfe:1", "a:1\nb:2"])
def test_a_note_that_names_no_address_is_as_none(text: str, note: Path) -> None:
    note.write_bytes(text.encode("latin-1"))
    assert noted_ray() is None


def test_what_listens_is_ones_own_cluster_only_if_it_is_ones_own_ray(note: Path, listener: int) -> None:
    note.write_text(f"127.0.0.1:{listener}")
    found = noted_ray()
    assert found is not None and found.owner == os.geteuid() and not found.own
    assert not is_own(f"127.0.0.1:{listener}") and not is_own("127.0.0.1:x") and not is_own("")
    assert loopback_only(f"127.0.0.1:{listener}") and loopback_only(f"localhost:{listener}")
    assert not loopback_only(f"192.0.2.1:{listener}")


@pytest.mark.parametrize(
    ("host", "heard", "reached"),
    [
        ("127.0.0.1", "::ffff:127.0.0.1", True),
        ("localhost", "127.0.0.1", True),
        ("127.0.0.1", "::", True),
        ("192.0.2.77", "::", False),
        ("192.0.2.77", "127.0.0.1", False),
        ("127.0.0.2", "127.0.0.1", False),
        ("", "::", False),
    ],
)
def test_an_address_is_reached_where_its_host_is_heard(host: str, heard: str, reached: bool) -> None:
    assert local_ray.reaches(host, heard) is reached


def test_a_script_takes_no_noted_cluster_but_ones_own(note: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note.write_text("127.0.0.1:1")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert connection.cluster_options()["address"] == "local"
    monkeypatch.setattr(local_ray, "is_own", lambda address: True)
    assert connection.cluster_options() == {"address": "127.0.0.1:1"}
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert connection.cluster_options()["address"] == "local"
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert connection.cluster_options() == {}, "the user's own word"
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setattr(local_ray, "is_own", lambda address: False)
    with pytest.raises(NotConnected, match="RAY_ADDRESS is auto"):
        connection.cluster_options()


def test_doctor_is_loud_where_ray_can_be_reached_from_other_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    listeners = [Listener("gcs_server", "::", 6379), Listener("raylet", "127.0.0.1", 41)]
    monkeypatch.setattr(local_ray, "own_listeners", lambda: listeners)
    _, text, _ = doctor.open_ports()
    assert text.startswith("OPEN TO OTHER MACHINES at every interface: gcs_server 6379;") and "SECURITY.md" in text
    del listeners[0]
    assert doctor.open_ports()[1] == "reachable from this machine only: raylet 41"
    del listeners[0]
    assert "no Ray of this user" in doctor.open_ports()[1]


def test_sockets_get_a_short_private_folder_or_the_user_is_told_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("t" * 80)
    long.mkdir()
    monkeypatch.setattr(short_folders.tempfile, "tempdir", str(long))
    made = make_short_folder("red-ray-", "r")
    assert sockets_fit(made / "r") and not sockets_fit(long) and made.stat().st_mode & 0o777 == 0o700
    made.rmdir()
    monkeypatch.setattr(short_folders, "is_safe", lambda place: False)
    with pytest.raises(RedError, match=r"set TMPDIR to a folder of at most 2\d characters"):
        make_short_folder("red-ray-", "r")


def test_a_shared_place_in_which_others_can_rename_folders_is_not_used(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    assert not short_folders.is_safe(str(tmp_path))
    tmp_path.chmod(0o1777)
    assert short_folders.is_safe(str(tmp_path))
    tmp_path.chmod(0o700)
    assert short_folders.is_safe(str(tmp_path)) and not short_folders.is_safe(str(tmp_path / "none"))
