"""`self.data` and `red-console data`: sources, parts of nodes, and what cannot be had."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import red_tui as red
from red_tui import data
from red_tui.cli.data_map import drawn
from red_tui.cli.main import main
from red_tui.data.data_files import read_columns
from red_tui.data.source import forget_sources, labels_of
from red_tui.errors import LayoutError
from red_tui.federation.schemas import spec_of
from red_tui.layout import loads
from red_tui.layout.rules import PARTITIONS

X, Y = np.arange(40.0).reshape(20, 2), np.repeat([0, 1], 10)
opened = 0


class Pairs:
    """A data set as torch has it."""

    targets = Y.tolist()

    def __len__(self) -> int:
        return len(Y)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return X[index], int(Y[index])


def columns(scale: float = 1.0) -> Any:
    global opened
    opened += 1
    return {"x": X * scale, "label": Y}


def pair() -> Any:
    return X, Y


def pairs() -> Any:
    return Pairs()


def bare() -> Any:
    return X


class Slice(list[Any]):
    """As torch's `Subset` has it."""

    dataset, indices = Pairs(), [3, 15]


class Joined(list[Any]):
    """As torch's `ConcatDataset` has it."""

    datasets = (Pairs(), Pairs())


class Tensors(list[Any]):
    """As torch's `TensorDataset` has it."""

    tensors = (X, Y)


class Mislabelled(Pairs):
    targets = (0, 1, 0)


class Endless:
    def __getitem__(self, index: int) -> Any:
        return index


def mislabelled() -> Any:
    return Mislabelled()


def endless() -> Any:
    return Endless()


def ragged() -> Any:
    return {"x": [[1, 2], [3]], "label": [0, 1]}


def uneven() -> Any:
    return {"x": X, "label": [0, 1, 0]}


def single() -> Any:
    return {"x": X, "scale": 0.5}


def no_array() -> Any:
    return {}


def lists() -> Any:
    return X.tolist(), [str(label) for label in Y]


def grid() -> Any:
    """The last array is no label: two targets an example."""
    return X, np.stack([Y, Y], axis=1)


def nothing() -> Any:
    return 5


def raises() -> Any:
    raise OSError("the disk is gone")


@pytest.fixture(autouse=True)
def nothing_is_open() -> Iterator[None]:
    global opened
    opened = 0
    forget_sources()
    yield
    forget_sources()


def node(source: str, place: int = 1, num_nodes: int = 4, **more: Any) -> red.FederatedNode:
    told = {"source": source if ":" not in source else f"{__name__}{source}", **more.pop("told", {})}
    config = red.FederationConfig(data=told, node_index=place, num_nodes=num_nodes, **more)
    return red.FederatedNode(f"client_{place}", "train", config)


def test_nodes_have_the_parts_of_one_data_set_that_is_opened_once() -> None:
    told = {"partition": {"name": "dirichlet", "alpha": 0.5, "seed": 3}, "options": {"scale": 2.0}}
    nodes = [node(":columns", place, told=told) for place in range(4)]
    rule = data.Dirichlet(alpha=0.5, seed=3)
    for place, one in enumerate(nodes):
        mine = rule.indices(Y, 4, place)
        assert one.data["x"].tolist() == (X * 2)[mine].tolist() and one.data["label"].tolist() == Y[mine].tolist()
    assert sum(len(one.data["x"]) for one in nodes) == 20 and opened == 1


def test_a_part_has_the_shape_that_its_source_gives() -> None:
    mine = data.IID().indices(20, 4, 1)
    x, y = node(":pair").data
    assert x.tolist() == X[mine].tolist() and y.tolist() == Y[mine].tolist()
    assert node(":bare").data.tolist() == X[mine].tolist()
    examples = node(":pairs").data
    assert isinstance(examples, data.Examples) and len(examples) == 5
    assert [label for _, label in examples] == Y[mine].tolist() and examples[1:][0][1] == Y[mine[1]]
    by_label = node(":pairs", told={"partition": {"name": "pathological", "classes": 1}}).data
    assert len({label for _, label in by_label}) == 1


def test_a_part_of_its_own_and_parts_for_later_nodes() -> None:
    assert node(":bare", 0, part=3).data.tolist() == X[data.IID().indices(20, 4, 3)].tolist()
    assert node(":bare", 7, told={"parts": 10}).data.tolist() == X[data.IID().indices(20, 10, 7)].tolist()


def test_files_beside_the_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("all.npz", x=X, label=Y)
    (tmp_path / "all.csv").write_text("x,label,town\n" + "".join(f"{n / 2},{n % 3},ulm\n" for n in range(8)))
    assert set(node("all.npz").data) == {"x", "label"}
    mine = node("all.csv", 0, 2, told={"partition": {"name": "shards", "per_part": 1}}).data
    assert (mine["x"].dtype, mine["label"].dtype, mine["town"].dtype.kind) == (np.float64, np.int64, "U")
    (tmp_path / "bad.csv").write_text("x,label\n1\n")
    with pytest.raises(data.DataError, match=r"bad.csv, line 2: 1 fields, and the first line names 2"):
        assert node("bad.csv").data


