from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, strategies as st

from red_tui.console.text import REPLACEMENT, amount, duration, number, plain, plain_lines, sparkline
from red_tui.console.widgets.lists import wrap

_CATEGORIES_THAT_ACT = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@given(st.text())
def test_plain_text_holds_nothing_that_a_terminal_acts_upon(text: str) -> None:
    assert not {unicodedata.category(sign) for sign in plain(text)} & _CATEGORIES_THAT_ACT


@given(st.text())
def test_plain_text_stays_plain(text: str) -> None:
    assert plain(plain(text)) == plain(text)


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126)))
def test_harmless_text_is_untouched(text: str) -> None:
    assert plain(text) == text


@pytest.mark.parametrize(
    "hostile",
    ["\x1b]52;c;aGk=\x07", "\x1b[31mred", "abc\u202edef", "\u2066x\u2069", "a\x9b31m", "\u200b", "\x7f"],
)
def test_what_was_replaced_is_visible(hostile: str) -> None:
    made = plain(hostile)
    assert REPLACEMENT in made
    assert "\x1b" not in made and "\u202e" not in made and "\x9b" not in made


def test_markup_in_a_text_is_only_text() -> None:
    assert plain("[bold red]x[/]") == "[bold red]x[/]"


def test_a_line_end_does_not_end_the_line() -> None:
    assert plain("a\nb\tc") == "a b c"
    assert plain_lines("a\r\nb\x1b\n") == ["a", f"b{REPLACEMENT}", ""]


def test_a_text_that_never_ends_is_cut() -> None:
    assert len(plain("x" * 1_000_000)) == 100_000


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.31, "0.31 s"),
        (4.0, "4.0 s"),
        (4, "4 s"),
        (59, "59 s"),
        (240, "4 m"),
        (7200, "2 h"),
        (200_000, "2 d"),
        (float("nan"), "-"),
    ],
)
def test_durations_read_as_an_operator_says_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_numbers_that_are_none_do_not_break_a_line() -> None:
    assert (number(None), number(float("nan")), number(float("inf")), number(14.0)) == ("-", "-", "inf", "14")
    assert (amount(8.0), amount(0.4536)) == ("8", "0.45")


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=50), st.integers(1, 30))
def test_a_sparkline_never_exceeds_its_width(values: list[float], width: int) -> None:
    assert len(sparkline(values, width)) <= width


def test_a_sparkline_goes_from_low_to_high() -> None:
    assert sparkline([0, 1, 2, 7], 8) == "▁▂▃█"
    assert sparkline([1, 1], 8, ascii_only=True).isascii()


@given(st.text(alphabet=st.sampled_from("ab 中"), max_size=80), st.integers(2, 20))
def test_wrapped_lines_fit_and_lose_nothing(text: str, width: int) -> None:
    from rich.cells import cell_len

    lines = wrap(text, width)
    assert all(cell_len(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
