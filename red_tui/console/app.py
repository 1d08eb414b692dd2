"""The console: it paints at once, then starts its link, and shows what the link says."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.containers import Container, Horizontal

from red_tui.console.config.options import ConsoleOptions, Preferences
from red_tui.console.config.themes import ASCII, UNICODE, Colourless, choose_theme, variable_defaults
from red_tui.console.connection.connection import ConnectionPhase, ConsoleConnection
from red_tui.console.connection.link_process import Link, LinkClient, LinkPushed, LinkStatus
from red_tui.console.console_host import ConsoleHost
from red_tui.console.dialogs.dialogs import Ask, Choice
from red_tui.console.input.actions import ActionMap, Situation
from red_tui.console.replay_moves import progress_words, standing
from red_tui.console.screens.node_detail import DetailPanel
from red_tui.console.text import plain
from red_tui.console.textual_private import replace_line_filters, report_error, unwritten_chunks
from red_tui.console.widgets.events_panel import EventsPanel
from red_tui.console.widgets.footer import FooterLine, TimeLineBar, footer_keys
from red_tui.console.widgets.header import HeaderLine, banner_lines
from red_tui.console.widgets.lists import Line, Lines, wrap
from red_tui.console.widgets.notice import Notice
from red_tui.errors import CommandRefused, RedError

if TYPE_CHECKING:
    from red_tui.console.connection.mirror import Changes, FederationMirror
    from red_tui.console.controller import ConsoleController
    from red_tui.console.grid.grid import Grid
    from red_tui.console.widgets.prompt import Prompt


ASK_SECONDS = 1.0
LEAVE_SECONDS, STOP_SECONDS = 2.0, 60.0


async def leave(app: RedConsole, embedded: bool) -> str | None:
    """Leave the federation, after a question where there is one to ask.

    Returns:
        The last word for the terminal; None if the operator stays.
    """
    waves = app.controller.operations.waves_left if app.controller is not None else ""
    answer = {"keep": "keep", "stop": "stop"}.get(app.options.leave_cluster, "keep")
    embedded = embedded and app.connection.phase in (ConnectionPhase.LIVE, ConnectionPhase.LOST)
    if embedded and app.options.leave_cluster == "asks" and not app.actions.read_only:
        answer = await app.ask(await _question(app, waves)) or "stay"
    if answer == "stay":
        return None
    stop = answer == "stop"
    if stop and app.actions.read_only:  # it may have become so while the question stood there
        app.say("this console is read-only: it stops no cluster", "error")
        return None
    if stop:
        app.say("stopping the cluster…")
        app.connection.leaving = True
    if not app.connection.opened:
        return ""
    told: Any = None
    try:
        told = await app.connection.ask("leave", timeout=STOP_SECONDS if stop else LEAVE_SECONDS, stop_cluster=stop)
    except CommandRefused as error:
        app.connection.leaving = False
        app.say(error.message, "error")
        return None
    except RedError:
        pass  # a link that does not answer keeps nobody here
    if stop:
        text = plain(told.get("text") or "") if isinstance(told, dict) else "`red-console down --all` makes sure of it"
        return f"the cluster is stopped{'; ' if text else ''}{text}"
    name = "" if app.actions.replay else _name(app)
    if not name or app.options.address is not None:
        return waves
    return f"{name} goes on; `red-console {name}` opens it again{'; ' if waves else ''}{waves}"


def _name(app: RedConsole) -> str:
    mirror = app.connection.mirror
    return str(mirror.federation.get("id") or "") if mirror is not None else ""


async def _question(app: RedConsole, waves: str) -> Ask:
    name = _name(app) or "the federation"
    ends = ", ".join(await _ends(app)) or f"{name}, and whatever else runs in it"
    texts = (
        ("The cluster on this machine was started by red-console.", "text"),
        (f"Left running, {name} goes on, and red-console finds it again.", "text"),
        (f"Stopped, it ends with {ends}.", "pending"),
        *([(f"Either way {waves}.", "pending")] if waves else []),
    )
    lines: list[Line] = [((row, style),) for text, style in texts for row in wrap(text, 70)]
    choices = [
        Choice("keep", "Leave it running"),
        Choice("stop", "Stop the cluster", "failed"),
        Choice("stay", "Stay here"),
    ]
    return Ask("leave", lines, choices, hint="tab chooses, enter answers, esc stays")


async def _ends(app: RedConsole) -> list[str]:
    """The federations that would end with the cluster, with their processes."""
    if app.connection.phase is not ConnectionPhase.LIVE:
        return []
    try:
        answer = await app.connection.ask("federations", timeout=ASK_SECONDS)
        rows = [(plain(row["id"]), len(row.get("alive") or ())) for row in answer["federations"]]
    except (RedError, KeyError, TypeError):
        return []
    return [f"{name} ({count:,} {'process' if count == 1 else 'processes'})" for name, count in rows]


def import_heavy() -> None:
    """Bring in numpy and what stands on it; to be run in a thread."""
    from red_tui.console.grid.arrangement import warm_up

    warm_up()


def make_mirror() -> FederationMirror:
    """A mirror, once there is data to mirror."""
    from red_tui.console.connection.mirror import FederationMirror

    return FederationMirror()


def all_is_imported() -> None:
    """What was imported stays: looking through it for garbage would hold up the screen by some 40 ms each time."""
    gc.freeze()


WIDE, VERY_WIDE, LOW = 100, 150, 30


class RedConsole(ConsoleHost["ConsoleController"], inherit_bindings=False):
    """One operator's screen.

    Args:
        options: What the command line said.
        link: The link; None starts the process that the options name.
        clock: Monotonic seconds.
        pause: Waits that many seconds.
        preferences: What the config file says; None: nothing.
    """

    CSS_PATH = Path(__file__).with_name("app.tcss")
    TITLE = "red-console"
    ENABLE_COMMAND_PALETTE = False
    AUTO_FOCUS = None
    BINDINGS: ClassVar[list[Any]] = []

    def __init__(
        self,
        options: ConsoleOptions,
        link: Link | None = None,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        preferences: Preferences | None = None,
    ) -> None:
        self.preferences = preferences or Preferences()
        options = options.preferring(self.preferences)
        self.glyphs = ASCII if options.use_ascii() else UNICODE
        super().__init__(options.state_dir() / "console.errors")
        if self.no_color:
            replace_line_filters(
                self, [Colourless()]
            )  # Textual's own writes shades of grey, or the terminal's default colours
        self.options = options
        self._wanted_theme, self._odd_theme = choose_theme(self, options.theme)
        self.set_class(self.glyphs.ascii_only, "ascii")
        self.link: Link = link or LinkClient(options.link_argv(), options.state_dir() / "link.stderr")
        self.clock = clock
        self.connection = ConsoleConnection(
            self.link, self._open_args(options), self, make_mirror, clock, pause, self.preferences.is_read_only
        )
        self.actions = ActionMap(options.read_only, self.preferences.keys, options.replay is not None)
        self.header = HeaderLine(self.glyphs, id="header")
        self.banner = Lines(id="banner")
        self.notice = Notice(self.glyphs, id="notice", classes="panel current")
        self.detail = DetailPanel(self.glyphs, id="detail", classes="panel")
        self.events = EventsPanel(self.glyphs, id="events", classes="panel")
        self.time_line = TimeLineBar(self.glyphs, id="timeline")
        self.footer = FooterLine(self.glyphs, id="footer")
        self.grid: Grid | None = None
        self.controller: ConsoleController | None = None
        self.embedded = False
        self.last_word = ""
        self._is_up = self._interrupted = False

    # -- set-up ----------------------------------------------------------------------------------

    def _open_args(self, options: ConsoleOptions) -> dict[str, Any]:
        """What the link opens with: it refuses as well what is protected."""
        protected = list(self.preferences.read_only_clusters)
        return {**options.open_args(), **({"read_only_clusters": protected} if protected else {})}

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Our colours in a theme that does not name them."""
        return variable_defaults(self.current_theme)

    def compose(self) -> ComposeResult:
        """Header, banner, views with the detail beside them, events, footer."""
        yield self.header
        yield self.banner
        with Horizontal(id="body"):
            yield Container(self.notice, id="views")
            yield self.detail
        yield self.events
        if self.options.replay is not None:
            yield self.time_line
        yield self.footer

    def on_mount(self) -> None:
        """Keys, and what depends on the size."""
        self.theme = self._wanted_theme
        for key in self.actions.all_keys():
            self.bind(key, f"key('{key}')", show=False)
        self._fit(*self.size)
        self.refresh_footer()

    def interrupt(self) -> None:
        """Ctrl+C as a signal: end as soon as the console is up."""
        self._interrupted = True
        if self._is_up:
            self.call_later(self.exit, None, 1)

    def on_ready(self) -> None:
        """The first frame is out."""
        self._is_up = True
        if self._interrupted:
            self.last_word = "red-console: interrupted; what runs in the cluster goes on"
            self.exit(return_code=1)
            return
        if self._odd_theme:
            self.say(f"there is no theme {self._odd_theme!r}: this is {self._wanted_theme}; :theme lists them", "warn")
        if self.preferences.trouble:
            self.say(self.preferences.trouble, "warn")
        self.begin()

    def begin(self) -> None:
        """Import what is heavy, start the link, and connect."""
        self.go_on()
        threading.Thread(target=import_heavy, name="imports", daemon=True).start()
        self.link.start(self.post_message)
        self.work_anew("session", self.again_and_again, self.connection.run, self.connection.pause)
        self.set_interval(1.0, self.each_second, name="age")

    def on_resize(self, event: events.Resize) -> None:
        """Fit the panels to the new size, which the app itself may not have taken over yet."""
        self._fit(*event.size)

    def _fit(self, width: int, height: int) -> None:
        grows = width >= WIDE and not self.has_class("wide")
        self.set_class(width >= WIDE, "wide")
        if grows and self.controller is not None:
            # The panel beside the list was not drawn while there was no room for it.
            self.call_after_refresh(self.controller.looked)
        self.set_class(width >= VERY_WIDE, "very-wide")
        self.set_class(height < LOW, "low")
        self.set_class(height < 14, "no-events")

    # -- what the link says ----------------------------------------------------------------------

    def on_link_status(self, message: LinkStatus) -> None:
        """The link process came up or went away."""
        self.connection.link_status(message)

    def on_link_pushed(self, message: LinkPushed) -> None:
        """The link says something unasked."""
        push = message.push
        if push.get("push") == "step":
            self.notice.step(
                str(push.get("key")),
                str(push.get("text") or ""),
                str(push.get("state") or "running"),
                float(push.get("seconds") or 0.0),
            )
        elif push.get("push") == "lost":
            self.connection.lost(str(push.get("text") or "the cluster does not answer"))
        elif push.get("push") == "progress":
            self.say(progress_words(push))

    def connection_phase(self, phase: ConnectionPhase, error: RedError | None) -> None:
        """The session stands somewhere else."""
        if self.grid is None:
            if phase is ConnectionPhase.FAILED and error is not None:
                self.notice.fail(error)
            elif phase is ConnectionPhase.CONNECTING and error is None:
                self.notice.begin()
            elif error is not None:
                self.notice.word(f"{error.message}; trying again")
        else:
            was_lost = self.grid.stale
            if phase is ConnectionPhase.LOST and not was_lost:
                self.footer.say("")
            self.grid.set_stale(phase is ConnectionPhase.LOST)
            if was_lost and phase is ConnectionPhase.LIVE:
                self.say("the journal is read again" if self.actions.replay else "the cluster is back", "good")
        self._show_age()
        self.refresh_footer()

    def connection_choose(self, choices: Mapping[str, Any]) -> None:
        """Let the operator choose a federation or a layout."""
        from red_tui.console.dialogs.dialogs import choose

        async def pick() -> None:
            picked = await self.ask(choose(choices, self.glyphs, self.connection.read_only))
            if picked is None:
                self.exit(0)
            else:
                self.connection.choose(**picked)

        self.work_anew("picker", pick)

    def connection_changed(self, changes: Changes) -> None:
        """Show what an update changed, in one go; after a mistake, all."""
        try:
            if self.to_draw_anew and self.grid is not None:
                changes = self.grid.forget(changes)
            self._show(changes)
        except Exception as error:
            report_error(self, error)
        else:
            self.to_draw_anew = False

    def _show(self, changes: Changes) -> None:
        first = self.controller is None
        if first:
            self._open_controller()
        assert self.controller is not None
        if self.mirror.read_only and not self.actions.read_only:
            self.actions = ActionMap(True, self.preferences.keys)
        if self.actions.replay:
            self.connection.reopen_with(**standing(self.mirror.timeline))
        with self.batch_update():
            self.controller.apply(changes)
            self.time_line.show(self.mirror.timeline)
            if first:
                self.controller.memory.restore_view(self.controller)
            self._show_age()
            self.refresh_footer()

    async def connection_drained(self) -> None:
        """Wait for a terminal that is slow to take what was written."""
        while self._stalled:
            await asyncio.sleep(0.1)

    @property
    def _stalled(self) -> bool:
        """Whether the terminal does not take what was written: what is written on top would hold up the event loop."""
        return unwritten_chunks(self) > 2

    def _open_controller(self) -> None:
        from red_tui.console.controller import ConsoleController

        all_is_imported()
        self.embedded = bool(self.connection.opened.get("embedded"))
        self.controller = ConsoleController(self)
        self.grid = self.controller.grid

    # -- age and words ---------------------------------------------------------------------------

    def each_second(self) -> None:
        """Show how old the data is, and how long the connection takes."""
        if self._stalled:
            return
        self.notice.advance(1.0)
        mirror = self.connection.mirror
        if self.to_draw_anew and self.grid is not None:
            self.connection_changed(self.grid.forget())
        if self.connection.phase is not ConnectionPhase.LIVE or (mirror is not None and mirror.building is not None):
            self._show_age()

    def _show_age(self) -> None:
        mirror, phase = self.connection.mirror, self.connection.phase
        age = mirror.age(self.clock()) if mirror is not None and mirror.known else 0.0
        read_only = self.options.read_only or (mirror is not None and mirror.read_only)
        self.header.show(mirror, phase, read_only, age)
        lines = banner_lines(self.connection, age, self.glyphs, max(20, self.size.width - 2))
        self.banner.set_class(bool(lines), "shown")
        if lines:
            self.banner.show(lines)

    def refresh_footer(self) -> None:
        """Tell the keys that matter now."""
        self.footer.show_keys(footer_keys(self.actions, self.situation()))

    # -- keys ------------------------------------------------------------------------------------

    def situation(self) -> Situation:
        """What decides which actions are possible."""
        if self.controller is not None:
            return self.controller.situation()
        return Situation(phase=self.connection.phase, message=bool(self.footer.message))

    def take_at_once(self, event: events.Key) -> bool:
        """Act on a key of the screen; of one that does nothing it is said, silence would be taken for a hang."""
        if len(self.screen_stack) > 1 or self.focused is not None:
            return False
        if event.key in self.actions.all_keys():
            self.action_key(event.key)
        else:
            self.say(self.actions.unbound(event.key, event.character if event.is_printable else None), "warn")
        return True

    def action_key(self, key: str) -> None:
        """Do what a key does now, or say why it cannot."""
        situation = self.situation()
        found = self.actions.for_key(key, situation)
        self.footer.say("")
        if found is None:
            self.say(self.actions.unbound(key), "warn")
            return
        action, reason = found
        if reason is not None:
            if action.id != "escape":
                self.say(reason, "warn")
            return
        self.do(action.id, {})

    def do(self, action_id: str, args: Mapping[str, Any]) -> None:
        """Do an action with arguments."""
        if action_id == "leave":
            self.work_anew("leave", self._leave)
        elif action_id == "retry":
            self.connection.retry()
        elif self.controller is not None:
            self.controller.do(action_id, args)
        elif action_id in ("help", "palette", "save"):
            from red_tui.console.dialogs.dialogs import help_screen, palette_screen
            from red_tui.console.export import save_screen

            if action_id == "save":
                self.say(save_screen(self))
            else:
                self.push_screen(help_screen(self) if action_id == "help" else palette_screen(self), self.do_chosen)

    def do_chosen(self, action_id: str | None) -> None:
        """Do what was chosen in a menu, if anything was."""
        if action_id is not None:
            self.do(action_id, {})

    def on_grid_cursor_moved(self, message: Grid.CursorMoved) -> None:
        """Show the node under the cursor."""
        if self.controller is not None:
            self.controller.inspector.moved(self.controller.current_id)

    def on_grid_arranged(self, message: Grid.Arranged) -> None:
        """What the filter asks for is shown."""
        if self.controller is not None:
            self.controller.arranged()

    def on_prompt_changed(self, message: Prompt.Changed) -> None:
        """Follow what is typed."""
        if self.controller is not None:
            self.controller.typing.changed(message.kind, message.text)

    def on_prompt_submitted(self, message: Prompt.Submitted) -> None:
        """Take what was typed."""
        if self.controller is not None:
            self.controller.typing.submitted(message.kind, message.text)

    def on_prompt_cancelled(self, message: Prompt.Cancelled) -> None:
        """Go back from typing."""
        if self.controller is not None:
            self.controller.typing.cancelled(message.kind)

    async def _leave(self) -> None:
        """Leave; an embedded cluster is asked about."""
        word = await leave(self, self.embedded)
        if word is not None:
            self.last_word = word
            self.exit(0)
