"""Completion of `red-console`'s command line in a shell.

A script that the shell reads once asks `red-console completion --words …` at each tab.  That answer is made from the
parser and from what lies on this machine: neither Ray nor a layout's checks are imported for it.
"""

from __future__ import annotations

import argparse
import importlib.resources
from collections.abc import Callable, Sequence
from pathlib import Path

from red_tui.errors import StateFolderError
from red_tui.nodes.states import STATES, NodeState
from red_tui.state_folder import state_folder

REMOVED = NodeState.REMOVED

BASH = """\
# red-console in bash: eval "$(red-console completion bash)"
_red_console() {
  local IFS=$'\\n'
  COMPREPLY=($(red-console completion --words "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _red_console red-console
"""

ZSH = """\
#compdef red-console
# red-console in zsh: source <(red-console completion zsh)
_red_console() {
  local -a found
  found=("${(@f)$(red-console completion --words "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  found=("${(@)found:#}")
  if (( $#found )); then compadd -a found; else _files; fi
}
compdef _red_console red-console
"""

FISH = """\
# red-console in fish: red-console completion fish | source
function __red_console
  set -l words (commandline -opc) (commandline -ct)
  red-console completion --words $words[2..-1] 2>/dev/null
end
complete -c red-console -a '(__red_console)'
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}

ParserOf = Callable[[str], "argparse.ArgumentParser"]


def candidates(words: Sequence[str], commands: Sequence[str], parser_of: ParserOf) -> list[str]:
    """What the last of some words may become; nothing where file names are as good as anything.

    Args:
        words: What is typed after the program's name; the last is being typed and may be empty.
        commands: Names of all commands.
        parser_of: The parser of a command.
    """
    *before, typed = words or [""]
    is_command = bool(before) and before[0] in commands
    parser = parser_of(before[0] if is_command else "open")
    options = [action for action in parser._actions if action.option_strings]
    last = next((one for one in options if before and before[-1] in one.option_strings), None)
    if last is not None and last.nargs != 0:
        found = _values(last)
    elif typed.startswith("-"):
        found = [name for action in options for name in action.option_strings if name.startswith("--")]
    else:
        places = [action for action in parser._actions if not action.option_strings]
        given = _given(before[1:] if is_command else before, options)
        found = _values(places[given]) if given < len(places) else []
        if not before:
            found += commands
    return sorted({word for word in found if word.startswith(typed)})


def _given(words: Sequence[str], options: Sequence[argparse.Action]) -> int:
    """How many of some words stand for themselves: neither options nor their values."""
    takes_value = {name for action in options if action.nargs != 0 for name in action.option_strings}
    pairs = zip(["", *words], words, strict=False)
    return sum(not word.startswith("-") and before not in takes_value for before, word in pairs)


def _values(action: argparse.Action) -> list[str]:
    """What an option, or a place on the command line, may be."""
    if action.choices is not None:
        return [str(choice) for choice in action.choices]
    known: dict[str, Callable[[], list[str]]] = {
        "federation": federations,
        "journal": federations,
        "layout": layouts,
        "target": lambda: [*federations(), *layouts()],
        "query": lambda: [*(f"state:{state}" for state in STATES if state is not REMOVED), "role:", "bundle:", "id:"],
        "role": lambda: ["train", "eval", "test", "train-eval", "train-eval-test"],
    }
    find = known.get(action.dest)
    return [] if find is None else find()


def federations() -> list[str]:
    """Ids of the federations that were launched from this machine."""
    # Not `home()`, which makes the folder: looking for names leaves nothing behind.
    try:
        return [path.name for path in (state_folder() / "federations").iterdir() if path.is_dir()]
    except (OSError, StateFolderError):
        return []


def layouts() -> list[str]:
    """Names of the shipped layouts, and the YAML files of this folder."""
    try:
        shipped = [item.name for item in importlib.resources.files("red_tui.layouts").iterdir()]
    except (ModuleNotFoundError, OSError):
        shipped = [item.name for item in (Path(__file__).parents[2] / "layouts").glob("*.yaml")]
    here = [path.name for pattern in ("*.yaml", "*.yml") for path in Path().glob(pattern)]
    return [*(name.removesuffix(".yaml") for name in shipped if name.endswith(".yaml")), *here]
