"""The verbs of `red-console` on a federation that runs: what they do, print and ask, and how they end."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from red_tui.cli.main import COMMANDS
from tests.system.held_rounds import Rounds
from tests.system.support import RED_CONSOLE, Home, ended, eventually, write_layout
from tests.system.terminal import MakeTerminal

OK, FAILED, USAGE, NOT_CONNECTED = 0, 1, 2, 3


def states(client: Any) -> dict[str, str]:
    table = client.table()
    return {table.ids[row]: str(table.state_of(row)) for row in range(len(table)) if table.ids[row] != "server"}


def test_nodes_are_planned_explained_built_released_added_and_removed(client: Any, cluster: Home) -> None:
    fed = ("-f", client.fed_id)
    plan = cluster.red("plan", "role:train", *fed, "--json")
    assert plan.code == OK, plan.err
    assert {row[0] for row in plan.json["placed"]} == {"client_0", "judge"} and plan.json["left_out"] == []
    assert "client_0" in cluster.red("plan", *fed).out
    assert set(states(client).values()) == {"virtual"}, "a plan builds nothing"

    built = cluster.red("build", "role:train state:virtual", *fed, "--json")
    assert built.code == OK, built.err
    assert sorted(built.json["built"]) == ["client_0", "judge"] and built.json["failed"] == {}
    again = cluster.red("build", "client_0", *fed)
    assert (again.code, "1 already built" in again.out) == (OK, True), "what is built already is no error"

    why = cluster.red("explain", "client_0", *fed, "--json")
    assert (why.code, why.json["id"], why.json["state"]) == (OK, "client_0", "ready")
    unknown = cluster.red("explain", "nobody", *fed)
    assert unknown.code == FAILED and "nobody" in unknown.err and unknown.out == ""

    refused = cluster.red("release", "id:client_*", *fed)
    assert (refused.code, refused.out) == (USAGE, "")
    assert "Release 1 node: client_0?" in refused.err and "--yes" in refused.err
    assert states(client)["client_0"] == "ready", "nothing is released unasked"
    released = cluster.red("release", "id:client_*", *fed, "--yes", "--json")
    assert (released.code, released.json) == (OK, {"done": ["client_0"], "refused": {}})
    assert states(client) == {"client_0": "released", "judge": "ready"}

    added = cluster.red("add", "2", "train", *fed, "--json")
    assert added.code == OK and len(added.json["ids"]) == 2
    removed = cluster.red("remove", " or ".join(f"id:{name}" for name in added.json["ids"]), *fed, "--yes")
    assert removed.code == OK and "2 nodes: " in removed.out, removed.err
    assert client.num_nodes == 2

    nobody = cluster.red("release", *fed, "--yes")
    assert nobody.code == USAGE and "--bundles" in nobody.err
    given_back = cluster.red("release", "--bundles", *fed, "--yes", "--json")
    assert (given_back.code, given_back.json["done"]) == (OK, ["judge"]), given_back.err
    assert [states(client)[name] for name in ("client_0", "judge")] == ["released", "released"]
    assert [bundle["state"] for bundle in client.snapshot()["bundles"]][:1] == ["planned"]
    assert cluster.red("build", "judge", *fed).code == OK, "they are reserved again"


def test_explain_and_plan_name_who_holds_what_a_second_federation_waits_for(
    client: Any, cluster: Home, tmp_path: Path
) -> None:
    import red_tui

    client.add_bundles(1, {"CPU": 4.0 - sum(bundle["cpu"] for bundle in _pool(client))})
    second = red_tui.launch(
        write_layout(tmp_path / "second.yaml", f"{client.fed_id}-2", more=[("cpus: 1", "wait_for_resources: 0.1")])
    )
    try:
        fed = ("-f", second.fed_id)
        why = cluster.red("explain", "client_0", *fed)
        assert why.code == OK, why.err
        assert f"federation '{client.fed_id}' holds CPU 4" in why.out and "has CPU 4, free nothing" in why.out
        assert f"red-console down {client.fed_id}" in why.out
        plan = cluster.red("plan", *fed)
        assert plan.code == OK and f"federation '{client.fed_id}' holds CPU 4" in plan.out
        refused = cluster.red("build", "client_0", *fed)
        assert refused.code == FAILED and "placement: {wait_for_resources: 60}" in refused.err
        cluster.red("release", "--bundles", "-f", client.fed_id, "--yes")
        assert cluster.red("build", "client_0", *fed).code == OK
    finally:
        second.down()


def _pool(client: Any) -> list[dict[str, Any]]:
    """The bundles of a federation, once they are reserved."""
    client.build("id:client_0")
    bundles: list[dict[str, Any]] = client.snapshot()["bundles"]
    return bundles


def test_a_query_that_cannot_be_read_is_told_with_its_place_before_anything_is_asked(home: Home) -> None:
    told = home.red("build", "role:train state:virtul")
    assert (told.code, told.out) == (USAGE, "")
    (query, caret) = told.err.rstrip("\n").split("\n")[-2:]
    assert query[caret.index("^") :] == "virtul"
    error = home.red("release", "bundle:x", "--json").json["error"]
    assert (error["type"], error["fields"]["query"]) == ("SelectionError", "bundle:x")
    assert error["fields"]["position"] == 7


@pytest.mark.parametrize(
    "command", [("build",), ("plan",), ("round",), ("stop",), ("watch",), ("history",), ("explain", "a"), ("add", "1")]
)
def test_without_a_cluster_a_verb_says_so_and_starts_none(command: tuple[str, ...], home: Home) -> None:
    told = home.red(*command)
    assert (told.code, told.out) == (NOT_CONNECTED, "")
    assert "no Ray cluster runs on this machine" in told.err
    assert home.noted is None


@pytest.mark.parametrize("command", [("add", "0"), ("round", "--rounds", "0"), ("watch", "--since", "soon")])
def test_wrong_use_is_told_before_anything_is_asked(command: tuple[str, ...], home: Home) -> None:
    told = home.red(*command)
    assert (told.code, told.out) == (USAGE, "")
    assert home.noted is None


@pytest.mark.terminal
def test_in_a_terminal_what_ends_processes_asks_and_no_is_the_default(
    client: Any, cluster: Home, terminal: MakeTerminal
) -> None:
    client.build()
    asked = terminal(cluster, "release", "role:train", "-f", client.fed_id)
    asked.shows(r"Release 2 nodes: client_0, judge\? \[y/N\]")
    asked.press("\r")
    assert asked.ended() == FAILED
    assert "nothing was done" in asked.text and set(states(client).values()) == {"ready"}
    sure = terminal(cluster, "release", "role:train", "-f", client.fed_id)
    sure.shows(r"\[y/N\]")
    sure.press("y\r")
    assert sure.ended() == OK
    assert set(states(client).values()) == {"released"}


def test_rounds_are_run_and_told_as_table_json_and_csv_also_when_the_federation_has_ended(
    client: Any, cluster: Home
) -> None:
    fed_id = client.fed_id
    one = cluster.red("round", fed_id, "--json")
    assert one.code == OK, one.err
    assert [wire["number"] for wire in one.json["rounds"]] == [1]
    two = cluster.red("round", fed_id, "--rounds", "5", "--until", "accuracy>=0")
    assert two.code == OK and two.out.splitlines()[1].split()[0] == "2" and len(two.out.splitlines()) == 2
    assert "round 2  loss" in two.err, "nobody knows the last round of a run that ends by a measure"

    running = cluster.red("history", fed_id, "--json").json["rounds"]
    assert [wire["number"] for wire in running] == [1, 2]
    table = list(csv.DictReader(io.StringIO(cluster.red("history", fed_id, "--csv").out)))
    assert [row["round"] for row in table] == ["1", "2"]
    assert [float(row["accuracy"]) for row in table] == [wire["metrics"]["accuracy"] for wire in running]
    client.down()
    gone = cluster.red("history", fed_id, "--json")
    assert gone.code == OK and "journal.db" in gone.err
    assert gone.json["rounds"] == running
    journal = cluster.path / "federations" / fed_id / "journal.db"
    assert cluster.red("history", str(journal), "--json").json["rounds"] == running
    nobody = cluster.red("history", "nobody")
    assert nobody.code == NOT_CONNECTED and "nobody" in nobody.err


def test_a_run_is_stopped_after_its_round_or_now_when_told_so(cluster: Home, rounds: Rounds) -> None:
    fed_id = rounds.client.fed_id
    for words, code in (((), OK), (("--exit-code",), FAILED)):
        nothing = cluster.red("stop", fed_id, "--now", "--yes", *words)
        assert nothing.code == code and "nothing to stop" in nothing.err
    begun = cluster.red("round", fed_id, "--rounds", "100000", "--no-wait", "--json")
    assert (begun.code, begun.json["rounds"]) == (OK, 100_000)
    rounds.hold()
    refused = cluster.red("stop", fed_id, "--now")
    assert (refused.code, refused.out) == (USAGE, "") and "--yes" in refused.err
    assert rounds.client.running, "the round goes on"
    stopped = cluster.red("stop", fed_id, "--now", "--yes")
    assert stopped.code == OK and "is stopped" in stopped.out, stopped.err
    eventually(lambda: not rounds.client.running, "the run is over")
    rounds.go_on()
    assert cluster.red("round", fed_id, "--rounds", "100000", "--no-wait").code == OK
    after = cluster.red("stop", fed_id, "--json")
    assert after.code == OK and "the run ends after round" in after.json["text"]
    eventually(lambda: not rounds.client.running, "the run ends after its round")


def test_watch_tells_what_was_and_what_happens_in_json_lines_until_it_is_interrupted(
    client: Any, cluster: Home, started: list[subprocess.Popen[bytes]]
) -> None:
    before = time.time()
    client.build(["client_0"])
    process = cluster.start(RED_CONSOLE, "watch", client.fed_id, "--json", "--since", "1h")
    started.append(process)
    assert process.stdout is not None and process.stderr is not None
    lines = [json.loads(process.stdout.readline())]
    while not (lines[-1]["type"] == "event" and lines[-1]["subject"] == "client_0" and lines[-1]["state"] == "ready"):
        lines.append(json.loads(process.stdout.readline()))
    assert "virtual nodes, launched by" in lines[0]["text"], "it begins with what was"
    assert b"watching" in process.stderr.readline()
    client.run(1)
    while lines[-1]["type"] != "round":
        lines.append(json.loads(process.stdout.readline()))
    assert (lines[-1]["number"], lines[-1]["state"]) == (1, "done") and lines[-1]["time"] >= before
    numbers = [line["seq"] for line in lines if line["type"] == "event"]
    assert numbers == sorted(set(numbers)), "each event once, in order"
    process.send_signal(signal.SIGINT)
    assert ended(process) == OK
    assert b"Traceback" not in process.stderr.read()


def test_watch_for_people_has_a_plain_line_for_each_event_and_ends_with_the_federation(
    client: Any, cluster: Home, started: list[subprocess.Popen[bytes]]
) -> None:
    process = cluster.start(RED_CONSOLE, "watch", client.fed_id)
    started.append(process)
    assert process.stdout is not None and process.stderr is not None
    assert b"watching" in process.stderr.readline()
    client.add_nodes(1)
    line = process.stdout.readline().decode()
    assert re.match(r"\d\d:\d\d:\d\d  info   \S+", line), line
    client.down()
    assert ended(process) == NOT_CONNECTED


def test_a_node_that_failed_is_named_with_its_cause_and_rebuilt(cluster: Home, fed_id: str, tmp_path: Path) -> None:
    path = write_layout(tmp_path / "layout.yaml", fed_id, template="breaking:Breaking")
    marker = tmp_path / "broken"
    marker.touch()
    path.with_name("breaking.py").write_text(
        "from pathlib import Path\nimport red_tui as red\n\nclass Breaking(red.FederatedNode):\n"
        "    def build(self, **kwargs):\n"
        f"        if Path({str(marker)!r}).exists():\n            raise OSError('no such \\x1b[31mdisk')\n"
    )
    assert cluster.red("up", str(path)).code == OK
    built = cluster.red("build", "-f", fed_id)
    assert built.code == FAILED and "no such" in built.err
    assert "\x1b" not in built.err + built.out, "what a node says is made plain"
    marker.unlink()
    rebuilt = cluster.red("rebuild", "-f", fed_id, "--json")
    assert rebuilt.code == OK, rebuilt.err
    assert len(rebuilt.json["built"]) == 2
    nothing = cluster.red("rebuild", "-f", fed_id, "--json")
    assert nothing.code == OK and "nothing to rebuild" in nothing.err and nothing.json["nothing"] is True
    assert cluster.red("rebuild", "-f", fed_id, "--exit-code").code == FAILED


def test_a_cluster_that_the_config_file_protects_is_changed_by_no_verb(
    client: Any, cluster: Home, tmp_path: Path
) -> None:
    assert cluster.noted is not None
    config = tmp_path / "console.yaml"
    config.write_text(f"read_only_clusters: ['{cluster.noted['address']}']\n")
    for verb in (["add"], ["build", "client_0"], ["down", client.fed_id, "--yes"], ["down", "--all", "--yes"]):
        refused = cluster.red(*verb, RED_CONFIG=str(config))
        assert (refused.code, refused.out) == (FAILED, ""), verb
        assert f"{verb[0]}: {cluster.noted['address']} is to be looked at only" in refused.err, verb
        assert str(config) in refused.err
    assert cluster.red("status", client.fed_id, RED_CONFIG=str(config)).code == OK
    assert set(states(client)) == {"client_0", "judge"} and set(states(client).values()) == {"virtual"}


def test_every_command_that_reports_takes_json() -> None:
    from red_tui.cli.main import parser_of

    silent = {"open", "schema", "completion", "new"}
    for command in set(COMMANDS) - silent:
        actions = {"checkpoint": ["ls", "verify", "export"], "runs": ["rename", "tag", "prune", "delete"]}.get(command)
        if actions is None:
            assert "--json" in parser_of(command).format_help(), command
        for action in actions or ():
            with pytest.raises(SystemExit), contextlib.redirect_stdout(io.StringIO()) as told:
                parser_of(command).parse_args([action, "--help"])
            assert "--json" in told.getvalue(), f"{command} {action}"


def test_the_layout_in_effect_is_described_to_clients_and_in_the_shell(client: Any, cluster: Home) -> None:
    client.set_round(fraction=0.5)
    description = client.describe()
    (line,) = description.differs
    assert line.startswith("rounds.fraction: ") and line.endswith(" → 0.5")
    told = cluster.red("describe", client.fed_id)
    assert told.code == OK and "fraction: 0.5" in told.out and line in told.out
    answer = json.loads(cluster.red("describe", client.fed_id, "--json").out)
    assert answer == {**description.to_wire()}
