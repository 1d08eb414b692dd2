"""What the name of a measure tells of it."""

from __future__ import annotations

import re

_LOW_IS_GOOD = re.compile(
    r"(^|[ _.\-])(loss|losses|err|error|errors|mse|mae|rmse|mape|nll|bce|perplexity|ppl|distance|divergence|seconds"
    r"|time|latency|epsilon|wer|cer|fid|regret|cost)($|[ _.\-])",
    re.IGNORECASE,
)


def lower_is_better(name: str) -> bool:
    """Whether low values of a measure are the good ones, as its name tells: losses, errors, times, distances."""
    return _LOW_IS_GOOD.search(name) is not None
