"""A history of any length: every figure of every round, in bounded memory, and in every form that is taken away."""

from __future__ import annotations

import csv
import io
import json
import math
import sqlite3
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from red_tui.aggregation.answers import Answers
from red_tui.cli.round_verbs import write_csv
from red_tui.errors import RedError
from red_tui.federation.rounds.round_plan import finished_wire
from red_tui.journal.journal import Journal
from red_tui.journal.node_figures import NodeFigures, figures_path
from red_tui.nodes.ids import PatternIds
from red_tui.nodes.table import NodeTable
from red_tui.protocol.events import Event
from red_tui.protocol.snapshot import BestRound
from red_tui.rounds.history import History, NodeNames, RoundResult, node_statistics
from red_tui.rounds.round_log import RoundLog

TABLE = NodeTable()
TABLE.append(PatternIds("client_", "", 0, 8), "train")


def finished(number: int, nodes: int = 4) -> RoundResult:
    rows = np.arange(nodes)
    seconds = np.linspace(0.1, 0.4, nodes) * number
    fitted = Answers(rows, np.full(nodes, 5.0), seconds, {"loss": seconds})
    failures = {"client_6": f"no result within the deadline of {number} s"}
    spread = node_statistics(fitted, Answers(), failures, TABLE.ids.take)
    return RoundResult(
        number, 1 / number, {"accuracy": 1 - 1 / number}, {"loss": 2 / number}, NodeNames(TABLE.ids, rows), failures,
        0.5, float(number), 20.0, 2, spread=spread, left_out={"client_7": "has failed"},
    )  # fmt: skip


def keep(journal: Journal, result: RoundResult) -> None:
    seq = journal.last_seq() + 1
    for level, data in (("trace", {"begin": result.number}), ("good", {"result": finished_wire(result)})):
        text = "begins" if level == "trace" else "done"
        journal.append(Event(seq, float(seq), "round", level, f"round {result.number}", text, data=data))
        seq += 1


def assert_same(old: RoundResult, whole: RoundResult) -> None:
    assert old.to_wire() == whole.to_wire()
    assert list(old.participants) == list(whole.participants) and len(old.participants) == 4
    assert (dict(old.failures), dict(old.left_out)) == (dict(whole.failures), dict(whole.left_out))
    assert dict(old.spread) == dict(whole.spread) and old.spread["measures"]["seconds"]["count"] == 4
    assert (old.failed, old.num_left_out) == (1, 1)


def test_a_round_of_long_ago_says_what_it_said_when_it_was_over(tmp_path: Path) -> None:
    journal, log = Journal(tmp_path / "journal.db", keep=40), RoundLog(whole=5)
    log.journal, log.ids = journal.result, TABLE.ids
    results = [finished(number) for number in range(1, 61)]
    for result in results:
        keep(journal, result)
        log.append(result)
    journal.compact(20)
    assert len(log) == 60 and [one.number for one in log] == list(range(1, 61))
    for number in (1, 2, 29, 55, 56, 60):
        found = log.of_number(number)
        assert found is not None
        assert_same(found, results[number - 1])
    assert log.of_number(61) is None and log[-1] is results[-1]
    history = log.history()
    log.append(finished(61))
    assert len(history) == 60, "a history stays as it was when it was asked for"
    assert [one.number for one in log.history(last=3)] == [59, 60, 61]
    assert [one.number for one in log.history(last=20)] == list(range(42, 62))
    journal.close()
    assert log[0].failures == {"client_6": "no result within the deadline of 1 s"}, "after the end, too"


def test_without_a_journal_old_rounds_lie_packed_in_memory() -> None:
    log = RoundLog(whole=2)
    log.ids = TABLE.ids
    for number in range(1, 9):
        log.append(finished(number))
    assert_same(log[0], finished(1))
    assert_same(log[5], finished(6))
    given = RoundResult(9, math.nan, {}, {}, ("a", "b"), {}, 0.1, 0.0)
    for _ in range(3):
        log.append(given)
    assert tuple(log[8].participants) == ("a", "b") and math.isnan(log[8].loss) and log[8].metrics == {}


def test_the_memory_of_a_long_history_does_not_grow_with_what_rounds_say_of_nodes(tmp_path: Path) -> None:
    log = RoundLog(whole=10)
    log.journal = lambda number: None
    many = {f"client_{n}": "raised " * 30 for n in range(2_000)}
    for number in range(1, 3_001):
        log.append(RoundResult(number, 1.0, {"accuracy": 0.5}, {"loss": 1.0}, ("",), many, 0.1, 0.0))
    assert log.nbytes < 3_000 * 250, "a few numbers a round"
    assert log[5].failed == 2_000 and log[5].spread == {} and dict(log[5].metrics) == {"accuracy": 0.5}


