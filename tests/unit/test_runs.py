"""Runs are listed, named, tagged, compared and removed from their files alone."""

from __future__ import annotations

import html
import json
import math
import os
import sqlite3
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

import red_tui as red
from red_tui.cli.main import main
from red_tui.errors import RunError, StateFolderError
from red_tui.federation.rounds.round_plan import finished_wire
from red_tui.journal.journal import Journal
from red_tui.journal.launch_record import LaunchRecord
from red_tui.layout import load
from red_tui.protocol.events import Event
from red_tui.rounds.history import RoundResult
from red_tui.run_catalog.curve_plot import Curve, draw, frame_of
from red_tui.run_catalog.kept_run import Run
from red_tui.run_catalog.run_list import delete, find, prunable, prune, runs
from red_tui.supervisor.resume import set_aside

LAYOUT = Path(__file__).parents[2] / "layouts" / "digits.yaml"
BEGAN = 1_700_000_000.0


def layout_text(**changes: object) -> str:
    text = LAYOUT.read_text()
    for name, value in changes.items():
        before = {"seed": "seed: 7}\nfailure", "fraction": "fraction: 1.0", "federation": "federation: digits"}[name]
        after = {"seed": f"seed: {value}}}\nfailure"}.get(name, f"{name}: {value}")
        assert before in text
        text = text.replace(before, after)
    return text


