"""What a console outlives: a terminal that reads nothing for a while, and a cluster that is gone until it is back."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.system.held_rounds import Rounds
from tests.system.support import Home, cluster_processes, eventually, write_layout
from tests.system.terminal import MakeTerminal, Terminal

pytestmark = [pytest.mark.terminal, pytest.mark.timeout(900)]

GROWTH = 1.1
"""So much larger may a console be after a stall: what Python's allocator takes in passing, not frames that wait."""


def test_a_terminal_that_reads_nothing_while_rounds_pass_recovers_and_the_console_has_not_grown(
    cluster: Home, rounds: Rounds, terminal: MakeTerminal
) -> None:
    console = terminal(cluster, rounds.client.fed_id)
    console.shows("2 ready")
    rounds.client.start_run(100_000)
    console.shows(r"round \d+/100000[\s\S]*\w left")
    console.stall()
    before, done = console.memory, rounds.done
    eventually(lambda: rounds.done >= done + 30, "rounds pass that nobody sees")
    assert console.memory < GROWTH * before
    missed = rounds.done
    console.resume()
    eventually(lambda: shown_round(console) > missed, "the newest rounds are shown")
    console.press("?")
    console.shows("build the next wave")
    assert console.memory < GROWTH * before


def shown_round(console: Terminal) -> int:
    told = re.search(r"round (\d+)", console.text)
    return int(told[1]) if told else 0


def age(console: Terminal) -> int:
    """Seconds that the banner says the data is old; -1 without a banner."""
    told = re.search(r"data is (?:(\d+) m )?(\d+) s old", console.text)
    return -1 if told is None else 60 * int(told[1] or 0) + int(told[2])


def test_a_cluster_that_is_gone_for_good_is_told_with_a_growing_age_and_its_return_needs_no_key(
    home: Home, tmp_path: Path, terminal: MakeTerminal
) -> None:
    console = terminal(home, str(write_layout(tmp_path / "small.yaml", "small")))
    console.shows("2 virtual")
    console.press("r")
    console.shows(r"round 1 [\s\S]*loss \d[\s\S]*2 ready")
    for process in cluster_processes(home):
        process.kill()
    console.shows(r"lost; data is [\s\S]*trying again")
    first = eventually(lambda: max(0, age(console)), "the banner has an age")
    tried = {link.pid for link in console.links}
    eventually(lambda: age(console) > first + 10, "the age grows")
    eventually(lambda: {link.pid for link in console.links} - tried, "other links try")
    assert re.search(r"1 +\S+ +0\.\d|2 ready", console.text), "what was known stays on the screen"

    adopted = home.red("adopt", "small")
    assert adopted.code == 0, adopted.err
    console.wrote("the cluster is back")
    console.shows("2 failed")  # their processes went with the old cluster
    assert "trying again" not in console.text
    went_on = home.python("import red_tui as red; c = red.attach('small'); c.rebuild(); print(c.run(1)[-1].number)")
    assert (went_on.code, went_on.out.strip()) == (0, "2"), went_on.err
    console.shows(r"round 2 [\s\S]*2 ready")
