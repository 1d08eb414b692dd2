"""A bare Textual app: the baseline of the console's first frame."""

from textual.app import App, ComposeResult
from textual.widgets import Footer, Header, Static


class Bare(App[None]):
    """Header, static, footer."""

    def compose(self) -> ComposeResult:
        yield Header()
        yield Static("first frame")
        yield Footer()


if __name__ == "__main__":
    Bare().run()
