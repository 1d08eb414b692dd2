"""Inputs that each target begins with, and words of its language."""

from __future__ import annotations

from pathlib import Path

from red_tui.cli.main import COMMANDS

SHIPPED = [path.read_bytes() for path in sorted((Path(__file__).parents[2] / "layouts").glob("*.yaml"))]

_YAML = b"""federation: a
nodes:
  - {count: 3, role: train}
role:
count:
id: 'a{i}'
{i:03d}
template: m:C
schema:
hierarchical
k-connected
custom
topology: {levels: [2, 3]}
groups: {a: [c*]}
adjacency: {a: [b]}
k: 4
placement: {
bundles: [{count: 2, cpu: 1}]
weights: [1, 2]
split: weighted
isolation: bundle
rounds: {
strategy: {name: krum}
min_results:
fraction:
deadline:
seed:
config: {a: 1}
<<: *a
&a {b: 1}
-
?
---
...
%YAML 1.1""".split(b"\n")

SEEDS: dict[str, list[bytes]] = {
    "query": [
        b"role:train state:virtual,released -bundle:1-4",
        b"loss:<0.5 (client_1* or id:judge_?)",
        b"id:client_[13],hub",
        b"not (a or b) and c",
        b"bundle:none",
    ],
    "until": [
        b"accuracy>0.95",
        b"14:30 or loss<0.1",
        b"+1h30m",
        b"2026-11-24T14:30:00+01:00",
        b"loss <= 1e-3 or +2d",
    ],
    "moment": [b"14:30", b"2026-01-31T12:00", b"+90s", b"-5m", b"round 12", b"event 3", b"begin", b"20x"],
    "typed": [
        b"lr: 0.1",
        b"client_args: {lr: 0.1}, server_args: {a: 1}",
        b"lr 0.1 to role:train",
        b"k-connected k=4 seed=7",
        b"lr 0.1 deadline 30",
        b"+momentum 0.9",
        b"custom adjacency={a: [b]}",
    ],
    "words": [
        b"run\ndigits\n--rounds\n3",
        b"status\n--json",
        b"round\ndigits\n--until\nloss<0.1",
        b"replay\na.db\n--at\n14:30",
        b"digits\n--read-only",
        b"down\n--all",
    ],
    "frames": [
        b"\0\0\0\x0e\x82\xa2id\x01\xa4verb\xa4ping",
        b"\0\0\0\x0d\x81\xa4push\x93\xc0\xc3\xcb\x7f\xf0\0",
        b"\0\0\0\x01\x80" * 3,
    ],
    "layout": [b"federation: a\nnodes: [{count: 2, role: train}]\ntemplate: m:C\n"],
    "config": [
        b"theme: red-safe\nkeys: {build: x}\nfilters: {a: 'role:train'}\nread_only_clusters: ['h:1']\n",
        b"zoom: tiles\nreplay_idle: 1.5\ncolumns: [id, state]\nmouse: true\n",
    ],
    "remembered": [
        b'{"view": "nodes", "columns": ["id"], "queries": {"a": "role:train"}, "filters": {"x": "state:ready"}}'
    ],
}

WORDS: dict[str, list[bytes]] = {
    "query": b"role: state: bundle: id: rounds: loss: client_ ready >= [!0-4] **".split(),
    "until": [b" or ", b"+20m", b"14:30:59", b"T23:59:59.9"],
    "moment": [b"round ", b"event ", b"T12:00:00Z", b"+24:00"],
    "typed": _YAML[-10:],
    "words": [*(name.encode() + b"\n" for name in COMMANDS), b"--json\n", b"--rounds\n", b"--address\n", b"@", b"--"],
    "frames": [
        b"\xdf\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\0\x0f\xff\xff",
        b"\x91" * 600,
        b"\xc7\x08\xff",
        b"\xd6\xff",
        b"\x81\xc0\xc0",
    ],
    "layout": [*_YAML, *(word + b"\n" for word in _YAML)],
    "config": _YAML[-10:],
    "checkpoint": [b'"F64"', b'"I64"', b'"data_offsets":[0,8]', b'"shape":[2,3]', b"__metadata__"],
    "journal-rows": [
        b'{"rows": [[0, 268435456]]',
        b'"added": ',
        b'"result": ',
        b'"state": "ready"',
        b'"base": ',
        b"[[0, 1]]",
        b'"bundles": ',
    ],
    "journal-file": [b"CREATE TABLE events", b"SQLite format 3\0"],
}