def test_metrics_of_a_name_of_their_own_each_are_kept_too() -> None:
    log = RoundLog(whole=1)
    for number in range(1, 500):
        log.append(RoundResult(number, 1.0, {f"m{number}": float(number)}, {}, (), {}, 0.1, 0.0))
    assert [dict(log[place].metrics) for place in (0, 300, 497)] == [{"m1": 1.0}, {"m301": 301.0}, {"m498": 498.0}]
    assert log.num_columns < 300


def test_a_result_is_found_wherever_the_journal_has_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db", keep=10)
    for number in range(1, 1301):
        keep(journal, finished(number))
    journal.compact(10)
    for number in (1, 250, 251, 777, 1290, 1300):
        found = journal.result(number)
        assert found is not None and found["number"] == number and found["spread"]["measures"]
    assert journal.result(1301) is None
    journal.close()
    other = journal.result(777)
    assert other is not None and other["number"] == 777


# -- every node ------------------------------------------------------------------------------------


def figures() -> tuple[Answers, Answers]:
    rows = np.asarray([1, 2, 5])
    fitted = Answers(rows, np.asarray([3.0, 4.0, 5.0]), np.asarray([0.1, 0.2, 0.3]),
                     {"loss": np.asarray([1.0, np.nan, 2.0])})  # fmt: skip
    judged = Answers(rows[:1], np.asarray([7.0]), np.asarray([0.5]), {"accuracy": np.asarray([0.75])},
                     np.asarray([0.25]))  # fmt: skip
    return fitted, judged


@pytest.mark.parametrize("on_disk", [True, False])
def test_the_figures_of_every_node_are_kept_for_ever(tmp_path: Path, on_disk: bool) -> None:
    kept = NodeFigures(figures_path(tmp_path / "journal.db") if on_disk else None)
    for number in (1, 2):
        kept.keep(number, TABLE.ids.take, *figures())
    kept.keep(2, TABLE.ids.take, figures()[0], Answers())  # a round that was tried again
    expected = {"examples": 3.0, "seconds": 0.1, "train_loss": 1.0, "loss": 0.25, "eval_examples": 7.0,
                "eval_seconds": 0.5, "accuracy": 0.75}  # fmt: skip
    assert kept.read(1)["client_1"] == expected
    assert kept.read(2) == {
        "client_1": {"examples": 3.0, "seconds": 0.1, "train_loss": 1.0},
        "client_2": {"examples": 4.0, "seconds": 0.2},
        "client_5": {"examples": 5.0, "seconds": 0.3, "train_loss": 2.0},
    }
    with pytest.raises(RedError, match="round 3: the figures of its nodes were not kept: there are those of rounds 1"):
        kept.read(3)
    kept.close()
    if on_disk:
        assert (tmp_path / "journal-nodes.db").stat().st_mode & 0o777 == 0o600
        assert NodeFigures(tmp_path / "journal-nodes.db", read_only=True).read(1)["client_1"] == expected


