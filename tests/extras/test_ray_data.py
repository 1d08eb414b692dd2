"""Data sets of Ray Data and Parquet files: dealt out by column or rule, read where they lie, lazily."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

import red_tui as red
from red_tui import data

pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed: `make test-extras` installs it")
pytest.importorskip("pandas", reason="pandas is not installed: `make test-extras` installs it")

import ray.data  # noqa: E402
from pyarrow import parquet  # noqa: E402

from red_tui.data.source import forget_sources  # noqa: E402
from tests.extras import ray_nodes  # noqa: E402

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def rows() -> Iterator[Any]:
    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        yield ray_nodes.rows()
    finally:
        ray.shutdown()


def ids_of(part: data.RayPart) -> list[int]:
    return sorted(int(row["id"]) for row in part)


def test_owners_keep_their_rows_together(rows: Any) -> None:
    parts = data.from_ray(rows, data.NaturalId(column="writer"))
    told = ray_nodes.columns()
    found = [ids_of(parts.part(ray_nodes.OWNERS, part)) for part in (0, 5)]
    for part, ids in zip((0, 5), found, strict=True):
        assert ids == sorted(told["id"][told["writer"] == f"writer {part}"].tolist())
    with pytest.raises(data.PartitionError, match="has 6 different owners, too few for 7 parts"):
        parts.part(7, 0)


def test_a_rule_deals_rows_out_as_it_does_arrays(rows: Any) -> None:
    rule = data.Dirichlet(alpha=0.5, seed=2)
    parts, told = data.from_ray(rows, rule, key="id"), ray_nodes.columns()
    by_id = told["label"][np.argsort(told["id"])]
    for part in (0, 2):
        # The rows in the order of their keys are the examples.
        assert ids_of(parts.part(3, part)) == rule.indices(by_id, 3, part).tolist()
    assert data.describe(rule, parts.labels(), 3).table.tolist() == data.describe(rule, by_id, 3).table.tolist()


def test_a_part_comes_in_batches(rows: Any) -> None:
    part = data.from_ray(rows, data.IID(), key="id").part(2, 1)
    sizes = [len(batch["id"]) for batch in part.iter_batches(batch_size=7)]
    assert sizes == [7, 7, 7, 7, 2] and part.count() == 30


@pytest.mark.parametrize(
    ("rule", "key", "says"),
    [
        (data.IID(), None, r"Ray Data reads rows in any order: name a column .* from_ray\(dataset, partition, key=…\)"),
        (data.IID(), "nobody", "has no column 'nobody': it has id, x, label, writer"),
        (data.IID(), "label", "column 'label' does not tell rows apart: 0 is in more than one of the 60 rows"),
        (data.IID(), "x", r"column 'x' has the shape \(2,\) a row"),
        (data.NaturalId(column="town"), None, "has no column 'town'"),
        (data.Shards(by="digit"), "id", "has no column 'digit'"),
        (None, "id", "no rule deals this data set of Ray Data out"),
    ],
)
def test_what_cannot_be_dealt_out_says_why(rule: Any, key: Any, says: str, rows: Any) -> None:
    with pytest.raises(data.DataError, match=says):
        data.from_ray(rows, rule, key=key).part(2, 0)


def with_gaps(values: list[Any]) -> Any:
    """A data set in two blocks, with nulls in one of its columns."""
    whole = pyarrow.table({"id": list(range(len(values))), "given": values})
    half = len(values) // 2
    return ray.data.from_arrow([whole.slice(0, half), whole.slice(half)])


@pytest.mark.parametrize(
    "values",
    [
        [1, 2, 3, None, 5, None],
        [1.0, 2.0, 3.0, None, float("nan"), 6.0],
        ["a", "b", "c", None, None, "d"],
        [None, None, "c", "a", "b", "d"],
    ],
    ids=["whole numbers", "numbers", "text", "one block"],
)
def test_rows_without_a_key_or_an_owner_are_refused_and_not_lost(values: list[Any], rows: Any) -> None:
    gaps = with_gaps(values)
    says = "column 'given' has no value in 2 of 6 rows, and nobody could be given them: leave them out"
    for parts in (data.from_ray(gaps, data.NaturalId(column="given")), data.from_ray(gaps, data.IID(), key="given")):
        for ask in (lambda parts=parts: parts.part(2, 0), lambda parts=parts: parts.labels()):
            with pytest.raises(data.DataError, match=says):
                ask()
    kept = gaps.filter(lambda row: row["given"] is not None and row["given"] == row["given"])
    parts = data.from_ray(kept, data.NaturalId(column="given"))
    assert sorted(ids_of(parts.part(2, 0)) + ids_of(parts.part(2, 1))) == [
        place for place, value in enumerate(values) if value is not None and value == value
    ]
    # Of what a rule looks at, and what nobody looks at, values may be missing.
    whole = data.from_ray(gaps, data.IID(), key="id")
    assert sorted(ids_of(whole.part(2, 0)) + ids_of(whole.part(2, 1))) == list(range(6))


def test_only_data_sets_of_ray_data_are_taken() -> None:
    with pytest.raises(data.DataError, match=r"from_ray takes a ray.data.Dataset, not dict"):
        data.from_ray({})


@pytest.mark.parametrize("told", ["source", "config"])
def test_nodes_of_bundles_read_their_parts(told: str, rows: Any) -> None:
    given = (
        {"source": "tests.extras.ray_nodes:by_writer"}
        if told == "source"
        else data.from_ray(rows, data.NaturalId(column="writer"))
    )
    with red.StarFederatedLearningSchema(
        ray_nodes.Reader,
        ["train"] * 3,
        {"federation_id": f"read-{told}", "data": given},
        isolation="bundle",
        resources=red.get_resources_split(2, 1),
    ) as federation:
        federation.run(1)
        result = federation.history[-1]
        assert not result.failed and result.train_metrics == {"most": 8.0, "writers": 2.0}
        # Each of three nodes read a third of the rows once.
        assert np.allclose(federation.parameters()["seen"], 1 / 3)


def test_parquet_is_a_source_of_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    forget_sources()
    x, label = np.arange(6.0), np.asarray(list("aabbcc"))
    table = {"x": x, "pixels": list(np.arange(12).reshape(6, 2)), "label": label, "gaps": [1, None, 3, 4, 5, 6]}
    parquet.write_table(pyarrow.table(table), "all.parquet")
    config = {"source": "all.parquet", "partition": {"name": "pathological", "classes": 1}}
    parts = []
    for place in range(3):
        node = red.FederatedNode("a", "train", red.FederationConfig(data=config, node_index=place, num_nodes=3))
        parts.append(node.data)
        assert node.data["pixels"].shape == (2, 2) and node.data["label"].dtype.kind == "U"
    assert sorted(value for part in parts for value in part["x"]) == x.tolist()
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(data.DataError, match=r"bad.parquet cannot be read as data"):
        data.DataRule("bad.parquet").opened()


def test_tables_that_a_function_gives_become_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    import pandas

    forget_sources()
    columns = {"x": np.arange(4.0), "label": np.asarray([0, 1, 0, 1])}
    for name, made in (("frame", pandas.DataFrame(columns)), ("table", pyarrow.table(columns))):
        monkeypatch.setattr(ray_nodes, name, lambda made=made: made, raising=False)
        whole = data.DataRule(f"tests.extras.ray_nodes:{name}").opened()
        assert {key: value.tolist() for key, value in whole.items()} == {
            key: value.tolist() for key, value in columns.items()
        }


def test_the_package_imports_neither_ray_data_nor_pandas() -> None:
    code = (
        "import sys, red_tui, red_tui.data; red_tui.StarFederatedLearningSchema; red_tui.data.from_ray; "
        "print([name for name in ('ray.data', 'pandas', 'pyarrow', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=150)
    assert done.stdout.strip() == "[]"
