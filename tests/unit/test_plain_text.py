"""What is plain: nothing acts on a terminal, and everybody agrees how wide it is."""

from __future__ import annotations

import unicodedata

import wcwidth
from hypothesis import given, strategies as st
from rich.cells import cell_len

from red_tui.plain_text import MAX_MARKS, plain, plain_lines, pointed_at

ACTS = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def test_each_sign_is_as_wide_for_the_screen_as_for_the_terminal() -> None:
    for number in range(0x110000):
        text = plain(f"a{chr(number)}b")
        assert not {sign for sign in text if unicodedata.category(sign) in ACTS}, hex(number)
        assert cell_len(text) == wcwidth.wcswidth(text), hex(number)


@given(st.text(max_size=60))
def test_plain_text_is_plain_already(text: str) -> None:
    once = plain(text)
    assert plain(once) == once
    assert not {sign for sign in once if unicodedata.category(sign) in ACTS}
    assert all(plain(line) == line for line in plain_lines(text))


def test_accents_are_kept_and_storms_of_them_are_not() -> None:
    assert plain("Zo\u0308e, a\u0302\u0301") == "Zo\u0308e, a\u0302\u0301"
    assert plain("Z" + "\u0335" * 1000 + "a") == "Z" + "\u0335" * MAX_MARKS + "a"
    assert plain("\u0301\u0301x") == "\ufffdx"  # nothing to stand upon: it would go to the frame of a panel
    assert plain("e\ufe0f" * 3) == "eee"


def test_a_long_query_is_shown_around_the_place() -> None:
    assert pointed_at("role:trian", 5) == ("role:trian", "     ^")
    shown, sign = pointed_at("a" * 90_000 + "!" + "b" * 9000, 90_000)
    assert len(shown) == 100 and shown[sign.index("^")] == "!"
