"""Templates of `test_bodies`: workers import this without the tests."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import ray

import red_tui as red

LARGE = 20_000
"""Numbers in an array that travels through the object store."""


@dataclass
class Note:
    """An object that is more than arrays and containers of them."""

    words: list[str] = field(default_factory=list)


class Talker(red.FederatedNode):
    """The first tells the two others; they change what they can of it."""

    def train(self, **arguments: Any) -> Any:
        if self.node_id == "client_0":
            return self.tell(**arguments)
        return self.take(**arguments)

    def tell(self, size: int, refused: list[str]) -> dict[str, Any]:
        bodies: dict[str, Any] = {
            "array": np.ones(size),
            "deep": {"w": np.ones(size), "list": [np.ones(size), ("a", np.ones(size))], "n": 1},
            "note": Note(["mine"]),
            "reference": [ray.put("there")],
        }
        for header, body in bodies.items():
            self.send(header, body)
        # What happens to the sender's own afterwards is not what was sent.
        bodies["array"] += 1
        bodies["deep"]["w"] += 1
        bodies["deep"]["list"].append("more")
        bodies["note"].words.append("too")
        wrong = {"lock": threading.Lock(), "deep lock": {"a": [threading.Lock()]}, "generator": (one for one in "a")}
        whys = {}
        for header in refused:
            try:
                self.send("wrong", wrong[header])
            except red.MessageError as error:
                whys[header] = error.message
        # The session goes on.
        self.send("end", None)
        theirs = [self.receive(timeout=150) for _ in self.neighbors]
        kept = [float(bodies["array"].sum()), float(bodies["deep"]["list"][0].sum()), bodies["deep"]["n"]]
        return {"whys": whys, "kept": kept, "words": bodies["note"].words, "heard": [one.body for one in theirs if one]}

    def take(self, size: int, refused: list[str]) -> dict[str, Any]:
        got: dict[str, Any] = {}
        while (message := self.receive(timeout=150)) is not None and message.header != "end":
            assert message.header != "wrong"
            got[message.header] = message.body
        told: dict[str, Any] = {"writable": [], "sums": []}
        if size == LARGE:
            # Read where they lie: from the object store, or (for an array alone, in one process) the sender's copy.
            told["copies"] = [got["array"].flags.owndata, got["deep"]["w"].flags.owndata]
        deep = got["deep"]
        arrays = [got["array"], deep["w"], deep["list"][0], deep["list"][1][1]]
        for array in arrays:
            try:
                array += 1
            except ValueError:
                told["sums"].append(float(array.sum()))
            else:
                told["writable"].append(float(array.sum()))
        # Containers and objects are the receiver's own.
        deep["n"] += 1
        deep["list"].append(self.node_id)
        got["note"].words.append(self.node_id)
        told |= {"n": deep["n"], "length": len(deep["list"]), "words": got["note"].words}
        told["reference"] = ray.get(got["reference"][0], timeout=90)
        self.send("done", self.node_id, "client_0")
        return told
