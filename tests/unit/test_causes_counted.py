"""Why a round failed, each cause once."""

from __future__ import annotations

from red_tui.protocol.figures import causes_text


def test_equal_causes_are_told_once_with_their_number() -> None:
    failures = {"a": "ValueError: bad", **{f"client_{i}": "out of memory" for i in range(40)}}
    assert causes_text(failures) == "40 nodes (client_0, …): out of memory; a: ValueError: bad"


def test_many_causes_are_cut_and_counted() -> None:
    assert causes_text({str(i): f"cause {i}" for i in range(5)}).endswith("2: cause 2; and 2 other causes")
    assert causes_text({}) == ""
