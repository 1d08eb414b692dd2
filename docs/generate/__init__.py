"""The pages of `docs/` that are made from the code: layouts, verbs, keys, the API, the rooms and their picture."""

from __future__ import annotations

from pathlib import Path

from docs.generate import api_pages, key_page, layout_page, rooms, verb_page

DOCS = Path(__file__).parents[1]
COMMAND = "make docs-generate"
NOTE = f"<!-- Made from the code by `{COMMAND}`: change the code, not this page. -->\n\n"


def pages() -> dict[str, str]:
    """Each generated file's path below `docs/`, and its text."""
    graph = rooms.RoomGraph.of_the_package()
    made = {
        "reference/layouts.md": layout_page.page(),
        "reference/settings.md": layout_page.settings_page(),
        "reference/verbs.md": verb_page.page(),
        "reference/keys.md": key_page.page(),
        **{f"reference/api/{name}.md": text for name, text in api_pages.pages().items()},
        "explanation/rooms.md": graph.page(),
        "explanation/rooms.svg": graph.picture(),
    }
    return {path: NOTE + text if path.endswith(".md") else text for path, text in made.items()}
