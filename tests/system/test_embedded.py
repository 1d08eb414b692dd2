"""The embedded local Ray: guarded by a token, found again by the next console, and gone when it is ended."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest

from red_tui.supervisor.local_cluster import speaks_grpc
from tests.system.support import (
    RED_CONSOLE,
    Home,
    Result,
    cluster_processes,
    eventually,
    marked_processes,
    processes_of,
    write_layout,
)
from tests.system.syncer import start_sync

START = "from red_tui.supervisor.local_cluster import start_cluster; print(start_cluster(cpus=4).address)"
SCRIPT = """
import os
import red_tui as red, ray
from red_tui.placement.groups import ensure_ray
ensure_ray()
session = ray._private.worker._global_node.get_session_dir_path()
assert os.stat(session + "/../..").st_mode & 0o777 == 0o700
print(session)
"""
ENTER = """
import sys, ray
ray.init(address=sys.argv[1], logging_level="ERROR", log_to_driver=False)
print(sum(node["Alive"] for node in ray.nodes()))
"""


def enter(home: Home, address: str, **environment: str) -> Result:
    """A process of its own that calls `ray.init` at an address, as one at 127.0.0.1 for Ray."""
    local = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    return home.run(sys.executable, "-c", ENTER, address, **local, **environment)


def mode(path: Path | str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def copied_note(cluster: Home, home: Home, **changes: Any) -> None:
    """Let another home know of the shared cluster, with changes to what is noted of it."""
    home.path.mkdir(mode=0o700)
    noted = cluster.noted
    assert noted is not None
    (home.path / "cluster.json").write_text(json.dumps({**noted, **changes}))
    (home.path / "token").write_text((cluster.path / "token").read_text())


# -- who gets in ----------------------------------------------------------------------------------


def test_token_and_folders_are_private_to_their_owner(cluster: Home) -> None:
    noted = cluster.noted
    assert noted is not None
    assert mode(cluster.path / "token") == mode(cluster.path / "cluster.json") == 0o600
    assert mode(cluster.path) == mode(noted["folder"]) == 0o700
    token = (cluster.path / "token").read_text()
    assert len(token) >= 32
    for process in cluster_processes(cluster):
        with contextlib.suppress(psutil.Error):
            assert token not in " ".join(process.cmdline()), "everybody on this machine can read command lines"


def test_the_owner_is_let_in_and_strangers_are_refused(cluster: Home, tmp_path: Path) -> None:
    noted = cluster.noted
    assert noted is not None
    address, token = noted["address"], tmp_path / "token"
    owner = enter(cluster, address, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(cluster.path / "token"))
    assert (owner.code, owner.out.strip()) == (0, "1"), owner.err
    token.write_text("0" * 64)
    strangers = {
        "no token": {"RAY_AUTH_MODE": "disabled"},
        "another token": {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)},
    }
    for who, environment in strangers.items():
        stranger = enter(cluster, address, **environment, RAY_gcs_server_port_wait_time_s="2")
        assert stranger.code != 0 and stranger.out == "", who
        assert "Error" in stranger.err, who


def test_nothing_of_the_cluster_and_no_driver_can_be_reached_from_another_machine(cluster: Home, client: Any) -> None:
    client.build(timeout=150)
    processes = [*cluster_processes(cluster), psutil.Process()]
    heard = [
        (process.name(), one.laddr.ip)
        for process in processes
        for one in process.net_connections("tcp")
        if one.status == psutil.CONN_LISTEN
    ]
    assert {"gcs_server", "raylet", "ray::Supervisor"} <= {name for name, _ in heard}
    assert [one for one in heard if one[1] not in ("127.0.0.1", "::ffff:127.0.0.1")] == []
    told = {row["name"]: row["value"] for row in cluster.red("doctor", "--json").json}
    assert "gcs_server" in told["ray's ports"]


def test_a_cluster_that_a_call_without_token_ended_loses_no_round(home: Home, tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "small.yaml", "small")
    assert home.red("run", str(layout), "--rounds", "1", "--keep").code == 0
    noted = home.noted
    assert noted is not None
    start_sync(noted["address"])  # a fault of Ray's: SECURITY.md
    eventually(lambda: home.red("ls").code == 3, "the cluster has ended")
    again = home.red("adopt", "small", "--json")
    assert again.code == 0 and again.json["round"] == 1, again
    assert home.red("round", "small", "--json").json["rounds"][0]["number"] == 2


def test_with_tls_whoever_has_no_certificate_can_neither_enter_nor_end_the_cluster(home: Home, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed, which makes the certificate")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=red"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*command.split(), *names], cwd=tmp_path, check=True, capture_output=True)
    files = {"RAY_TLS_SERVER_CERT": "cert.pem", "RAY_TLS_SERVER_KEY": "key.pem", "RAY_TLS_CA_CERT": "cert.pem"}
    tls = {"RAY_USE_TLS": "1", **{name: str(tmp_path / file) for name, file in files.items()}}
    up = home.red("up", str(write_layout(tmp_path / "small.yaml", "small")), **tls)
    assert up.code == 0, up.err
    noted = home.noted
    assert noted is not None
    assert start_sync(noted["address"]) == b""
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(home.path / "token")}
    assert speaks_grpc(noted["address"]), "it answers whoever comes without a certificate"
    assert enter(home, noted["address"], **token, **tls).out.strip() == "1"
    told = home.red("round", "small", "--json")  # the note says how it is reached
    assert told.code == 0 and told.json["rounds"][0]["number"] == 1, told
    assert home.red("down", "--all", "--yes").code == 0


def test_a_red_console_without_the_token_is_told_how_to_get_in(cluster: Home, home: Home) -> None:
    noted = cluster.noted
    assert noted is not None
    at_once = home.red("ls", "--address", "127.0.0.1:1")
    told = home.red("ls", "--address", noted["address"])
    assert (told.code, told.out) == (3, "")
    assert "refused" in told.err and "RAY_AUTH_TOKEN_PATH" in told.err
    assert told.seconds < 4 * at_once.seconds + 15, "it knocks as long as Ray by itself"


def test_a_temporary_folder_with_a_long_path_gets_short_private_places_for_sockets(home: Home, tmp_path: Path) -> None:
    long = tmp_path / ("t" * 60)
    long.mkdir()
    places = {"TMPDIR": str(long), "RAY_TMPDIR": str(long)}
    up = home.red("up", str(write_layout(tmp_path / "small.yaml", "small")), **places)
    assert up.code == 0, up.err
    noted = home.noted
    assert noted is not None
    folder = Path(noted["folder"])
    assert len(noted["folder"]) < 40 and mode(folder) == 0o700
    assert "small" in home.red("ls", **places).out
    assert home.red("down", "--all", "--yes", **places).code == 0
    assert not folder.exists()
    own = home.python(SCRIPT, **places)
    assert own.code == 0, own.err
    session = Path(own.out.strip())
    assert session.name.startswith("session_") and not session.parents[1].exists(), "its folder stays behind"
    assert list(long.iterdir()) == [] and processes_of(home) == []


# -- found again ----------------------------------------------------------------------------------


def test_it_survives_who_started_it_and_down_all_leaves_neither_process_nor_folder(home: Home, tmp_path: Path) -> None:
    up = home.red("up", str(write_layout(tmp_path / "small.yaml", "small")))
    assert up.code == 0, up.err
    noted = home.noted
    assert noted is not None
    assert cluster_processes(home), "the cluster has ended with the process that started it"
    assert "small" in home.red("ls").out
    told = home.red("down", "--all", "--yes", "--json")
    assert told.code == 0 and told.json["processes"] > 3
    assert marked_processes(("RED_EMBEDDED_CLUSTER", noted["folder"])) == [] == processes_of(home)
    assert not Path(noted["folder"]).exists() and home.noted is None
    assert (home.path / "federations" / "small" / "journal.db").exists()


def test_a_cluster_that_died_is_cleared_away_and_another_is_started(home: Home) -> None:
    assert home.python(START).code == 0
    old = home.noted
    assert old is not None
    victims = cluster_processes(home)
    eventually(lambda: len(cluster_processes(home)) > 3, "the cluster is up")
    psutil.Process(old["pid"]).kill()  # its first process; servers of it may stay behind
    for process in victims[:2]:
        with contextlib.suppress(psutil.Error):
            process.kill()
    assert home.red("ls").code == 3
    begun = home.python(START)
    assert begun.code == 0, begun.err
    new = home.noted
    assert new is not None and new["address"] == begun.out.strip()
    assert new["folder"] != old["folder"] and not Path(old["folder"]).exists()
    assert marked_processes(("RED_EMBEDDED_CLUSTER", old["folder"])) == []
    assert home.red("ls").code == 0


def test_consoles_that_start_at_the_same_moment_share_one_cluster(home: Home) -> None:
    results: list[Result] = []
    threads = [threading.Thread(target=lambda: results.append(home.python(START))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(160)
    assert [result.code for result in results] == [0, 0], [result.err for result in results]
    assert results[0].out == results[1].out
    folders = {process.environ()["RED_EMBEDDED_CLUSTER"] for process in processes_of(home)}
    assert len(folders) == 1, "two clusters run, and one of them is nobody's"


def test_of_three_ups_at_once_one_launches_and_the_others_hear_so_and_a_lost_home_keeps_no_process(
    home: Home, tmp_path: Path
) -> None:
    layout = str(write_layout(tmp_path / "small.yaml", "small"))
    ups = [home.start(RED_CONSOLE, "up", layout, "--json") for _ in range(3)]
    told = [(*up.communicate(timeout=160), up.returncode) for up in ups]
    assert sorted(code for _, _, code in told) == [0, 1, 1], told
    for out, err, code in told:
        if code:
            assert "federation 'small' runs already, of the same layout" in json.loads(out)["error"]["message"], err
        else:
            assert json.loads(out)["state"] == "idle"
    noted = home.noted
    assert noted is not None
    shutil.rmtree(home.path)
    assert home.red("ls").code == 3
    asked = home.red("down", "--all")
    assert asked.code == 2 and "End the local cluster whose note is lost" in asked.err
    down = home.red("down", "--all", "--yes", "--json")
    assert down.code == 0 and down.json["processes"] > 3, down
    assert processes_of(home) == [] and not Path(noted["folder"]).exists()


def test_a_note_of_a_cluster_whose_process_is_another_by_now_is_not_believed(cluster: Home, home: Home) -> None:
    copied_note(cluster, home, pid=os.getpid(), folder=str(home.path / "nothing"))
    told = home.red("ls")
    assert told.code == 3 and "no Ray cluster runs" in told.err
    assert psutil.pid_exists(os.getpid())


@pytest.mark.parametrize(
    "note",
    ["", "{", "[1, 2]", '{"address": 5}', "\x00\x01"],
    ids=["empty", "cut off", "a list", "other keys", "binary"],
)
def test_a_cluster_file_that_cannot_be_read_is_as_none(note: str, home: Home) -> None:
    home.path.mkdir()
    (home.path / "cluster.json").write_text(note)
    told = home.red("ls")
    assert told.code == 3 and "Traceback" not in told.err
    (home.path / "cluster.json").unlink()


@pytest.mark.parametrize("other", [{"ray_version": "1.13.0"}, {"python": "3.99.1"}], ids=["Ray", "Python"])
@pytest.mark.parametrize("command", [("ls",), ("up", "digits")], ids=["ls", "up"])
def test_a_cluster_of_another_version_is_named_with_a_way_out(
    command: tuple[str, ...], other: dict[str, str], cluster: Home, home: Home
) -> None:
    copied_note(cluster, home, **other)
    told = home.red(*command)
    (home.path / "cluster.json").unlink()
    assert (told.code, told.out) == (3, "")
    for text in (*other.values(), "red-console down --all"):
        assert text in told.err
    assert cluster_processes(cluster), "it was ended unasked"


def test_a_ray_of_somebody_else_on_this_machine_is_left_running(cluster: Home, home: Home) -> None:
    told = home.red("down", "--all", "--yes")
    assert told.code == 0 and "nothing to end" in told.err
    assert cluster_processes(cluster)
