"""`python -m docs.generate`: write the pages that are made from the code; with --check only say which are stale."""

from __future__ import annotations

import sys
from difflib import ndiff

from docs.generate import COMMAND, DOCS, pages


def main(check: bool) -> int:
    """Write each page whose text differs from what is on disk, or say which do; gives an exit code."""
    stale = {}
    for name, text in pages().items():
        path = DOCS / name
        found = path.read_text(encoding="utf-8") if path.is_file() else ""
        if found != text:
            changed = (line for line in ndiff(found.splitlines(), text.splitlines()) if line[0] in "+-")
            stale[name] = next(changed, "its last line")
            if not check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
    for name, line in stale.items():
        print(f"docs/{name}" + (f" is stale: {line}" if check else ""))
    if check and stale:
        print(f"say `{COMMAND}`, and commit what it writes")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
