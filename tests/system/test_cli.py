"""`red-console` without a screen: what it prints where, how it ends, and what it leaves."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from red_tui.cli.main import COMMANDS
from tests.system.support import RED_CONSOLE, Home, cluster_processes, ended, eventually, processes_of, write_layout

OK, FAILED, USAGE, NOT_CONNECTED = 0, 1, 2, 3

MY_NODES = """\
import red_tui as red
import my_numbers

class Counter(red.FederatedNode):
    def build(self, **kwargs):
        self.start = my_numbers.START

    def initial_parameters(self):
        import numpy as np
        return {"w": np.zeros(3)}

    def fit(self, parameters, config):
        return red.FitResult({"w": parameters["w"] + self.start}, 1, {"loss": 0.5})

    def evaluate(self, parameters, config):
        return red.EvaluateResult(float(parameters["w"].sum()), 1, {})
"""

# -- help, schema ---------------------------------------------------------------------------------


def test_help_names_every_command_and_every_command_has_help(home: Home) -> None:
    told = home.red("--help")
    assert (told.code, told.err) == (OK, "")
    for command, (_, text, _) in COMMANDS.items():
        assert re.search(rf"^\s+{command}\s+{re.escape(text)}", told.out, re.M), command
    for command in COMMANDS:
        more = home.red(command, "--help")
        assert more.code == OK and more.out.startswith(f"usage: red-console {command}")


def test_an_unknown_option_is_wrong_use(home: Home) -> None:
    told = home.red("ls", "--nonsense")
    assert (told.code, told.out) == (USAGE, "")
    assert "--nonsense" in told.err


def test_schema_is_json_schema_that_knows_the_keys_of_a_layout(home: Home) -> None:
    told = home.red("schema")
    assert told.code == OK
    assert {"federation", "template", "nodes", "placement", "rounds"} <= set(told.json["properties"])


# -- check ----------------------------------------------------------------------------------------

BAD_LAYOUTS = {
    "not YAML": ([("nodes:", "nodes: [}")], r":4:\d+: "),
    "a tag that would construct an object": (
        [("{local_epochs: 1}", "!!python/object/apply:os.system ['touch constructed']")],
        r":10:\d+: ",
    ),
    "an unknown key": ([("rounds:", "runds:")], r":8:1: runds: .*did you mean rounds"),
    "a wrong type": ([("count: 2,", "count: two,")], r":8:\d+: rounds.count: .*whole number"),
    "an unknown role": ([("role: train}", "role: trian}")], r":5:\d+: nodes\[0\].role: .*did you mean train"),
    "an unknown strategy": (
        [("{count: 2,", "{strategy: {name: fedavgg}, count: 2,")],
        r":8:\d+: .*did you mean fedavg",
    ),
    "duplicate ids": ([("role: train}", "role: train, id: judge}")], r":\d:\d+: nodes\[1\].id: .*judge"),
    "a reserved id": ([("id: judge", "id: server")], r":6:\d+: nodes\[1\].id: .*server"),
    "no module of that name": ([("digits:", "digitz:")], r":3:\d+: template: .*no module 'red_tui.examples.digitz'"),
    "no class of that name": ([("DigitsClient", "DigitClient")], r":3:\d+: template: .*did you mean DigitsClient"),
    "not a template": ([("DigitsClient", "Digits")], r":3:\d+: template: .*does not derive from FederatedNode"),
    "0 nodes": ([("count: 1, role: train}", "count: 0, role: train}")], r":5:\d+: nodes\[0\].count: .*at least 1"),
    "no nodes": (
        [
            ("nodes:\n", "nodes: []\n"),
            ("  - {count: 1, role: train}\n", ""),
            ("  - {count: 1, role: train-eval", "# {"),
        ],
        r":4:\d+: nodes: .*at least one",
    ),
}


@pytest.mark.parametrize("what", BAD_LAYOUTS)
def test_check_refuses_with_file_line_and_column(what: str, home: Home, tmp_path: Path) -> None:
    replacements, expected = BAD_LAYOUTS[what]
    path = write_layout(tmp_path / "bad.yaml", "bad", more=replacements)
    told = home.red("check", str(path))
    assert (told.code, told.out) == (USAGE, "")
    assert re.search(re.escape(str(path)) + expected, told.err), told.err
    assert "Traceback" not in told.err
    assert not (tmp_path / "constructed").exists() and not Path("constructed").exists()


def test_check_refuses_in_json_with_the_place_as_fields(home: Home, tmp_path: Path) -> None:
    path = write_layout(tmp_path / "bad.yaml", "bad", more=[("role: train}", "role: trian}")])
    told = home.red("check", str(path), "--json")
    assert told.code == USAGE
    error = told.json["error"]
    assert error["type"] == "LayoutError"
    assert error["fields"]["file"] == str(path)
    assert (error["fields"]["line"], error["fields"]["field"]) == (5, "nodes[0].role")
    assert "train" in error["fields"]["allowed"]


def test_check_of_a_file_that_is_not_there_says_what_ships(home: Home) -> None:
    told = home.red("check", "digist")
    assert (told.code, told.out) == (USAGE, "")
    assert "did you mean digits" in told.err


def test_check_of_a_good_layout_starts_nothing(home: Home, tmp_path: Path) -> None:
    path = write_layout(tmp_path / "good.yaml", "good")
    told = home.red("check", str(path), "--json")
    assert told.code == OK
    assert told.json == {"file": str(path), "federation": "good", "nodes": 2, "ok": True}
    assert "2 nodes of red_tui.examples.digits:DigitsClient" in home.red("check", str(path)).out
    assert home.noted is None and processes_of(home) == []


# -- not connected --------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["ls", "status", "down"])
def test_without_a_cluster_a_command_says_so_and_starts_none(command: str, home: Home) -> None:
    told = home.red(command)
    assert (told.code, told.out) == (NOT_CONNECTED, "")
    assert "no Ray cluster runs on this machine" in told.err and "red-console up" in told.err
    assert home.noted is None and processes_of(home) == []
    assert json.loads(home.red(command, "--json").out)["error"]["type"] == "NotConnected"


def test_down_all_without_a_cluster_is_no_error(home: Home) -> None:
    told = home.red("down", "--all", "--yes")
    assert told.code == OK and "nothing to end" in told.err


class Listener:
    """A server that is no Ray: it accepts, and says `answer` (or nothing) to whatever comes."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._held: list[socket.socket] = []
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self._held.append(connection)
            if self._answer:
                connection.sendall(self._answer)

    def close(self) -> None:
        self._socket.close()
        for connection in self._held:
            connection.close()