def test_lines_of_csv_that_are_no_examples_and_fields_that_are_empty(tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    path.write_bytes(b"\xef\xbb\xbfx,label,note\r\n1,a,\r\n\r\n,b,\r\n99999999999999999999,c,\r\n")
    columns = read_columns(path)
    assert list(columns) == ["x", "label", "note"] and columns["label"].tolist() == ["a", "b", "c"]
    assert columns["x"][0] == 1.0 and np.isnan(columns["x"][1]) and columns["x"][2] == 1e20
    assert columns["note"].tolist() == ["", "", ""]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", b"", "it is empty: its first line must name the columns"),
        ("a.csv", b"x,x\n1,2\n", "line 1 names the column 'x' more than once"),
        ("a.csv", b"x,y\n1,2\n\n1,2,3\n", r"a.csv, line 4: 3 fields, and the first line names 2"),
        ("a.csv", b"x\n\xff\n", "a.csv cannot be read as data: 'utf-8' codec"),
        ("a.npz", b"", "a.npz cannot be read as data"),
        ("a.npz", b"PK\x03\x04 and no more", "a.npz cannot be read as data"),
        ("a.npz", b"neither", "a.npz cannot be read as data"),
    ],
)
def test_a_file_that_is_damaged_says_where(name: str, content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(data.DataError, match=says):
        read_columns(tmp_path / name)


def test_a_single_array_in_a_file_needs_a_name(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", Y)
    (tmp_path / "a.npy").rename(tmp_path / "a.npz")
    with pytest.raises(data.DataError, match=r"write it with np.savez and a name"):
        read_columns(tmp_path / "a.npz")


def test_without_pyarrow_parquet_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(data.DataError, match=r"Parquet needs pyarrow, .*: pip install 'red-tui\[data\]'"):
        read_columns(tmp_path / "a.parquet")


def test_labels_of_data_sets_that_are_made_of_others() -> None:
    assert labels_of(Slice([1, 2])).tolist() == [0, 1]
    assert labels_of(Joined(range(40))).tolist() == [*Y.tolist(), *Y.tolist()]
    assert labels_of(Tensors(range(20))).tolist() == Y.tolist()


def test_lists_become_arrays_and_targets_may_have_dimensions() -> None:
    x, y = node(":lists", told={"partition": {"name": "pathological", "classes": 1}}, num_nodes=2, place=0).data
    assert x.shape == (10, 2) and len(set(y.tolist())) == 1
    assert node(":grid").data[1].shape == (5, 2)
    with pytest.raises(data.PartitionError, match=r"in one dimension, not of shape \(20, 2\)"):
        assert node(":grid", told={"partition": {"name": "shards"}}).data


def test_a_rule_by_label_needs_labels() -> None:
    with pytest.raises(data.DataError, match=r"gives ndarray without labels, and dirichlet looks at the label of each"):
        assert node(":bare", told={"partition": {"name": "dirichlet"}}).data
    with pytest.raises(data.DataError, match=r"without labels, and natural-id looks at the town of each"):
        assert node(":bare", told={"partition": {"name": "natural-id", "column": "town"}}).data
    with pytest.raises(data.PartitionError, match=r"there is no column 'digit': there are x, label"):
        assert node(":columns", told={"partition": {"name": "dirichlet", "by": "digit"}}).data


def test_a_data_set_is_dealt_out_once_for_all_nodes_of_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    split = data.Dirichlet.split
    monkeypatch.setattr(data.Dirichlet, "split", lambda self, *given: asked.append(1) or split(self, *given))
    for place in range(4):
        assert len(node(":columns", place, told={"partition": {"name": "dirichlet"}}).data["x"])
    assert len(asked) == 1 and opened == 1


def test_threads_open_a_data_set_once() -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda place: node(":columns", place).data, [place % 4 for place in range(32)]))
    assert opened == 1


def test_a_template_may_have_data_of_its_own() -> None:
    class Own(red.FederatedNode):
        def build(self, **kwargs: Any) -> None:
            self.data = [1, 2]

    one = Own("a", "train", red.FederationConfig(data="/a/path"))
    assert getattr(one, "data", None) is None, "a key of the config that happens to be called so"
    one.build()
    assert one.data == [1, 2] and isinstance(red.FederatedNode.data, object)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (":nothing", "gives int, which cannot be dealt out"),
        (":raises", "raised OSError: the disk is gone"),
        (":nobody", "has no nobody"),
        ("nowhere:x", "No module named 'nowhere'; the module must lie beside the layout"),
        ("words", "'words' is no source of data: write module:function, or a file"),
        ("gone.npz", r"there is no file gone.npz on .*: put it beside the layout, from where it travels"),
        ("words.pkl", r"a file that ends in .npz or .csv or .parquet"),
        (":ragged", "'x' cannot become an array"),
        (":uneven", "its arrays have different lengths: 'x' 20, 'label' 3"),
        (":single", "'scale' has no length: it must be an array with a value for each example"),
        (":no_array", "gives no array"),
        (":endless", "Endless has no length"),
        (":mislabelled", "Mislabelled has 3 labels for 20 examples"),
    ],
)
def test_data_that_cannot_be_had_say_so(source: str, says: str) -> None:
    made = node(source) if not source.startswith("nowhere") else node("words")
    if source.startswith("nowhere"):
        made.config = made.config.updated(data={"source": source})
    with pytest.raises(data.DataError, match=says):
        assert made.data