def test_figures_that_were_never_kept_say_how_to_keep_them(tmp_path: Path) -> None:
    with pytest.raises(RedError, match="node_history=True"):
        NodeFigures(tmp_path / "journal-nodes.db").read(1)
    with pytest.raises(RedError, match="node_history=True"):
        History((finished(1),)).nodes(1)
    (tmp_path / "broken-nodes.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(RedError, match=r"broken-nodes\.db cannot be read"):
        NodeFigures(tmp_path / "broken-nodes.db").read(1)
    with pytest.raises((sqlite3.Error, OSError)):
        NodeFigures(tmp_path / "broken-nodes.db").keep(1, TABLE.ids.take, *figures())


# -- taking it away --------------------------------------------------------------------------------


def test_a_file_of_a_script_and_of_the_command_line_hold_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = RoundResult(4, math.nan, {"f1": math.inf}, {}, (), {}, 0.5, 4.0)
    history = History((finished(1), finished(2), finished(3), odd))
    text = history.to_csv(tmp_path / "history.csv").read_text(encoding="utf-8")
    out = io.StringIO()
    monkeypatch.setattr("red_tui.cli.round_verbs.OUTPUT", out)
    write_csv([result.to_wire() for result in history.rounds[:3]])
    rows, lines = list(csv.DictReader(io.StringIO(text))), list(csv.DictReader(io.StringIO(out.getvalue())))
    assert [{key: row[key] for key in lines[0]} for row in rows[:3]] == lines
    assert rows[1] == {
        "round": "2", "loss": "0.5", "accuracy": "0.5", "f1": "", "train_loss": "1.0", "participants": "4",
        "failed": "1", "num_examples": "20.0", "seconds": "0.5", "left_out": "1", "evaluated": "2", "ended": "2.0",
    }  # fmt: skip
    assert (rows[3]["loss"], rows[3]["f1"]) == ("", "inf"), "what is no number is empty, and infinity is told"


def test_columns_of_the_spread_are_those_of_numpy() -> None:
    head, rows = History((finished(2),)).columns(spread=True)
    told = dict(zip(head, rows[0], strict=True))
    seconds = np.linspace(0.1, 0.4, 4) * 2
    assert told["seconds_median"] == pytest.approx(np.median(seconds))
    assert told["seconds_p90"] == pytest.approx(np.quantile(seconds, 0.9)) and told["seconds_worst"] == 0.8
    assert told["train_loss_deviation"] == pytest.approx(seconds.std()) and told["train_loss"] == 1.0


def test_json_holds_all_that_is_known_of_a_round(tmp_path: Path) -> None:
    odd = RoundResult(3, math.nan, {"f1": math.inf}, {}, (), {}, 0.5, 4.0)
    history = History((finished(1), finished(2), odd))
    text = history.to_json(tmp_path / "history.json")
    told = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert told == json.loads((tmp_path / "history.json").read_text(encoding="utf-8"))
    assert told["best"] == {"round": 2, "metric": "loss", "value": 0.5}
    assert told["rounds"][1]["failures"] == {"client_6": "no result within the deadline of 2 s"}
    assert told["rounds"][1]["spread"]["measures"]["seconds"]["quantiles"][3] == pytest.approx(0.5)
    assert told["rounds"][2]["loss"] is None and told["rounds"][2]["metrics"] == {"f1": None}


def test_a_notebook_shows_a_table_and_no_markup_of_nodes() -> None:
    odd = RoundResult(30, 0.001, {"<script>": 1.0}, {}, (), {}, 0.5, 4.0)
    shown = History((*map(finished, range(1, 30)), odd))._repr_html_()
    assert "<script>" not in shown and "&lt;script&gt;" in shown
    assert "30 rounds, best loss 0.001 in round 30" in shown and shown.count("<tr>") == 1 + 10 + 1 + 10
    assert History()._repr_html_().startswith("<p>0 rounds</p>") and repr(History()) == "<History: 0 rounds>"


def test_without_pandas_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(RedError, match=r"pip install pandas"):
        History((finished(1),)).to_pandas()


@pytest.mark.parametrize(
    ("values", "metric", "best"),
    [
        ([0.5, 0.2, 0.3, 0.2], "loss", BestRound(2, "loss", 0.2)),
        ([math.nan, 0.4, math.nan], "loss", BestRound(2, "loss", 0.4)),
        ([math.inf, math.nan], "loss", None),
        ([], "loss", None),
    ],
)
def test_the_best_round_is_the_first_of_the_lowest_loss(values: list[float], metric: str, best: Any) -> None:
    rounds = [RoundResult(n, loss, {}, {}, (), {}, 0.1, 0.0) for n, loss in enumerate(values, start=1)]
    assert History(tuple(rounds)).best(metric) == best
    log = RoundLog(whole=1)
    for result in rounds:
        log.append(result)
    assert log.best == best, "remembered, also of rounds that are no more in memory"


def test_a_metric_is_best_at_its_good_end_and_training_counts_where_nobody_judged() -> None:
    history = History(tuple(map(finished, (1, 2, 3))))
    assert history.best("accuracy") == BestRound(3, "accuracy", 1 - 1 / 3)
    assert history.best("f1") is None
    unjudged = [RoundResult(n, math.nan, {}, {"loss": loss}, (), {}, 0.1, 0.0) for n, loss in ((1, 0.3), (2, 0.1))]
    assert History(tuple(unjudged)).best() == BestRound(2, "train loss", 0.1)
    judged = RoundResult(3, 5.0, {}, {"loss": 0.2}, (), {}, 0.1, 0.0)
    assert History((*unjudged, judged)).best() == BestRound(3, "loss", 5.0), "judging counts before training"