def closed_port() -> str:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


NO_RAY = {"closed": "refused", "silent": "no answer within", "HTTP/1": "what listens there is no Ray cluster"}


@pytest.fixture(params=NO_RAY)
def no_ray(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """An address where no Ray answers, and the reason that is expected."""
    if request.param == "closed":
        yield closed_port(), NO_RAY["closed"]
        return
    listener = Listener(b"HTTP/1.1 400 Bad Request\r\n\r\n" if request.param == "HTTP/1" else b"")
    yield listener.address, NO_RAY[request.param]
    listener.close()


def test_an_address_where_no_ray_answers_is_said_soon(no_ray: tuple[str, str], home: Home) -> None:
    address, reason = no_ray
    at_once = home.red("ls", "--address", closed_port())
    told = home.red("ls", "--address", address)
    assert (told.code, told.out) == (NOT_CONNECTED, "")
    assert f"no Ray cluster answers at {address}" in told.err and reason in told.err
    assert told.seconds < 4 * at_once.seconds + 10, "it waits longer than for an answer"


def test_an_address_that_is_none_is_refused(home: Home) -> None:
    told = home.red("ls", "--address", "nowhere")
    assert told.code == NOT_CONNECTED and "HOST:PORT" in told.err


# -- federations in a cluster ---------------------------------------------------------------------


def test_up_ls_status_and_down_tell_the_same_federation(cluster: Home, fed_id: str, layout: Path) -> None:
    told = cluster.red("up", str(layout), "--json")
    assert told.code == OK, told.err
    assert (told.json["id"], told.json["nodes"], told.json["state"]) == (fed_id, 2, "idle")
    assert "launching" in told.err

    rows = cluster.red("ls", "--json").json
    (row,) = [row for row in rows if row["id"] == fed_id]
    assert (row["nodes"], row["round"], row["orphan"], row["state"]) == (2, 0, False, "idle")
    assert re.search(rf"^{fed_id}\s+idle\s+2\s+0\s", cluster.red("ls").out, re.M)

    status = cluster.red("status", fed_id, "--json").json
    assert status["states"] == {"virtual": 2} and status["last_round"] is None
    assert Path(status["journal"]).is_relative_to(cluster.path)

    again = cluster.red("up", str(layout))
    assert (again.code, again.out) == (FAILED, "")
    assert f"federation '{fed_id}' runs already, of the same layout" in again.err
    assert f"red-console {fed_id}" in again.err and f"red-console down {fed_id}" in again.err

    other = write_layout(layout.with_name("other.yaml"), fed_id, more=[("count: 2,", "count: 5,")])
    assert "rounds.count: 2 → 5" in cluster.red("up", str(other)).err

    asked = cluster.red("down", fed_id)
    assert (asked.code, asked.out) == (USAGE, "") and f"End federation {fed_id} (" in asked.err and "--yes" in asked.err
    whole = cluster.red("down", "--all")
    assert (whole.code, whole.out) == (USAGE, "") and fed_id in whole.err and "--yes" in whole.err
    assert fed_id in [row["id"] for row in cluster.red("ls", "--json").json], "nothing is ended unasked"
    down = cluster.red("down", fed_id, "--yes")
    assert down.code == OK and down.out == "" and f"{fed_id} is down" in down.err
    assert fed_id not in [row["id"] for row in cluster.red("ls", "--json").json]
    gone = cluster.red("status", fed_id)
    assert gone.code == NOT_CONNECTED and "red-console up" in gone.err
    (run,) = [run for run in cluster.red("runs", "--json").json["runs"] if run["id"] == fed_id]
    assert run["ending"].startswith("ended by ") and (run["rounds"], run["damage"]) == (0, "")


def test_a_federation_in_another_namespace_is_its_own(cluster: Home, fed_id: str, layout: Path) -> None:
    there = ("--namespace", "elsewhere")
    assert cluster.red("up", str(layout), *there).code == OK
    assert cluster.red("up", str(layout)).code == OK
    ended_there = cluster.red("down", fed_id, "--yes", *there)
    assert ended_there.code == OK
    assert [row["id"] for row in cluster.red("ls", "--json", *there).json] == []
    assert fed_id in [row["id"] for row in cluster.red("ls", "--json").json]
    ended_here = cluster.red("down", fed_id, "--yes")
    assert ended_here.code == OK
    assert ended_there.seconds < 4 * ended_here.seconds + 8, "it waits for the namesake in the other namespace"


def test_run_prints_a_table_on_stdout_and_narrates_on_stderr(home: Home, tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "small.yaml", "small")
    told = home.red("run", str(layout), "--rounds", "3")
    assert told.code == OK, told.err
    head, *rows = told.out.strip().splitlines()
    assert head.split()[:3] == ["round", "loss", "accuracy"]
    assert [row.split()[0] for row in rows] == ["1", "2", "3"]
    for text in ("starting a local Ray", "launching small", "round 1/3", "round 3/3"):
        assert text in told.err and text not in told.out
    assert home.noted is None and processes_of(home) == []


def test_run_in_json_ends_when_a_condition_holds_and_leaves_the_cluster(
    cluster: Home, fed_id: str, layout: Path
) -> None:
    told = cluster.red("run", str(layout), "--rounds", "5", "--until", "accuracy>=0", "--json")
    assert told.code == OK, told.err
    (only,) = told.json["rounds"]
    assert only["number"] == 1 and only["state"] == "done" and 0 <= only["metrics"]["accuracy"] <= 1
    assert fed_id not in [row["id"] for row in cluster.red("ls", "--json").json]


def test_run_refuses_a_condition_it_cannot_read_before_it_starts_anything(home: Home, tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "small.yaml", "small")
    told = home.red("run", str(layout), "--until", "accuracy is good")
    assert told.code != OK and told.out == "" and "accuracy>0.95" in told.err
    assert home.noted is None


def test_more_bundles_than_the_cluster_can_give_are_told_with_what_there_is(
    cluster: Home, fed_id: str, tmp_path: Path
) -> None:
    large = [("{cpus: 1}", "{bundles: [{count: 2, cpu: 64}]}")]
    path = write_layout(tmp_path / "large.yaml", fed_id, more=large)
    told = cluster.red("run", str(path), "--rounds", "1")
    assert told.code == FAILED, told
    assert re.search(r"bundle \d+ asks CPU .*no host has that much: head has CPU 4; ask less", told.err, re.S), told.err
    assert fed_id not in [row["id"] for row in cluster.red("ls", "--json").json]


def test_ctrl_c_during_a_run_leaves_no_process(
    home: Home, tmp_path: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    layout = write_layout(tmp_path / "small.yaml", "small")
    process = home.start(RED_CONSOLE, "run", str(layout), "--rounds", "100000")
    started.append(process)
    assert process.stderr is not None
    seen = ""
    while "round 2/" not in seen:
        line = process.stderr.readline().decode()
        assert line, f"it ended: {seen}"
        seen += line
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=150)
    assert process.returncode == FAILED
    assert "interrupted; what it started is ended" in rest.decode() and "Traceback" not in rest.decode()
    assert processes_of(home) == [] and home.noted is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["SIGTERM", "SIGHUP"])
