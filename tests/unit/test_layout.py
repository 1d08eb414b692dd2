"""Layouts: what they may say, and that every refusal points at its place."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, strategies as st

from red_tui.errors import LayoutError
from red_tui.journal.limits import ROWS_LIMIT
from red_tui.layout import Layout, load, loads
from red_tui.layout.rules import MAX_NODES
from red_tui.nodes.ids import IdSpace

GOOD = """\
# Eight clients on paper

# yaml-language-server: $schema=layout.schema.json
federation: digits
schema: star
template: red_tui.nodes.template:FederatedNode
nodes:
  - {count: 6, role: train, id: "client_{i}"}
  - {count: 2, role: train-eval, id: "judge_{i}", config: {partition: iid}}
placement: {isolation: process, split: uniform, strategy: PACK, cpus: 4, gpus: 0, bundles: 8}
rounds: {strategy: {name: fedavg}, count: 20, fraction: 1.0, deadline: 60, min_results: 0.5, seed: 7}
failure: {policy: rebuild, max_rebuilds: 3}
config: {learning_rate: 0.3, local_epochs: 2}
"""


def refusal(text: str) -> LayoutError:
    with pytest.raises(LayoutError) as refused:
        loads(text, "x.yaml")
    return refused.value


FAILURE = "failure: {policy: rebuild, max_rebuilds: 3}"
JUDGES = 'count: 2, role: train-eval, id: "judge_{i}"'


def changed(old: str, new: str) -> str:
    assert GOOD.count(old) == 1, old
    return GOOD.replace(old, new)


# -- what a good one gives -----------------------------------------------------------------------


def test_nodes_come_in_row_order_with_their_config() -> None:
    layout = loads(GOOD)
    assert layout.num_nodes == 8
    groups = layout.node_groups()
    assert list(IdSpace(segment for segment, _, _, _ in groups)) == [f"client_{i}" for i in range(6)] + [
        "judge_0",
        "judge_1",
    ]
    assert [(role, group) for _, role, group, _ in groups] == [("train", 0), ("train-eval", 1)]
    assert groups[1].config == {"learning_rate": 0.3, "local_epochs": 2, "partition": "iid"}


def test_title_is_the_first_comment_line_and_not_the_one_for_editors() -> None:
    assert loads(GOOD).title == "Eight clients on paper"
    assert loads("# yaml-language-server: $schema=x\n" + GOOD).title == "Eight clients on paper"
    assert loads(GOOD.replace("# Eight", "title: Nine # ")).title == "Nine"
    assert loads(GOOD.split("\n", 3)[3] + "# late").title == ""


def test_groups_that_write_one_pattern_count_on() -> None:
    layout = loads(changed(', id: "judge_{i}"', ""))
    assert [segment[0] for segment, *_ in layout.node_groups()] == ["client_0", "client_6"]


def test_a_million_nodes_are_checked_at_once() -> None:
    layout = loads(changed("count: 6", "count: 1000000"))
    assert layout.num_nodes == 1_000_002
    assert len(layout.node_groups()[0].segment) == 1_000_000


def test_twenty_million_nodes_are_a_layout_and_more_than_a_journal_names_are_not() -> None:
    assert loads(changed("count: 6", "count: 20000000")).num_nodes == 20_000_002
    assert MAX_NODES < ROWS_LIMIT
    with pytest.raises(LayoutError, match="must be at most 50,000,000, not 50000001"):
        loads(changed("count: 6", "count: 50000001"))


def test_what_is_left_out_has_defaults() -> None:
    layout = loads("federation: a\ntemplate: m:C\nnodes: [{count: 1, role: train}]")
    assert (layout.schema_name, layout.server, layout.title) == ("star", None, "")
    assert (layout.placement.cpus, layout.placement.gpus, layout.placement.bundles) == (None, 0.0, None)
    assert (layout.placement.concurrency, layout.rounds.evaluate_every, layout.rounds.strategy.name) == (1, 1, "fedavg")
    assert layout.placement.num_bundles(layout.num_nodes) == 1


def test_bundles_may_be_listed() -> None:
    layout = loads(changed("bundles: 8", "bundles: [{count: 2, cpu: 2, gpu: 0.5, resources: {fpga: 1}}, {cpu: 1}]"))
    assert isinstance(layout.placement.bundles, list)
    assert layout.placement.bundles[0].resources == {"fpga": 1.0}
    assert layout.placement.num_bundles(8) == 3


def test_further_roles_are_known_when_declared() -> None:
    layout = loads(changed("role: train,", "role: train-relay,") + "roles: [relay]\n")
    assert layout.nodes[0].role == "train-relay"


def test_min_results_tells_a_fraction_from_a_count() -> None:
    assert isinstance(loads(changed("min_results: 0.5", "min_results: 1.0")).rounds.min_results, float)
    assert isinstance(loads(changed("min_results: 0.5", "min_results: 1")).rounds.min_results, int)


def test_numbers_with_exponents_are_numbers() -> None:
    layout = loads(changed("learning_rate: 0.3", "learning_rate: 1e-3, text: '1e-3'"))
    assert layout.config["learning_rate"] == 0.001
    assert layout.config["text"] == "1e-3"


def test_anchors_and_merge_keys_are_written_out() -> None:
    text = (
        changed("config: {partition: iid}", "config: {<<: &iid {partition: iid, alpha: 2}, alpha: 1}") + "roles: []\n"
    )
    assert loads(text).nodes[1].config == {"partition": "iid", "alpha": 1}
    again = loads(text.replace("config: {learning_rate", "config: {deep: *iid, learning_rate"))
    assert again.config["deep"] == {"partition": "iid", "alpha": 2}


def test_dates_in_a_config_stay_text() -> None:
    assert loads(changed("learning_rate: 0.3", "since: 2024-01-01")).config["since"] == "2024-01-01"


def test_positions_are_known_afterwards() -> None:
    assert loads(GOOD).position("nodes[1].role") == (9, 22)
    assert loads(GOOD).position("nothing") is None


def test_a_layout_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        loads(GOOD).federation = "other"  # type: ignore[misc]


# -- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "place", "field", "said"),
    [
        # unknown and missing keys
        ("schema: star", "shcema: star", (5, 1), "shcema", "did you mean schema?"),
        ("max_rebuilds: 3", "max_rebuild: 3", (12, 28), "failure.max_rebuild", "did you mean max_rebuilds?"),
        ("count: 6,", "counts: 6,", (8, 5), "nodes[0].count", "is missing"),
        ("bundles: 8", "bundles: [{cpus: 1}]", (10, 94), "placement.bundles[0].cpus", "did you mean cpu?"),
        ("federation: digits\n", "", (4, 1), "federation", "is missing"),
        ("role: train, ", "", (8, 5), "nodes[0].role", "is missing"),
        ("name: fedavg", "name: fedavg, mu: 1", (11, 35), "rounds.strategy.mu", "none is allowed"),
        # duplicate keys and keys that are no text
        ("schema: star", "schema: star\nschema: star", (6, 1), "schema", "stands twice; the first is in line 5"),
        ("learning_rate: 0.3", "a: {b: 1, b: 2}", (13, 20), "config.a.b", "stands twice"),
        ("learning_rate: 0.3", "on: 1", (13, 10), "config.on", "on reads as true or false: put it in quotes"),
        ("learning_rate: 0.3", "3: 1", (13, 10), "config.3", "put it in quotes"),
        ("learning_rate: 0.3", "[a]: 1", (13, 10), None, "a key must be text"),
        # words that are not allowed
        ("split: uniform", "split: unifrom", (10, 40), "placement.split", "did you mean uniform?"),
        ("strategy: PACK", "strategy: pack", (10, 59), "placement.strategy", "STRICT_SPREAD"),
        ("isolation: process", "isolation: thread", (10, 24), "placement.isolation", "process, bundle"),
        ("policy: rebuild", "policy: retry", (12, 19), "failure.policy", "rebuild, leave"),
        ("name: fedavg", "name: fedvag", (11, 27), "rounds.strategy.name", "did you mean fedavg?"),
        ("role: train,", "role: trian,", (8, 22), "nodes[0].role", "did you mean train?"),
        ("role: train,", "role: train-evl,", (8, 22), "nodes[0].role", "did you mean eval?"),
        ("role: train,", "role: server,", (8, 22), "nodes[0].role", "the federation adds itself"),
        ("role: train,", "role: tr ain,", (8, 22), "nodes[0].role", "is not a role"),
        ("schema: star", "schema: hierarchical", (5, 9), "schema", "needs levels or groups: write topology: {levels"),
        ("schema: star", "aggregator: 'a:B'", (5, 13), "aggregator", "the schema star has no aggregators"),
        ("role: train,", "role: aggregator,", (8, 22), "nodes[0].role", "which the federation adds itself"),
        ("schema: star", "schema: stra", (5, 9), "schema", "did you mean star?"),
        ("template: red_tui.nodes.template:FederatedNode", "template: a.py", (6, 11), "template", "module:Class"),
        # wrong types and the traps of YAML 1.1
        ("count: 6,", "count: '6',", (8, 13), "nodes[0].count", 'must be a whole number, not text ("6")'),
        ("count: 6,", "count: 6.0,", (8, 13), "nodes[0].count", "must be a whole number"),
        ("count: 6,", "count: yes,", (8, 13), "nodes[0].count", "true or false"),
        ("deadline: 60", "deadline: soon", (11, 72), "rounds.deadline", "must be a number, not text"),
        ("federation: digits", "federation: 12", (4, 13), "federation", 'write "12" in quotes'),
        ("federation: digits", "federation:", (4, 12), "federation", "nothing is written here"),
        ('id: "client_{i}"', "id: on", (8, 33), "nodes[0].id", 'YAML reads on as true or false: write "on" in quotes'),
        ("role: train,", "role: no,", (8, 22), "nodes[0].role", 'write "no" in quotes'),
        ("{name: fedavg}", "fedavg", (11, 20), "rounds.strategy", "must be a mapping, not text"),
        ("bundles: 8", "bundles: many", (10, 92), "placement.bundles", "must be a whole number"),
        ("bundles: 8", "bundles: {count: 1}", (10, 92), "placement.bundles", "not a mapping"),
        ("config: {learning_rate: 0.3, local_epochs: 2}", "config: [1]", (13, 9), "config", "must be a mapping"),
        # numbers out of range
        ("count: 6,", "count: 0,", (8, 13), "nodes[0].count", "must be at least 1, not 0"),
        ("count: 6,", "count: 1000000000000,", (8, 13), "nodes[0].count", "at most"),
        ("fraction: 1.0", "fraction: 1.1", (11, 57), "rounds.fraction", "at most 1"),
        ("deadline: 60", "deadline: .inf", (11, 72), "rounds.deadline", "finite"),
        ("learning_rate: 0.3", "learning_rate: .nan", (13, 25), "config.learning_rate", "finite"),
        ("learning_rate: 0.3", "learning_rate: 1e999", (13, 25), "config.learning_rate", "finite"),
        ("learning_rate: 0.3", f"n: {'9' * 6000}", (13, 13), "config.n", "finite"),
        ("seed: 7", "seed: -1", (11, 100), "rounds.seed", "at least 0"),
        ("min_results: 0.5", "min_results: 1.5", (11, 89), "rounds.min_results", "at most 1.0"),
        ("min_results: 0.5", "min_results: 0", (11, 89), "rounds.min_results", "above 0"),
        ("min_results: 0.5", "min_results: yes", (11, 89), "rounds.min_results", "fraction"),
        ("bundles: 8", "bundles: 0", (10, 92), "placement.bundles", "at least 1"),
        ("bundles: 8", "bundles: []", (10, 92), "placement.bundles", "the list is empty"),
        ("bundles: 8", "bundles: [{cpu: 0}]", (10, 93), "placement.bundles[0]", "must ask for something"),
        # parts that do not fit each other
        ("split: uniform", "split: weighted", (10, 40), "placement.split", "needs weights"),
        ("bundles: 8", "bundles: 8, weights: [1]", (10, 104), "placement.weights", "are for the split weighted"),
        ("split: uniform", "split: weighted, weights: [1]", (10, 59), "placement.weights", "1 weights for 8 bundles"),
        (FAILURE, "topology: {k: 3}", (12, 15), "topology.k", "takes no k"),
        ("learning_rate: 0.3", "federation_id: x", (13, 10), "config.federation_id", "leave it out here"),
        # mailboxes
        (FAILURE, "mailbox: {policy: drop}", (12, 19), "mailbox.policy", "wait, drop-oldest, drop-newest"),
        (FAILURE, "mailbox: {capacity: 0}", (12, 21), "mailbox.capacity", "must be at least 1, not 0"),
        (FAILURE, "mailbox: {timeout: 0}", (12, 20), "mailbox.timeout", "must be above 0, not 0"),
        (FAILURE, "mailbox: {size: 3}", (12, 11), "mailbox.size", "capacity, policy, timeout"),
        # ids
        ("judge_{i}", "client_{i:01d}", (9, 38), "nodes[1].id", "'client_0' stands twice"),
        (JUDGES, "count: 1, role: eval, id: client_3", (9, 32), "nodes[1].id", "twice"),
        ("judge_{i}", "hub", (9, 38), "nodes[1].id", "write {i} into it"),
        ("judge_{i}", "a{j}", (9, 38), "nodes[1].id", "id pattern"),
        ("judge_{i}", "a{i}{i}", (9, 38), "nodes[1].id", "exactly one {i}"),
        ("judge_{i}", "ä{i}", (9, 38), "nodes[1].id", "cannot be a node id"),
        ("judge_{i}", "bundle-{i}", (9, 38), "nodes[1].id", "reserved"),
        (JUDGES, "count: 1, role: eval, id: topology", (9, 32), "nodes[1].id", "reserved"),
        (JUDGES, "count: 1, role: eval, id: server", (9, 32), "nodes[1].id", "server"),
        ("judge_{i}", "c{i:0999999999d}", (9, 38), "nodes[1].id", "too long"),
        ("federation: digits", "federation: bundle-3", (4, 13), "federation", "reserved"),
    ],
)  # fmt: skip
def test_refusal_names_place_field_and_remedy(
    old: str, new: str, place: tuple[int, int], field: str | None, said: str
) -> None:
    error = refusal(changed(old, new))
    assert said in error.message
    assert (error.fields["line"], error.fields["column"]) == place
    assert error.fields["file"] == "x.yaml"
    assert error.message.startswith(f"x.yaml:{place[0]}:{place[1]}: ")
    if field is not None:
        assert error.fields["field"] == field
        assert f": {field}: " in error.message


@pytest.mark.parametrize(
    ("topology", "column", "field", "said"),
    [
        ("{levels: [3], k: 2}", 28, "k", "the schema hierarchical takes no k"),
        ("{levels: []}", 20, "levels", "is empty"),
        ("{levels: [2, 0]}", 24, "levels[1]", "must be at least 1, not 0"),
        ("{levels: 3}", 20, "levels", "must be a list, not a whole number"),
        ("{levels: [9]}", 20, "levels", "make 9 groups for 8 nodes"),
        ("{levels: [3000, 30]}", 20, "levels", "more than 10,000"),
        ("{levels: [2], groups: {a: [judge_0]}}", 33, "groups", "leave one out"),
        ("{groups: {a: [judge_9]}}", 20, "groups", "group 'a' names 'judge_9', which is no node"),
        ("{groups: {a: ['judge_*']}}", 20, "groups", "'client_0' is in no group"),
        ("{groups: {judge_0: ['*']}}", 20, "groups", "'judge_0' is an aggregator's id and a node's too"),
        ("{groups: {bundle-1: ['*']}}", 20, "groups", "reserved"),
    ],
)
def test_a_hierarchy_that_is_none_is_refused_at_its_place(topology: str, column: int, field: str, said: str) -> None:
    text = changed("schema: star", "schema: hierarchical")
    error = refusal(text.replace(FAILURE, f"topology: {topology}"))
    assert said in error.message and error.fields["field"] == f"topology.{field}"
    assert error.message.startswith(f"x.yaml:12:{column}: topology.{field}: ")


def test_a_strategy_that_needs_every_update_is_refused_in_a_hierarchy() -> None:
    text = changed("schema: star", "schema: hierarchical").replace("name: fedavg", "name: krum")
    error = refusal(text.replace(FAILURE, "topology: {levels: [2]}"))
    assert error.message.startswith("x.yaml:11:20: rounds.strategy: krum needs every update")


def test_allowed_words_are_in_the_error_and_its_message() -> None:
    error = refusal(changed("split: uniform", "split: unifrom"))
    assert error.fields["allowed"] == ["uniform", "random", "weighted"]
    assert error.message == (
        'x.yaml:10:40: placement.split: "unifrom" is not allowed; did you mean uniform? (uniform, random, weighted)'
    )


def test_the_first_problem_of_the_file_is_named_and_the_others_counted() -> None:
    text = (
        changed("role: train,", "role: trian,").replace("seed: 7", "seed: .nan").replace("policy: rebuild", "policy: x")
    )
    error = refusal(text)
    assert error.fields["field"] == "nodes[0].role"
    assert error.message.endswith("and 2 more problems")


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("a: [1", (1, 6), "not YAML"),
        ("a: b: c", (1, 5), "not YAML"),
        ("a:\n\t- b", (2, 1), "not YAML"),
        ("a: 1\nb: \x01", (2, 4), "not allowed in YAML"),
        ("a: 1\n---\nb: 2", (2, 1), "single document"),
        ("a: *b", (1, 4), "undefined alias"),
        ("a: &a [*a]", (1, 4), "inside of what it names"),
        pytest.param("[" * 5000, (1, 61), "nested too deeply", id="deep"),
        ("", (1, 1), "empty"),
        ("# nothing\n", (1, 1), "empty"),
        ("- 1", (1, 1), "a layout is a mapping, not a list"),
        ("layout", (1, 1), "a layout is a mapping, not text"),
    ],
)
def test_what_is_no_layout_at_all_is_refused_at_its_place(text: str, place: tuple[int, int], said: str) -> None:
    error = refusal(text)
    assert said in error.message
    assert error.message.startswith(f"x.yaml:{place[0]}:{place[1]}: ")


def test_aliases_that_grow_without_end_are_refused_soon() -> None:
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]"]
    lines += [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    assert "aliases" in refusal("\n".join(lines)).message


def test_a_tag_constructs_nothing(tmp_path: Path) -> None:
    harm = tmp_path / "harm"
    text = changed("learning_rate: 0.3", f"a: !!python/object/apply:pathlib.Path.touch [!!python/name:x '{harm}']")
    error = refusal(text)
    assert "would construct an object" in error.message
    assert error.fields["field"] == "config.a"
    assert not harm.exists()
    for tag in ("!mine 3", "!!set {a}", "!!binary aGk=", "!!python/tuple [1]"):
        assert "the tag" in refusal(changed("learning_rate: 0.3", f"a: {tag}")).message


def test_files_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"federation: caf\xe9")
    for path, said in [
        (tmp_path / "none.yaml", "no such file"),
        (tmp_path, "cannot be read"),
        (tmp_path / "latin.yaml", "UTF-8"),
    ]:
        with pytest.raises(LayoutError, match=said) as refused:
            load(path)
        assert refused.value.fields["file"] == str(path)


@given(st.text(alphabet="abc:[]{}-#&*!\n '\"|>%@`?,0.<", max_size=60))
def test_any_text_is_a_layout_or_a_layout_error(text: str) -> None:
    with pytest.raises(LayoutError):
        loads(text)


@given(st.data())
def test_a_layout_with_one_value_exchanged_is_a_layout_or_a_layout_error(data: st.DataObject) -> None:
    lines = yaml.safe_load(GOOD)
    around, key = lines, data.draw(st.sampled_from(sorted(lines)))
    while isinstance(around[key], (dict, list)) and around[key] and data.draw(st.booleans()):
        around = around[key]
        key = data.draw(st.sampled_from(sorted(around) if isinstance(around, dict) else range(len(around))))
    around[key] = data.draw(plain)
    try:
        loads(yaml.safe_dump(lines))
    except LayoutError as error:
        assert error.fields["line"] >= 1


# -- laws ----------------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
    | st.sampled_from(["1e-3", "on", "no", "12", "~", "2024-01-01", "1:30", "0x1f", "=", "<<", ".5", "1_000"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def made(draw: st.DrawFn) -> Layout:
    return Layout(
        federation="a",
        title=draw(st.sampled_from(["", "A title", "# odd", "yaml-language-server: x", " padded "])),
        template="m:C",
        nodes=[{"count": draw(st.integers(1, 9)), "role": "train", "config": {"deep": draw(plain)}}],
        placement={"bundles": draw(st.none() | st.integers(1, 5) | st.just([{"count": 2, "cpu": 0.5}]))},
        rounds={"min_results": draw(st.sampled_from([0.5, 1.0, 1, 3]))},
        config=draw(st.dictionaries(texts.filter(lambda key: "federation" not in key), plain, max_size=3)),
    )  # fmt: skip


@given(made())
def test_what_is_written_reads_back_as_the_same_layout(layout: Layout) -> None:
    again = loads(layout.to_yaml())
    assert again == layout
    assert (again.digest(), again.differences(layout)) == (layout.digest(), [])


@given(made(), made())
def test_digests_differ_exactly_where_differences_are_named(one: Layout, other: Layout) -> None:
    assert (one.digest() == other.digest()) == (one.differences(other) == [])


def test_digest_is_of_the_meaning() -> None:
    layout = loads(GOOD)
    block = yaml.safe_dump(yaml.safe_load(GOOD), default_flow_style=False, sort_keys=True)
    assert loads("# Another title\n" + block).digest() == layout.digest()
    assert loads(changed("failure: {policy: rebuild, max_rebuilds: 3}\n", "")).digest() == layout.digest()
    assert loads(changed("seed: 7", "seed: 8")).digest() != layout.digest()


def test_differences_name_the_field_and_both_values() -> None:
    other = loads(changed("bundles: 8", "bundles: 4").replace("local_epochs: 2", "extra: x"))
    assert loads(GOOD).differences(other) == [
        "placement.bundles: 8 → 4",
        "config.local_epochs: 2 → absent",
        'config.extra: absent → "x"',
    ]
