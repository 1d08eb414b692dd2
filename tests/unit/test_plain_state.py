"""What a server of one's own keeps is plain data in a checkpoint: it comes back equal, and nothing is unpickled."""

from __future__ import annotations

import json
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, strategies as st

from red_tui.checkpoints.plain_state import TREE, from_joined_arrays, from_plain_arrays, joined_arrays, plain_arrays

LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary(max_size=20)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.one_of(st.text(), st.integers()), inner, max_size=4),
    ),
    max_leaves=20,
)


@given(VALUES)
def test_plain_data_come_back_equal(value: Any) -> None:
    arrays = plain_arrays(value)
    assert all(isinstance(array, np.ndarray) for array in arrays.values())
    back = from_plain_arrays(arrays)
    assert back == value and type(back) is type(value)


def test_arrays_and_numbers_of_numpy_come_back_as_they_were() -> None:
    value = {"m": [np.arange(6, dtype=np.float32).reshape(2, 3)], "n": np.float64(0.1), "flags": np.asarray([True])}
    back = from_plain_arrays(plain_arrays(value))
    assert back["m"][0].tobytes() == value["m"][0].tobytes() and back["m"][0].shape == (2, 3)
    assert type(back["n"]) is np.float64 and back["n"] == 0.1 and back["flags"].dtype == bool


@pytest.mark.parametrize("kind", [np.random.PCG64, np.random.Philox, np.random.SFC64, np.random.MT19937])
def test_a_generator_goes_on_where_it_was(kind: Any) -> None:
    generator = np.random.Generator(kind(7))
    generator.random(5, dtype=np.float32)
    back = from_plain_arrays(plain_arrays({"rng": generator}))["rng"]
    assert back.random(9).tolist() == generator.random(9).tolist()


class Own:
    pass


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (Own(), "Own"),
        ({"a": [1, {2, 3}]}, r"set at \['a'\]\[1\]"),
        ({"a": np.asarray([Own()])}, r"an array of object at \['a'\]"),
        ({(1, 2): 3}, "dict"),
    ],
)
def test_what_is_not_plain_is_named_with_its_place(value: Any, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        plain_arrays(value)
    deep: Any = 1
    for _ in range(60):
        deep = [deep]
    with pytest.raises(TypeError, match="nested deeper than 50 levels"):
        plain_arrays(deep)


@pytest.mark.parametrize(
    "tree",
    [
        '{"array": 7, "number": false}',
        '{"set": [1]}',
        '{"dict": [1]}',
        "[",
        '{"list": 5}',
        '{"generator": {"dict": [["bit_generator", "os"]]}}',
    ],
)
def test_a_file_that_was_changed_gives_an_error_and_runs_nothing(tree: str) -> None:
    with pytest.raises(ValueError):
        from_plain_arrays({TREE: np.frombuffer(tree.encode(), dtype=np.uint8)})
    assert json.dumps(from_plain_arrays(plain_arrays([1]))) == "[1]"


@given(VALUES)
def test_plain_data_come_back_equal_from_joined_arrays(value: Any) -> None:
    back = from_joined_arrays(joined_arrays(value))
    assert back == value and type(back) is type(value)
    assert from_joined_arrays(plain_arrays(value)) == value, "as files of before have them"


def test_joined_arrays_are_as_few_as_their_types_and_come_back_as_they_were() -> None:
    value = {
        f"n{index}": {
            "w": np.arange(6, dtype=np.float32).reshape(2, 3) + index,
            "b": np.asarray([1.5, -0.0]).astype(ml_dtypes.bfloat16),
            "turned": np.arange(6.0).reshape(2, 3).T,
            "big": np.arange(3, dtype=">i4") + index,
            "none": np.zeros((0, 4), dtype=np.float32),
            "count": np.int64(index),
        }
        for index in range(20)
    }
    arrays = joined_arrays(value)
    assert set(arrays) == {TREE, "places", "all_float32", "all_bfloat16", "all_float64", "all_int32", "all_int64"}
    back = from_joined_arrays(arrays)
    for node, state in value.items():
        for name, array in state.items():
            found = back[node][name]
            assert type(found) is type(array) and found.shape == array.shape and found.tolist() == array.tolist()
            assert found.dtype.name == array.dtype.name
    back["n0"]["w"][0, 0] = 99
    assert back["n1"]["w"][0, 0] == 1


@pytest.mark.parametrize(
    "places", [b"[", b"7", b"[7]", b'[["float64", 0, [3]]]', b'[["float32", 0, [9]]]', b'[["float32", -1, [2]]]']
)
def test_joined_arrays_that_make_no_sense_are_refused(places: bytes) -> None:
    arrays = joined_arrays({"a": np.zeros(3, np.float32)})
    with pytest.raises(ValueError):
        from_joined_arrays({**arrays, "places": np.frombuffer(places, dtype=np.uint8)})