def test_a_run_that_is_told_to_end_ends_its_federation_and_leaves_the_cluster(
    number: signal.Signals, cluster: Home, fed_id: str, layout: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    process = cluster.start(RED_CONSOLE, "run", str(layout), "--rounds", "100000")
    started.append(process)
    assert process.stderr is not None
    while "launching" not in (line := process.stderr.readline().decode()):
        assert line, "it ended"
    process.send_signal(number)
    _, rest = process.communicate(timeout=150)
    assert process.returncode != OK and "Traceback" not in rest.decode()
    assert fed_id not in [row["id"] for row in cluster.red("ls", "--json").json]


def test_ctrl_c_while_a_local_ray_starts_leaves_no_process(
    home: Home, tmp_path: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    layout = write_layout(tmp_path / "small.yaml", "small")
    process = home.start(RED_CONSOLE, "run", str(layout))
    started.append(process)
    eventually(lambda: len(cluster_processes(home)) > 1, "processes of a cluster are starting")
    process.send_signal(signal.SIGINT)
    assert ended(process) == FAILED
    assert processes_of(home) == [] and home.noted is None


# -- one's own modules ----------------------------------------------------------------------------


def test_modules_beside_the_layout_travel_to_the_cluster(cluster: Home, fed_id: str, tmp_path: Path) -> None:
    path = write_layout(tmp_path / "mine" / "layout.yaml", fed_id, template="my_nodes:Counter")
    path.with_name("my_nodes.py").write_text(MY_NODES)
    path.with_name("my_numbers.py").write_text("START = 2.0\n")
    assert cluster.red("check", str(path)).code == OK
    told = cluster.red("run", str(path), "--rounds", "2", "--json")
    assert told.code == OK, told.err
    assert [wire["loss"] for wire in told.json["rounds"]] == [6.0, 12.0]


def test_working_dir_names_the_folder_of_modules(cluster: Home, fed_id: str, tmp_path: Path) -> None:
    path = write_layout(tmp_path / "layouts" / "layout.yaml", fed_id, template="my_nodes:Counter")
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "my_nodes.py").write_text(MY_NODES)
    (modules / "my_numbers.py").write_text("START = 1.0\n")
    refused = cluster.red("run", str(path), "--rounds", "1")
    assert refused.code == USAGE and "my_nodes" in refused.err and "--working-dir" in refused.err
    assert cluster.red("check", str(path), "--working-dir", str(modules)).code == OK
    told = cluster.red("run", str(path), "--rounds", "1", "--json", "--working-dir", str(modules))
    assert told.code == OK, told.err
    assert told.json["rounds"][0]["loss"] == 3.0


# -- a crowd, and going on ------------------------------------------------------------------------


def test_a_crowd_of_ten_thousand_learns_on_two_cpus_and_goes_on_in_a_new_cluster(home: Home) -> None:
    told = home.red("run", "crowd", "--rounds", "3", "--cpus", "2", "--keep", "--json")
    assert told.code == OK, told.err
    rounds = told.json["rounds"]
    assert [one["number"] for one in rounds] == [1, 2, 3]
    assert all(one["participants"] == 100 for one in rounds)
    assert home.red("down", "--all", "--yes").code == OK
    again = home.red("adopt", "crowd", "--cpus", "2", "--json")
    assert again.code == OK, again.err
    assert (again.json["round"], again.json["nodes"]) == (3, 10_002)
    assert home.red("down", "--all", "--yes").code == OK
    unknown = home.red("adopt", "nobody")
    assert unknown.code == FAILED and "cannot be taken up again" in unknown.err


def test_doctor_says_where_each_setting_comes_from(home: Home, tmp_path: Path) -> None:
    config = tmp_path / "console.yaml"
    config.write_text("group: host\n")
    told = home.red("doctor", "--json", RED_CONFIG=str(config))
    assert told.code == OK, told.err
    rows = {row["name"]: row for row in told.json}
    assert rows["group"]["value"] == "host" and str(config) in rows["group"]["source"]
    assert rows["state folder"]["source"] == "RED_HOME" and rows["ray"]["value"]
    assert "console.yaml" in home.red("doctor", RED_CONFIG=str(config)).out


def test_keys_are_printed_as_the_config_file_maps_them(home: Home, tmp_path: Path) -> None:
    config = tmp_path / "console.yaml"
    config.write_text("keys: {build: [f]}\n")
    mapped = {row["action"]: row["keys"] for row in home.red("keys", "--json", RED_CONFIG=str(config)).json}
    assert "f" in mapped["build"]
    assert "build" in home.red("keys", RED_CONFIG=str(config)).out
