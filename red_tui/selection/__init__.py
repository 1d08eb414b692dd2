"""The one query language that picks nodes, for scripts and for the console.

    role:train state:virtual,released -bundle:1-4 loss:<0.5 (client_1* or id:judge_?)

Terms with a space between them must all hold; commas between values, and `or`, mean either; `-`, `!`
or `not` before a term means the opposite; parentheses group.  A bare word is looked for in ids: as a
glob if it holds `*`, `?` or `[`, else anywhere in the id.  The empty query holds for every node.
"""

from red_tui.selection.expressions import FIELDS, STATE_WORDS, Query
from red_tui.selection.query_parser import complete, parse
from red_tui.selection.stop_condition import Until

__all__ = ["FIELDS", "STATE_WORDS", "Query", "Until", "complete", "parse"]