def test_a_node_beyond_the_parts_and_a_federation_without_data_say_so() -> None:
    with pytest.raises(data.DataError, match=r"node 'client_4' would have part 4, and there are 4 parts"):
        assert node(":bare", 4).data
    with pytest.raises(AttributeError, match=r"node 'a' has no data: write data: \{source"):
        assert red.FederatedNode("a", "train", red.FederationConfig()).data
    with pytest.raises(data.PartitionError, match="20 examples cannot give 30 parts"):
        assert node(":bare", 0, 30).data


# -- layouts and the verb ------------------------------------------------------------------------

LAYOUT = """\
federation: dealt
template: red_tui.examples.digits:DigitsClient
nodes:
  - {{count: 4, role: train}}
data: {}
"""


def test_what_a_layout_says_reaches_each_node() -> None:
    text = LAYOUT.format("{source: 'm:f', partition: {name: dirichlet, alpha: 0.3, by: digit}}")
    _, spec = spec_of(loads(text))
    assert spec.config.get("data") == {"source": "m:f", "partition": {"name": "dirichlet", "alpha": 0.3, "by": "digit"}}
    assert data.DataRule.of(spec.config.get("data")).partition == data.Dirichlet(alpha=0.3, by="digit")
    assert loads(loads(text).to_yaml()) == loads(text)


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ("{source: 'm:f', partition: {name: dirichlit}}", "did you mean dirichlet"),
        ("{source: 'm:f', partition: {name: dirichlet, beta: 1}}", "'beta' is not an option of dirichlet"),
        ("{source: 'm:f', partition: {name: dirichlet, alpha: -1}}", "alpha must be a finite number above 0, not -1"),
        ("{partition: {name: iid}}", "source"),
        ("{source: 'm:f', parts: 3}", "3 parts for 4 nodes"),
        ("{source: 'm:f'}\nconfig: {data: x}", "data is said twice: leave it out of config"),
    ],
)
def test_a_layout_that_deals_out_nonsense_is_refused_with_its_place(told: str, says: str) -> None:
    with pytest.raises(LayoutError, match=says):
        loads(LAYOUT.format(told))


def test_layouts_know_the_rules_and_options_that_there_are() -> None:
    for name, rule in data.partition.RULES.items():
        assert set(PARTITIONS[name]) == {known.name for known in fields(rule)}
    assert set(PARTITIONS) == set(data.partition.RULES)


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    (tmp_path / "dealt_points.py").write_text(
        "import numpy as np\ndef points():\n    return {'x': np.zeros(60), 'label': np.repeat(['even', 'odd'], 30)}\n"
    )
    path = tmp_path / "dealt.yaml"
    path.write_text(LAYOUT.format("{source: 'dealt_points:points', partition: {name: shards, per_part: 1}}"))
    return path


def test_the_verb_draws_labels_and_parts(layout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", str(layout), "--ascii"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "60 examples in 4 parts of 15 to 15 (median 15)"
    assert lines[2].split() == ["part", "size", "even", "odd", "apart"]
    assert sorted(line[11:20] for line in lines[3:7]) == ["     ####", "     ####", "####     ", "####     "]
    assert lines[3].endswith("0.54")


def test_the_verb_gives_figures(layout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", str(layout), "--parts", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["parts"], told["sizes"], told["labels"]) == (2, [30, 30], ["even", "odd"])
    assert sorted(told["table"]) == [[0, 30], [30, 0]]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["digits"], 1, "says nothing of data"),
        (["LAYOUT", "--parts", "0"], 2, "--parts must be at least 1, not 0"),
        (["LAYOUT", "--parts", "100000"], 1, "100,000 parts are more than are counted here"),
        (["LAYOUT", "--parts", "61"], 2, "60 examples cannot give 61 parts"),
        (["LAYOUT", "--working-dir", "/nowhere"], 2, "--working-dir /nowhere is no folder"),
    ],
)
def test_the_verb_says_what_is_wrong(
    words: list[str], code: int, says: str, layout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", *(str(layout) if word == "LAYOUT" else word for word in words)]) == code
    assert says in " ".join(capsys.readouterr().err.split())


def test_a_map_fits_its_terminal_and_says_what_it_leaves_out() -> None:
    found = data.describe(data.IID(), np.arange(3000) % 30, 60)
    lines = list(drawn(found, 80, ascii_only=False))
    assert max(map(len, lines[2:])) <= 80
    assert lines[-2] == "and 20 more parts" and lines[-1].startswith("and 15 labels with fewer examples")
