"""The one list of actions: keys, footer, help, palette and command line are made from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from textual.keys import _character_to_key

from red_tui.console.connection.connection import ConnectionPhase
from red_tui.protocol.commands import COMMANDS

Reason = str | None
"""Why an action is impossible now; None if it is possible."""


@dataclass(frozen=True)
class Situation:
    """All that decides whether an action is possible now.

    Attributes:
        phase: Where the session stands.
        view: The view that is shown.
        targets: States of what a command would act on: the marks, else the node under the cursor.
        counts: Nodes by state.
        running: Whether a round runs or is asked for.
        session: Whether a session runs.
        filtered: Whether a filter is on.
        marks: How many nodes are marked.
        message: Whether something can be dismissed with escape.
    """

    phase: ConnectionPhase = ConnectionPhase.CONNECTING
    view: str = "grid"
    targets: Mapping[str, int] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    running: bool = False
    session: bool = False
    filtered: bool = False
    marks: int = 0
    message: bool = False


def _always(now: Situation) -> Reason:
    return None


def _data(now: Situation) -> Reason:
    return None if now.phase in (ConnectionPhase.LIVE, ConnectionPhase.LOST) else "nothing is there yet"


def _live(now: Situation) -> Reason:
    if now.phase is ConnectionPhase.LIVE:
        return None
    return "the cluster does not answer now" if now.phase is ConnectionPhase.LOST else "not connected yet"


def _open(now: Situation) -> Reason:
    if now.phase is ConnectionPhase.LIVE:
        return None
    return (
        "the journal is about to be opened again"
        if now.phase is ConnectionPhase.LOST
        else "the journal is not open yet"
    )


def _target(now: Situation) -> Reason:
    return _data(now) or (None if sum(now.targets.values()) else "no node is under the cursor")


def _detail(now: Situation) -> Reason:
    return _data(now) if now.view in ("rounds", "placement", "events") else _target(now)


def _in_states(*states: str, reason: str) -> Callable[[Situation], Reason]:
    def check(now: Situation) -> Reason:
        return _live(now) or (None if any(now.targets.get(state) for state in states) else reason)

    return check


def _wave(now: Situation) -> Reason:
    left = now.counts.get("virtual", 0) + now.counts.get("released", 0)
    return _live(now) or (None if left else "every node is built or failed: no further wave")


def _rebuild(now: Situation) -> Reason:
    return _live(now) or (None if now.counts.get("failed") else "no node has failed")


def _idle(now: Situation) -> Reason:
    if now.session:
        return _live(now) or "a session is running; s stops it"
    return _live(now) or ("a round is running; s stops it" if now.running else None)


def _running(now: Situation) -> Reason:
    return _live(now) or (None if now.running or now.session else "no round and no session is running")


def _retry(now: Situation) -> Reason:
    return None if now.phase in (ConnectionPhase.FAILED, ConnectionPhase.LOST) else "nothing to try again"


def _escape(now: Situation) -> Reason:
    return None if now.filtered or now.marks or now.message or now.view != "grid" else "nothing to leave"


def _list_view(now: Situation) -> Reason:
    return _data(now) or (None if now.view in ("nodes", "rounds") else "only the lists are sorted")


@dataclass(frozen=True)
class Action:
    """Something that an operator can do.

    Attributes:
        id: Its name: what a remapped key and the command line call it.
        keys: Textual's names of its keys.
        label: Words of the footer and the palette.
        help: What it does, in a line.
        scope: Group in the help.
        writes: Whether it changes the federation: not bound when read-only.
        destructive: Whether it ends processes: it asks first.
        possible: Why it is not possible now, or None.
        footer: Rank in the footer; 0 keeps it out.
        usage: How the command line spells it with its arguments.
        where: Where it is bound: `live`, in a `replay`, or in both.
    """

    id: str
    keys: tuple[str, ...]
    label: str
    help: str
    scope: str
    writes: bool = False
    destructive: bool = False
    possible: Callable[[Situation], Reason] = _always
    footer: int = 0
    usage: str = ""
    where: str = "both"


def _told(
    name: str, keys: tuple[str, ...], label: str, help: str, scope: str, possible: Callable[[Situation], Reason],
    footer: int = 0, usage: str = "",
) -> Action:  # fmt: skip
    """An action that gives a command of the table that all sides share: what it may do stands there."""
    spec = COMMANDS[name]
    return Action(name, keys, label, help, scope, spec.writes, spec.destructive, possible, footer, usage)


_BUILT_ALREADY = "it is built already; x releases it"

ACTIONS: tuple[Action, ...] = (
    Action("retry", ("r",), "retry", "try to connect again now", "session", possible=_retry, footer=1),
    _told("build", ("b",), "build", "build the marked nodes, else the one under the cursor", "nodes",
          possible=_in_states("virtual", "released", reason=_BUILT_ALREADY), footer=1, usage="build [QUERY]"),
    Action("plan", ("B",), "plan", "show first where they go and what does not fit", "nodes", True,
           possible=_in_states("virtual", "released", reason=_BUILT_ALREADY), usage="plan [QUERY]"),
    _told("wave", ("w",), "wave", "build the next wave: as many as there is room for", "nodes",
          possible=_wave, footer=2, usage="wave [SIZE] [QUERY]"),
    Action("waves", ("W",), "waves…", "plan waves: which nodes, how many at a time; build one or all", "nodes", True,
           possible=_wave, usage="waves"),
    _told("round", ("r",), "round", "run one round", "rounds", possible=_idle, footer=3, usage="round"),
    _told("run", ("R",), "run…", "run several rounds, until a metric is reached or a time", "rounds",
          possible=_idle, footer=4, usage="run [ROUNDS] [until METRIC>VALUE|14:30|+20m]"),
    _told("set", ("P",), "set…", "change the next rounds: fraction, deadline, learning rate, what else nodes are told",
          "rounds", possible=_live, usage="set [NAME VALUE…]"),
    _told("train", (), "train", "begin a session: nodes run their own train and talk", "rounds",
          possible=_idle, usage="train [{client_args: {…}, server_args: {…}}]"),
    _told("send", (), "send", "send a message to built nodes: a header, a body in YAML", "rounds",
          possible=_live, usage="send HEADER [BODY] [to QUERY]"),
    _told("stop", ("s",), "stop", "stop after this round, once more: now (asks); end a session (asks)", "rounds",
          _running, footer=3, usage="stop [now]"),
    _told("release", ("x",), "release", "give processes back, keep their state (asks)", "nodes",
          _in_states("pending", "starting", "ready", "busy", "failed", reason="it holds nothing: only a"
          " built node can be released"), footer=5, usage="release [QUERY]"),
    _told("rebuild", ("u",), "rebuild", "replace the failed targets, else all that failed", "nodes",
          possible=_rebuild, footer=6, usage="rebuild [QUERY]"),
    _told("add", ("plus",), "add", "add virtual nodes", "nodes", possible=_live, usage="add COUNT ROLE"),
    _told("remove", ("D",), "remove", "forget nodes for good (asks)", "nodes",
          lambda now: _live(now) or _target(now), usage="remove [QUERY]"),
    _told("topology", (), "set topology", "change who is whose neighbour", "nodes", possible=_live,
          usage="topology RULE [k=4 seed=7…]"),
    *(
        Action(spec.name, (), spec.name, spec.help, "session", possible=_live, usage=spec.name, where="live")
        for spec in COMMANDS.values()
        if spec.shown
    ),
    Action("filter", ("slash",), "filter", "show only what a query matches; esc clears", "view", possible=_data,
           footer=7, usage="filter QUERY"),
    Action("filters", ("F",), "filters", "choose a saved filter", "view", possible=_data, usage="filters"),
    Action("keep", (), "keep", "save the present filter under a name; /@NAME brings it back", "view", possible=_data,
           usage="keep NAME"),
    Action("forget", (), "forget", "forget a saved filter", "view", possible=_data, usage="forget NAME"),
    Action("mark", ("space",), "mark", "mark or unmark the node under the cursor", "marks", possible=_target,
           footer=9),
    Action("mark_range", ("v",), "mark range", "mark from the last mark to the cursor", "marks", possible=_target),
    Action("mark_shown", ("ctrl+@", "asterisk"), "mark all", "mark all nodes that the filter shows", "marks",
           possible=_target),
    Action("detail", ("enter",), "detail", "the node's detail: log, metrics, error with traceback", "nodes",
           possible=_detail, footer=11),
    Action("why", ("e",), "why", "why the node is as it is: what it asks, what hosts have, what would help", "nodes",
           possible=lambda now: _live(now) or _target(now), usage="why [ID]"),
    Action("command", ("colon",), "command", "type a command; tab completes, up recalls", "session", possible=_data,
           footer=10),
    Action("help", ("question_mark",), "help", "what each key does", "session", footer=4),
    Action("leave", ("q", "ctrl+c"), "leave", "leave; what runs goes on", "session", footer=4, usage="leave"),
    Action("group", ("g",), "group", "group by bundle, host, state", "view", possible=_data,
           usage="group [bundle|host|state]"),
    Action("zoom", ("z",), "zoom", "glyphs, tiles with ids, counts; the topology drawn or listed", "view",
           possible=_data, usage="zoom [glyphs|tiles|counts|drawing|list]"),
    Action("pause", ("p",), "pause", "pause or go on following the events", "view", possible=_data, where="live"),
    Action("sort", ("o",), "sort", "sort the list by the next column; among rounds, plot others", "view",
           possible=_list_view, usage="sort [COLUMN] [up|down]"),
    Action("columns", ("c",), "columns", "choose the columns of the list of nodes", "view", possible=_data,
           usage="columns NAME…"),
    Action("copy", ("y",), "copy", "copy the targets' ids or the shown text to the clipboard", "session",
           possible=_data),
    Action("save", ("ctrl+e",), "save", "save the screen as SVG and as text", "session", usage="save"),
    Action("palette", ("ctrl+p",), "palette", "all that is possible now", "session"),
    Action("theme", (), "theme", "another theme", "session", possible=_data, usage="theme [NAME]"),
    Action("escape", ("escape",), "back", "leave the message, the filter, the marks, the view", "view",
           possible=_escape, footer=9),
    Action("view_grid", ("1",), "grid", "the grid", "screens", possible=_data),
    Action("view_rounds", ("2",), "rounds", "rounds: loss and metrics", "screens", possible=_data),
    Action("view_placement", ("3",), "placement", "hosts and bundles", "screens", possible=_data),
    Action("view_topology", ("4",), "topology", "who is whose neighbour, degrees, messages", "screens",
           possible=_data),
    Action("view_events", ("5",), "events", "all events", "screens", possible=_data),
    Action("view_nodes", ("6",), "nodes", "nodes as a sortable list", "screens", possible=_data),
    Action("left", ("left", "h"), "left", "move left", "move", possible=_data),
    Action("down", ("down", "j"), "down", "move down", "move", possible=_data),
    Action("up", ("up", "k"), "up", "move up", "move", possible=_data),
    Action("right", ("right", "l"), "right", "move right", "move", possible=_data),
    Action("page_up", ("pageup",), "page up", "a screen up", "move", possible=_data),
    Action("page_down", ("pagedown",), "page down", "a screen down", "move", possible=_data),
    Action("home", ("home",), "first", "the first node", "move", possible=_data),
    Action("end", ("end",), "last", "the last node", "move", possible=_data),
    Action("play", ("p",), "play/pause", "play, or pause", "replay", possible=_open, footer=1, where="replay"),
    Action("step", ("full_stop",), "step", "go to the next event", "replay", possible=_open, footer=2, where="replay"),
    Action("step_back", ("comma",), "step back", "go back to the event before", "replay", possible=_open, footer=9,
           where="replay"),
    Action("next_round", ("greater_than_sign",), "next round", "go to the end of the next round", "replay",
           possible=_open, footer=3, where="replay"),
    Action("previous_round", ("less_than_sign",), "round before", "go back to the end of the round before", "replay",
           possible=_open, footer=9, where="replay"),
    Action("faster", ("plus",), "faster", "play faster: 1x 2x 5x 20x 100x, then as it is drawn", "replay",
           possible=_open, footer=4, where="replay"),
    Action("slower", ("minus",), "slower", "play slower", "replay", possible=_open, footer=9, where="replay"),
    Action("speed", (), "speed", "play at a speed", "replay", possible=_open, usage="speed 20x|max", where="replay"),
    Action("idle", ("i",), "skip idle", "skip times in which nothing happened, or play them as they were", "replay",
           possible=_open, where="replay", usage="idle"),
    Action("begin", ("0",), "begin", "go to the begin of the journal", "replay", possible=_open, where="replay",
           usage="begin"),
    Action("follow", ("G",), "end", "go to the end and follow what comes", "replay", possible=_open, footer=6,
           where="replay", usage="follow"),
    Action("at", ("t",), "at…", "go to a time, a round or an event", "replay", possible=_open, footer=5,
           where="replay", usage="at 14:30|+90s|round 12|event 345"),
)  # fmt: skip

SCOPES = ("replay", "nodes", "rounds", "marks", "view", "move", "screens", "session")
"""The groups of actions, in the order in which they are told."""

REPLAY = frozenset(action.id for action in ACTIONS if action.where == "replay")
"""Actions that move a replay: the link does what they ask."""

SHOWN = frozenset(spec.name for spec in COMMANDS.values() if spec.shown)
"""Commands whose answer is a text that is shown as it is."""

MOVES = frozenset({"left", "right", "up", "down", "page_up", "page_down", "home", "end"})

_KEY_NAMES = {
    "plus": "+",
    "slash": "/",
    "colon": ":",
    "question_mark": "?",
    "asterisk": "*",
    "full_stop": ".",
    "comma": ",",
    "greater_than_sign": ">",
    "less_than_sign": "<",
    "minus": "-",
    "ctrl+@": "ctrl+space",
    "escape": "esc",
    "left": "←",
    "right": "→",
    "up": "↑",
    "down": "↓",
    "pageup": "pgup",
    "pagedown": "pgdn",
}
_ASCII_KEY_NAMES = {"left": "left", "right": "right", "up": "up", "down": "down"}


def key_name(key: str, ascii_only: bool = False) -> str:
    """How a key is written for people."""
    if ascii_only and key in _ASCII_KEY_NAMES:
        return _ASCII_KEY_NAMES[key]
    return _KEY_NAMES.get(key, key)


def key_of(name: str) -> str:
    """The key that a person means by a name: `+`, `esc`, `ctrl+space`, `X`."""
    for key, written in (*_KEY_NAMES.items(), *_ASCII_KEY_NAMES.items()):
        if name in (written, key):
            return key
    if len(name) == 1 and not name.isalnum():
        return _character_to_key(name)
    return name


class ActionMap:
    """The actions of one console, with its keys.

    Args:
        read_only: Leaves out what changes the federation.
        keys: Other keys by action id.
        replay: Leaves that out too, and what makes sense of something that lives only; what moves a replay comes in.
    """

    def __init__(
        self, read_only: bool = False, keys: Mapping[str, tuple[str, ...]] | None = None, replay: bool = False
    ) -> None:
        remapped = dict(keys or {})
        self.read_only = read_only or replay
        self.replay = replay
        self.remapped = remapped
        elsewhere = "live" if replay else "replay"
        self.actions = tuple(
            action for action in ACTIONS if action.where != elsewhere and not (self.read_only and action.writes)
        )
        self.keys = {action.id: remapped.get(action.id, action.keys) for action in self.actions}
        self._by_id = {action.id: action for action in self.actions}

    def __contains__(self, action_id: str) -> bool:
        return action_id in self._by_id

    def get(self, action_id: str) -> Action | None:
        """The action of that id, or None if it is not bound."""
        return self._by_id.get(action_id)

    def all_keys(self) -> list[str]:
        """Every bound key, once."""
        return list(dict.fromkeys(key for keys in self.keys.values() for key in keys))

    def for_key(self, key: str, now: Situation) -> tuple[Action, Reason] | None:
        """What a key does now, and why it cannot if it cannot."""
        candidates = [action for action in self.actions if key in self.keys[action.id]]
        if not candidates:
            return None
        for action in candidates:
            if action.possible(now) is None:
                return action, None
        return candidates[-1], self._refused_key(key) or candidates[-1].possible(now)

    def refused(self, action_id: str) -> str | None:
        """Why an action is not bound here, or None if it is, or if there is none of that id."""
        known = next((action for action in ACTIONS if action.id == action_id), None)
        if known is None or action_id in self:
            return None
        if self.replay:
            return f"this is a replay: no {known.label}"
        if known.where == "replay":
            return f"{known.label}: only in a replay"
        return f"this console is read-only: no {known.label}"

    def _refused_key(self, key: str) -> str | None:
        """What to say of a key that would do something, were this no replay and not read-only."""
        for action in ACTIONS:
            if key in self.remapped.get(action.id, action.keys) and (self.replay or action.where != "replay"):
                refused = self.refused(action.id)
                if refused is not None:
                    return refused
        return None

    def unbound(self, key: str, character: str | None = None) -> str:
        """What to say of a key that does nothing."""
        refused = self._refused_key(key)
        if refused is not None:
            return refused
        helps = key_name(self.keys["help"][0]) if self.keys.get("help") else "help"
        return f"{character or key_name(key)} does nothing here; {helps} tells the keys"

    def possible(self, now: Situation) -> list[Action]:
        """What can be done now."""
        return [action for action in self.actions if action.possible(now) is None]