def made(
    folder: Path,
    losses: Sequence[float] = (0.9, 0.5, 0.3),
    *,
    accuracy: bool = True,
    seconds: Sequence[float] | None = None,
    ending: str = "ended by ada@head",
    layout: str | None = None,
    failing: bool = False,
) -> Run:
    """A folder as a launch leaves it."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if layout is not None:
        LaunchRecord(layout, str(LAYOUT), {}, "ada@head", created=BEGAN).save(folder)
    journal = Journal(folder / "journal.db")
    seq = 0

    def add(kind: str, text: str, at: float, **data: object) -> None:
        nonlocal seq
        seq += 1
        journal.append(Event(seq, at, kind, "info", folder.name, text, "", data))

    told = {"layout": layout, "path": str(LAYOUT)} if layout is not None else {}
    add("federation", "9 virtual nodes, launched by ada@head", BEGAN, **told)
    at = BEGAN
    for number, loss in enumerate(losses, start=1):
        took = 1.0 if seconds is None else seconds[number - 1]
        at += took
        failures = {"client_6": "ValueError: <script>alert(1)</script>"} if failing else {}
        result = RoundResult(
            number, loss, {"accuracy": 1 - loss} if accuracy else {}, {}, ["client_0"], failures, took, at, 10.0, 1
        )
        add("round", "begins", at - took, begin=number)
        add("round", "done", at, result=finished_wire(result))
    if ending:
        add("federation", ending, at + 1)
    journal.close()
    return Run(folder / "journal.db")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RED_HOME", str(tmp_path / "home"))
    place = tmp_path / "home" / "federations"
    place.mkdir(parents=True, mode=0o700)
    (tmp_path / "home").chmod(0o700)
    return place


def older(run: Run, seconds: float) -> Run:
    """Make the files of a run so much older."""
    for path in run.folder.glob(f"{run.journal.name}*"):
        os.utime(path, (time.time() - seconds,) * 2)
    return run


# -- the list ------------------------------------------------------------------------------------


def test_a_run_tells_what_a_launch_did(home: Path) -> None:
    run = made(home / "digits", layout=layout_text())
    told = run.summary
    assert (run.id, run.name, run.tags, told.federation) == ("digits", "digits", (), "digits")
    assert (told.rounds, told.failed_rounds, told.seconds) == (3, 0, 3.0)
    assert (told.began, told.last, told.ending) == (BEGAN, BEGAN + 4, "ended by ada@head")
    assert told.figures == {"loss": 0.3, "accuracy": 0.7}
    assert told.best == red.protocol.snapshot.BestRound(3, "loss", 0.3)
    layout = load(str(LAYOUT))
    assert (told.digest, told.seed) == (layout.digest(), 7)
    assert run.layout == layout and run.history.loss == [0.9, 0.5, 0.3]


def test_the_end_of_a_run_is_told_where_its_nodes_were_released_after_it_and_not_where_it_went_on(home: Path) -> None:
    run = made(home / "digits")

    def add(kind: str, text: str, **data: object) -> str:
        journal = Journal(run.journal)
        journal.append(Event(journal.last_seq() + 1, BEGAN + 9, kind, "info", "16 nodes", text, "", data))
        journal.close()
        return Run(run.journal).summary.ending

    assert add("node", "released: the federation ends", rows=[[0, 16]], state="released") == "ended by ada@head"
    assert add("round", "begins", begin=4) == ""
    assert add("node", "ready", rows=[[0, 1]], state="ready") == ""
    assert add("federation", "closed by the script of ada@head") == "closed by the script of ada@head"


def test_runs_are_listed_the_newest_first_and_those_before_under_the_time_they_were_set_aside(home: Path) -> None:
    older(made(home / "lines", ending=""), 300)
    first = older(made(home / "digits", (0.8,), layout=layout_text(seed=1)), 200)
    first.rename("the first")
    stamp = time.strftime("%Y%m%dT%H%M%S", time.localtime(first.journal.stat().st_mtime))
    assert set_aside(home / "digits") == ""
    made(home / "digits", (0.7,), layout=layout_text(seed=2))
    listed = runs()
    assert [run.id for run in listed] == ["digits", f"digits@{stamp}", "lines"]
    assert [run.name for run in listed] == ["digits", "the first", "lines"], "the name went with its run"
    assert [run.summary.seed for run in listed] == [2, 1, None]
    assert [run.summary.ending for run in listed] == ["ended by ada@head", "ended by ada@head", ""]
    assert red.runs() == listed


def test_a_summary_is_read_from_its_file_until_the_journal_changes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = made(home / "digits")
    assert run.summary.rounds == 3
    read: list[Path] = []
    monkeypatch.setattr(Journal, "fold", lambda self, before=Journal.fold: (read.append(self.path), before(self))[1])
    assert runs()[0].summary == run.summary and not read
    journal = Journal(run.journal)
    journal.append(Event(journal.last_seq() + 1, BEGAN + 9, "federation", "info", "digits", "ended by bob@head"))
    journal.close()
    assert runs()[0].summary.ending == "ended by bob@head" and len(read) == 1


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"format": 1}', '{"format": 1, "stamp": null, "summary": {"rounds": "many"}}', "[" * 9999]
)
def test_a_damaged_summary_is_made_again(home: Path, text: str) -> None:
    run = made(home / "digits")
    told = run.summary
    (home / "digits" / "journal.summary.json").write_text(text)
    assert Run(run.journal).summary == told


def test_a_damaged_journal_and_one_of_a_later_version_are_told_and_the_others_listed(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(home / "digits")
    (home / "broken").mkdir(mode=0o700)
    (home / "broken" / "journal.db").write_bytes(b"SQLite format 3\0" + b"\0" * 5000)
    later = made(home / "later")
    with sqlite3.connect(later.journal) as db:
        db.execute("UPDATE meta SET value = '99' WHERE key = 'version'")
    assert main(["runs"]) == 1
    told = capsys.readouterr()
    assert "digits" in told.out and "later" in told.err and "later red-tui" in told.err
    assert main(["runs", "--json"]) == 0
    entries = {one["id"]: one for one in json.loads(capsys.readouterr().out)["runs"]}
    assert set(entries) == {"digits", "broken", "later"}
    assert entries["digits"]["damage"] == "" and entries["broken"]["damage"] and entries["later"]["damage"]


def test_runs_of_scripts_are_found_below_a_folder_that_is_named(home: Path, tmp_path: Path) -> None:
    made(tmp_path / "work" / "a" / "one")
    made(tmp_path / "work" / "b")
    (tmp_path / "work" / "data").mkdir()
    (tmp_path / "work" / "loop").symlink_to(tmp_path / "work")
    assert sorted(run.id for run in runs(tmp_path / "work")) == ["b", "one"]
    assert [run.id for run in runs(tmp_path / "work" / "b")] == ["b"]
    assert runs() == []
    with pytest.raises(RunError, match="is no folder"):
        runs(tmp_path / "nowhere")


def test_a_home_that_others_can_write_is_refused(home: Path) -> None:
    made(home / "digits")
    (home / "digits").chmod(0o777)
    with pytest.raises(StateFolderError, match="can be written by other users"):
        runs()


def test_names_and_tags_are_kept_and_refused_where_they_cannot_be_any(home: Path) -> None:
    run = made(home / "digits")
    run.rename("wide net")
    run.tag("paper", "lr=0.3")
    run.tag("paper", "again")
    assert (Run(run.journal).name, Run(run.journal).tags) == ("wide net", ("lr=0.3", "paper", "again"))
    run.tag("paper", remove=True)
    assert [one.id for one in runs(tag="lr=0.3")] == ["digits"] and runs(tag="paper") == []
    for wrong in ("a\nb", "\x1b[31mred", "x" * 101, 7):
        with pytest.raises(RunError, match="the name of a run is one line"):
            run.rename(wrong)  # type: ignore[arg-type]
    for path in ("lr/0.1", "a.db"):
        with pytest.raises(RunError, match="would be taken for a path"):
            run.rename(path)
    for tag in ("", "a b", "-x", "ü", "x" * 64):
        with pytest.raises(RunError, match="cannot be a tag"):
            run.tag(tag)
    run.rename("")
    assert run.name == "digits"


def test_a_run_is_found_by_id_name_journal_and_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = made(home / "digits")
    other = made(home / "lines")
    run.rename("best net")
    other.rename("lines two")
    for name in ("digits", "best net", str(run.journal), str(run.folder)):
        assert find(name) == run
    with pytest.raises(RunError, match=r"there is no run 'nobody'; the newest are: .*lines two"):
        find("nobody")
    other.rename("best net")
    with pytest.raises(RunError, match=r"2 runs are called 'best net': .* \((digits, lines|lines, digits)\)"):
        find("best net")
    with pytest.raises(RunError, match="there is no journal at"):
        find("./nowhere/journal.db")
    monkeypatch.chdir(home)
    made(home.parent / "kept").rename("apart")
    monkeypatch.chdir(home.parent)
    assert find("kept").name == "apart", "a folder beside one"
    assert find("apart", runs(home.parent / "kept")).folder.name == "kept"


# -- clearing away -------------------------------------------------------------------------------


def test_a_deleted_run_takes_its_files_and_leaves_those_of_others(home: Path) -> None:
    first = older(made(home / "digits", layout=layout_text()), 100)
    for name in ("checkpoints", "states"):
        (home / "digits" / name).mkdir()
        (home / "digits" / name / "file").write_text("x")
    assert first.summary and set_aside(home / "digits") == ""
    second = made(home / "digits", layout=layout_text())
    (home / "digits" / "mine.txt").write_text("not a file of red-tui")
    aside = next(run for run in runs() if run.stamp)
    removed = delete(aside)
    names = {path.name for path in removed}
    end = aside.stamp
    assert {f"journal-{end}.db", f"journal-{end}.summary.json", f"checkpoints-{end}", f"states-{end}"} <= names
    assert runs() == [second] and second.summary.rounds == 3
    delete(second)
    assert [path.name for path in (home / "digits").iterdir()] == ["mine.txt"]


def test_a_layout_of_ones_own_beside_a_run_is_no_file_of_the_run(home: Path) -> None:
    run = made(home / "digits", layout=layout_text())
    (home / "digits" / "layout.yaml").write_text("# mine\n" + layout_text())
    delete(run)
    assert [path.name for path in (home / "digits").iterdir()] == ["layout.yaml"]


def test_a_removal_that_fails_can_be_told_and_done_again(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = made(home / "digits")
    (home / "digits" / "checkpoints").mkdir(mode=0o777)
    (home / "digits" / "checkpoints").chmod(0o777)
    made(home / "lines")
    assert main(["runs", "delete", "lines", "digits", "--yes", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert [one["id"] for one in told["removed"]] == ["lines"] and list(told["refused"]) == ["digits"]
    assert runs() == [run]
    (home / "digits" / "checkpoints").chmod(0o700)
    assert main(["runs", "delete", "digits", "--yes"]) == 0 and runs() == []


def test_a_folder_of_which_nothing_is_left_goes_too(home: Path) -> None:
    delete(made(home / "digits", layout=layout_text()))
    assert list(home.iterdir()) == []


HOLD = """
import sys
from pathlib import Path
from red_tui.journal.journal import Journal
journal = Journal(Path(sys.argv[1]))
print("open", flush=True)
sys.stdin.read()
"""


def test_a_run_that_goes_on_is_not_removed(home: Path) -> None:
    run = made(home / "digits")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run.journal)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "open\n"
        assert run.in_use
        with pytest.raises(RunError, match="digits goes on: end it first"):
            delete(run)
        assert prunable(0) == []
        ended = [older(made(home / name), 10) for name in ("one", "two")]
        assert prunable(1) == [run for run in runs() if run in ended][1:], "what goes on does not count"
        for one in ended:
            delete(one)
        holder.communicate("")
    assert not run.in_use
    assert prune(0) == [run] and runs() == []


def test_prune_keeps_the_newest_and_what_has_a_name_or_a_tag(home: Path) -> None:
    for age in range(6):
        older(made(home / f"run-{age}"), 100 * age)
    find("run-5").rename("kept by name")
    find("run-4").tag("paper")
    assert [run.id for run in prune(2)] == ["run-2", "run-3"]
    assert [run.id for run in runs()] == ["run-0", "run-1", "run-4", "run-5"]
    for wrong in (-1, True, 1.5):
        with pytest.raises(RunError, match="keep says how many"):
            prune(wrong)  # type: ignore[arg-type]


def test_a_link_in_a_run_that_we_did_not_make_is_not_followed(home: Path, tmp_path: Path) -> None:
    run = made(home / "digits")
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.tex").write_text("x")
    (home / "digits" / "checkpoints").symlink_to(tmp_path / "precious")
    with pytest.raises(RunError, match="symbolic link"):
        delete(run)
    assert (tmp_path / "precious" / "thesis.tex").exists() and run.journal.exists()


# -- comparing -----------------------------------------------------------------------------------


def test_runs_are_compared_by_what_they_measured_and_by_what_differs(home: Path) -> None:
    made(home / "a", (0.9, 0.5, 0.3), layout=layout_text(federation="a"))
    made(home / "b", (0.8, 0.4), seconds=(2.0, 4.0), layout=layout_text(federation="b", fraction=0.5))
    comparison = red.compare(["a", "b"], "accuracy", target=0.55)
    a, b = comparison.standings
    assert (a.rounds, a.seconds, a.best_round, a.to_target) == (3, 3.0, 3, (3, 3.0))
    assert (a.best, a.last) == pytest.approx((0.7, 0.7))
    assert (b.rounds, b.seconds, b.best_round, b.to_target) == (2, 6.0, 2, (2, 6.0))
    assert comparison.differences == {"federation": ["a", "b"], "rounds.fraction": [1.0, 0.5]}
    assert [(curve.name, curve.x) for curve in comparison.curves] == [("a", (1.0, 2.0, 3.0)), ("b", (1.0, 2.0))]
    by_time = red.compare(["b"], x="seconds")
    assert by_time.curves[0].x == (2.0, 6.0) and by_time.curves[0].y == (0.8, 0.4)
    text = str(comparison)
    assert "rounds.fraction" in text and "rounds to 0.55" in text and "best accuracy" in text
    assert json.loads(json.dumps(comparison.to_wire(), allow_nan=False))["runs"][1]["best_round"] == 2


def test_the_mean_over_seeds_is_numpys_with_the_deviation_of_a_sample(home: Path) -> None:
    losses = {1: (0.9, 0.5, 0.3), 2: (0.7, 0.6, 0.1), 3: (0.8, 0.7)}
    for seed, values in losses.items():
        text = layout_text(seed=seed, federation=f"seed-{seed}")
        made(home / f"seed-{seed}", values, layout=text.replace("config: {seed: 7", f"config: {{seed: {seed}"))
    made(home / "other", (0.5, 0.4), layout=layout_text(fraction=0.5))
    mean, other = red.compare(["seed-1", "seed-2", "seed-3", "other"], seeds=True).curves
    rows = np.array([one[:2] for one in losses.values()])
    assert mean.name == "seed-1 (mean of 3)" and mean.x == (1.0, 2.0), "the rounds that all of them have"
    assert mean.deviation is not None and other.deviation is None
    np.testing.assert_allclose(mean.y, rows.mean(axis=0))
    np.testing.assert_allclose(mean.deviation, rows.std(axis=0, ddof=1))


def test_smoothing_is_an_exponential_mean_without_a_bias_to_zero(home: Path) -> None:
    made(home / "a", (1.0, 1.0, 0.0))
    (curve,) = red.compare(["a"], smooth=0.5).curves
    assert curve.y[:2] == (1.0, 1.0) and curve.y[2] == pytest.approx((0.25 + 0.125) / 0.875)
    (last,) = red.compare(["a"], last=2).curves
    assert last.x == (2.0, 3.0)


def wrong(home: Path) -> dict[str, tuple[Callable[[], object], str]]:
    a = made(home / "a", layout=layout_text())
    b = made(home / "b", accuracy=False)
    empty = made(home / "empty", ())
    return {
        "no runs": (lambda: red.compare([]), "no runs to compare"),
        "one text": (lambda: red.compare("a"), "give a list"),
        "twice": (lambda: red.compare([a, "a"]), "a is named twice"),
        "measure": (lambda: red.compare([a, b], "f1"), "no run has the measure 'f1': there are accuracy, .*loss"),
        "no rounds": (lambda: red.compare([empty]), "empty did not finish one"),
        "x": (lambda: red.compare([a], x="bytes"), "x is one of round, seconds"),
        "last": (lambda: red.compare([a], last=0), "last says how many"),
        "smooth": (lambda: red.compare([a], smooth=1.0), "smooth is a weight"),
        "target": (lambda: red.compare([a], target="much"), "target is a number"),
        "many": (lambda: red.compare([Run(Path(f"/x/{one}/journal.db")) for one in range(51)]), "too many"),
        "file": (lambda: red.compare([a]).to_svg(home / "no" / "x.svg"), "cannot be written"),
    }


@pytest.mark.parametrize(
    "case", ["no runs", "one text", "twice", "measure", "no rounds", "x", "last", "smooth", "target", "many", "file"]
)
def test_what_cannot_be_compared_is_refused(case: str, home: Path) -> None:
    act, why = wrong(home)[case]
    with pytest.raises(RunError, match=why):
        act()


def test_pages_and_pictures_stand_by_themselves_and_escape_what_runs_say(home: Path, tmp_path: Path) -> None:
    run = made(home / "a", layout=layout_text(), failing=True)
    made(home / "b", layout=layout_text(fraction=0.5))
    run.rename("<img src=x onerror=alert(1)> & co")
    comparison = red.compare([run, "b"])
    picture = comparison.to_svg(tmp_path / "x.svg").read_text()
    root = ET.fromstring(picture)
    assert root.tag.endswith("svg") and "<img" not in picture and html.escape("<img src=x") in picture
    text = comparison.to_html(tmp_path / "x.html").read_text()
    assert "<img" not in text and "rounds.fraction" in text and "http" not in text.replace("http://www.w3.org", "")
    assert main(["report", "a", str(tmp_path / "report.html")]) == 0
    report = (tmp_path / "report.html").read_text()
    assert "<script" not in report and "<img" not in report
    assert (
        html.escape("<script>alert(1)</script>") in report and "fraction: 1.0" in report and report.count("<svg") >= 3
    )


# -- the curves ----------------------------------------------------------------------------------


def test_a_slow_first_round_does_not_flatten_the_others() -> None:
    steady = Curve("a", tuple(range(20)), (500.0, *np.linspace(1.0, 2.0, 19).tolist()))
    frame = frame_of([steady])
    assert (frame.outside, frame.low) == (1, pytest.approx(0.95)) and frame.high == pytest.approx(2.05)
    rising = Curve("b", tuple(range(20)), tuple(np.linspace(0, 1, 20).tolist()))
    assert frame_of([rising]).outside == 0


@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("width", [20, 80, 200])
def test_a_plot_keeps_its_width_and_tells_its_curves_apart(width: int, ascii_only: bool) -> None:
    curves = [Curve(f"run {place} " + "x" * 90, (1, 2, 3, 4), (1.0 + place, math.nan, 3.0, 2.0)) for place in range(3)]
    lines = draw(curves, width, 10, ascii_only=ascii_only)
    assert all(len(line) <= width for line in lines) and len(lines) == 10 + 3 + 3
    signs = {line[10] for line in lines[-3:]}
    assert len(signs) == 3
    assert "\n".join(lines).isascii() is ascii_only


def test_an_axis_that_is_logarithmic_leaves_out_what_is_not_above_zero() -> None:
    frame = frame_of([Curve("a", (1, 2, 3), (0.0, 1.0, 100.0))], log=True)
    assert (frame.low, frame.high) == (0.0, 2.0)
    lines = draw([Curve("a", (1, 2, 3), (0.0, 1.0, 100.0))], 60, 9, log=True)
    assert lines[0].strip().startswith("100│") and "loss, logarithmic" in "\n".join(lines)


def test_curves_of_one_value_and_of_none_are_drawn() -> None:
    lines = draw([Curve("a", (1,), (0.5,))], 40, 5)
    assert [place for place, line in enumerate(lines) if "0.5│●" in line] == [2]
    assert "".join(lines).count("0.5") == 1
    assert draw([Curve("a", (), ())], 40, 5)


# -- the verbs -----------------------------------------------------------------------------------


def test_the_verbs_list_name_tag_compare_and_remove(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def told(*words: str, code: int = 0) -> str:
        assert main(list(words)) == code
        return capsys.readouterr().out

    assert told("runs") == ""
    older(made(home / "a", layout=layout_text()), 100)
    made(home / "b", layout=layout_text(fraction=0.5))
    lines = told("runs").splitlines()
    assert lines[0].split() == ["run", "began", "rounds", "seconds", "last", "best", "ended", "tags"]
    assert [line.split()[0] for line in lines[1:]] == ["b", "a"]
    assert told("runs", "rename", "a", "first try") == "a is called first try\n"
    assert told("runs", "tag", "first try", "paper") == "first try: paper\n"
    assert json.loads(told("runs", "tag", "a", "paper", "--remove", "--json"))["tags"] == []
    assert [one["name"] for one in json.loads(told("runs", "--json"))["runs"]] == ["b", "first try"]
    drawn = told("compare", "first try", "b", "--ascii", "--metric", "accuracy")
    assert drawn.isascii() and "rounds.fraction" in drawn and "best accuracy" in drawn
    assert len(json.loads(told("compare", "a", "b", "--json"))["curves"]) == 2
    assert main(["compare", "a", "nobody"]) == 1
    assert "there is no run 'nobody'" in capsys.readouterr().err
    assert main(["runs", "delete", "b"]) == 2 and "Nobody can be asked" in capsys.readouterr().err
    assert told("runs", "prune", "--keep", "0", "--yes") == "b is removed\n", "the other has a name"
    assert told("runs", "delete", "a", "--yes") == "first try is removed\n"
    assert told("runs") == ""
