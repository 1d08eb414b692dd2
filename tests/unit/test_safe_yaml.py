"""The one reader of YAML: hostile text is read or refused with its place, within bounds."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from red_tui.console.config import preferences
from red_tui.console.input.command_line import read_send
from red_tui.errors import CommandRefused, LayoutError
from red_tui.layout import load, loads
from red_tui.layout.round_settings import value_of
from red_tui.safe_yaml import MAX_DEPTH, Unreadable, load as load_yaml, read, read_file

BASE = "federation: a\nnodes: [{count: 2, role: train}]\ntemplate: m:C\n"


def merge_bomb(levels: int = 25, width: int = 9) -> str:
    """A few KB that merge keys make exponentially many of."""
    lines = ["a0: &a0 {x: 1}"]
    for level in range(1, levels):
        lines.append(f"a{level}: &a{level} {{<<: [{', '.join([f'*a{level - 1}'] * width)}]}}")
    return "\n".join(lines)


def alias_bomb() -> str:
    return "\n".join(["a0: &a0 [1, 1]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)])


def merge_chain() -> str:
    return "\n".join(["a0: &a0 {x: 1}"] + [f"a{n}: &a{n} {{<<: *a{n - 1}, k{n}: 1}}" for n in range(1, 3000)])


BOMBS = {
    "merge keys": merge_bomb(),
    "aliases": alias_bomb(),
    "a chain of merge keys": merge_chain(),
    "merge keys into a large mapping": "e: &e {}\nb:\n  <<: ["
    + "*e, " * 90_000
    + "]\n"
    + "".join(f"  k{n}: 1\n" for n in range(40_000)),
    "base 60": f"config: {{n: {'1:' * 200_000}1}}\n" + BASE,
    "digits": f"config: {{n: {'9' * 1_000_000}}}\n" + BASE,
    "digits with a sign": f"config: {{n: !!float {'1' * 900_000}e}}\n" + BASE,
    "hexadecimal": f"config: {{n: 0x{'f' * 900_000}}}\n" + BASE,
    "depth": "[" * 1_000_000,
    "depth of mappings": "{a: " * 200_000,
    "depth of blocks": "\n".join(" " * n + "-" for n in range(1400)),
    "values": "[" + "1," * 480_000 + "]",
    "groups": BASE.replace("{count: 2, role: train}", ", ".join(["{count: 1, role: train, id: 'a{i}b'}"] * 20_000)),
    "literal groups": BASE.replace(
        "{count: 2, role: train}", ", ".join(f"{{count: 1, role: train, id: a{n}}}" for n in range(20_000))
    ),
    "levels": BASE + "schema: hierarchical\ntopology: {levels: [" + "9," * 90_000 + "]}",
    "a word like none": BASE + f"rounds: {{strategy: {{name: {'fedavg' * 100_000}}}}}",
    "a key like none": BASE + f"{'nodes' * 100_000}: 1",
}


@pytest.mark.parametrize("name", BOMBS)
def test_no_text_keeps_the_reader_busy(name: str) -> None:
    began = time.process_time()
    try:
        loads(BOMBS[name], "x.yaml")
    except LayoutError as error:
        assert error.message.startswith("x.yaml") and len(error.message) < 1500
    # Minutes on the old code, or no end; the bound leaves room for a machine that is busy.
    assert time.process_time() - began < 20


@pytest.mark.parametrize(
    ("old", "new", "place", "said"),
    [
        ("federation: a", "federation: !!int", (1, 13), "is no number, as its tag !!int says"),
        ("federation: a", "federation: !!int a", (1, 13), "is no number"),
        ("federation: a", "federation: !!bool a", (1, 13), "is not true or false"),
        ("federation: a", "federation: !!set {a}", (1, 13), "would construct an object"),
        ("federation: a", "federation: !!binary aGk=", (1, 13), "would construct an object"),
        ("federation: a", "federation: !!omap [a: 1]", (1, 13), "would construct an object"),
        ("federation: a", "federation: !!python/object:os.system x", (1, 13), "would construct an object"),
        ("federation: a", "federation: !!int [1]", (1, 13), "does not fit"),
        ("template", "rounds: {min_results: .inf}\ntemplate", (3, 23), "must be a finite number"),
        ("template", "rounds: {min_results: .nan}\ntemplate", (3, 23), "must be a finite number"),
        ("template", "rounds: {min_results: -.inf}\ntemplate", (3, 23), "must be a finite number"),
        ("template", "rounds: {count: 99999999999999999999}\ntemplate", (3, 17), "must be a finite number of 64 bits"),
        ("template", "rounds: {deadline: 1:30}\ntemplate", (3, 20), 'must be a number, not text ("1:30")'),
        ("count: 2", "count: 2, count: 3", (2, 20), "stands twice"),
        ("template", "\x00template", (3, 1), "not allowed in YAML"),
        ("template", "\ud800template", (3, 1), "not allowed in YAML"),
        ("template", "--- \ntemplate", (3, 1), "single document"),
    ],
)
def test_odd_yaml_in_a_layout_is_refused_with_its_place(old: str, new: str, place: tuple[int, int], said: str) -> None:
    with pytest.raises(LayoutError) as refused:
        loads(BASE.replace(old, new, 1), "x.yaml")
    assert said in refused.value.message
    assert (refused.value.fields["line"], refused.value.fields["column"]) == place


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2001-02-30", "2001-02-30"),
        ("[0x1f, 0b11, 017, 1_000, -5, +5, 0]", [31, 3, 15, 1000, -5, 5, 0]),
        ("[1e-3, 1.5, .5, 1_0.5, 1E5, -1.e+2]", [0.001, 1.5, 0.5, 10.5, 1e5, -100.0]),
        ("[on, No, ~, null, '', \"1\"]", [True, False, None, None, "", "1"]),
        ("[1:30, 0o7, =, 1.2.3]", ["1:30", "0o7", "=", "1.2.3"]),
        ("{a: &x {p: 1, q: 2}, b: {<<: *x, q: 3}}", {"a": {"p": 1, "q": 2}, "b": {"p": 1, "q": 3}}),
        ("{<<: [{a: 1}, {a: 2, b: 3}], c: 4}", {"c": 4, "a": 1, "b": 3}),
        ("", None),
    ],
)
def test_plain_values_are_read_as_ever(text: str, value: Any) -> None:
    assert load_yaml(text) == value


def test_what_is_deep_but_allowed_is_read() -> None:
    assert read("[" * MAX_DEPTH + "]" * MAX_DEPTH) is not None
    with pytest.raises(Unreadable, match="nested too deeply"):
        read("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1))


def test_a_file_that_is_no_text_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "large.yaml").write_bytes(b"#" * 5_000_000)
    (tmp_path / "utf16.yaml").write_bytes(BASE.encode("utf-16"))
    for name, said in [
        ("pipe.yaml", "no regular file"),
        ("large.yaml", "larger than 4 MB"),
        ("utf16.yaml", "not UTF-8"),
        ("none.yaml", "cannot be read"),
        ("", "is a folder"),
        ("a\0b", "no name of a file"),
    ]:
        with pytest.raises(LayoutError, match=said):
            load(tmp_path / name)
    with pytest.raises(Unreadable, match="no regular file"):
        read_file("/dev/zero")


@pytest.mark.parametrize(
    "text",
    [
        "theme: 2001-02-30",
        "zoom: !!int x",
        "[" * 3000,
        "a: \x00",
        "mouse: !!python/name:os.x",
        "&a [*a]",
        "replay_idle: .inf",
    ],
)
def test_a_config_file_that_cannot_be_used_leaves_the_defaults_and_says_so(tmp_path: Path, text: str) -> None:
    config = tmp_path / "console.yaml"
    config.write_text(text)
    try:
        assert preferences.load(config).theme == "2001-02-30"  # a name of no theme: the console says that itself
    except preferences.PreferencesError as error:
        assert str(config) in error.message
        found = preferences.load_or_default(config)
        assert error.message in found.trouble and "the defaults hold" in found.trouble and not found.read_only


def test_a_broken_config_file_that_protects_clusters_opens_read_only(tmp_path: Path) -> None:
    config = tmp_path / "console.yaml"
    config.write_text("read_only: true\nzoom: [")
    assert preferences.load_or_default(config).read_only
    config.unlink()
    config.mkdir()
    assert (
        preferences.load_or_default(config).read_only and "is a folder" in preferences.load_or_default(config).trouble
    )


@pytest.mark.parametrize("text", ["!!int x", "2001-02-30x: [", "[" * 3000, "!!python/object:os.x {}", "1:" * 50_000])
def test_a_typed_value_is_read_or_refused_in_our_words(text: str) -> None:
    for read_value in (value_of, lambda value: read_send(f"header {value}")):
        try:
            read_value(text)
        except CommandRefused as error:
            assert len(error.message) < 600
