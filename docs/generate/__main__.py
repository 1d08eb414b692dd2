"""`python -m docs.generate`: write the pages that are made from the code."""

from __future__ import annotations

from docs.generate import DOCS, pages


def main() -> None:
    """Write each page whose text differs from what is on disk."""
    for name, text in pages().items():
        path = DOCS / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"docs/{name}")


main()
