"""A look at a cluster that is not one's own, from a process that may die of it.

Ray's driver ends its process when a cluster answers in a way that it does not expect; the caller's must go on.
`python -m red_tui.supervisor.cluster_probe HOST:PORT` connects, says how it went on its standard output, and ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence

from red_tui.errors import NotConnected
from red_tui.placement.local_ray import loopback_only, use_local_addresses

TIMEOUT = 60.0
_PATIENCE = "RAY_gcs_server_port_wait_time_s"
_MAX_ANSWER = 100_000


def probe(address: str, command: Sequence[str] = (), timeout: float = TIMEOUT) -> None:
    """Return if a driver can connect to a cluster.

    Args:
        address: `HOST:PORT`.
        command: What is run; empty: this module.
        timeout: Seconds.

    Raises:
        NotConnected: If it cannot, or its process died or hung.
    """
    command = [*(command or (sys.executable, "-m", "red_tui.supervisor.cluster_probe")), address]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        raise NotConnected(
            f"the cluster at {address} lets nobody in within {timeout:g} s: look at its logs, or name another one",
            address=address,
        ) from None
    try:
        answer = json.loads(done.stdout[:_MAX_ANSWER])
    except ValueError:
        answer = None
    if not isinstance(answer, dict) or not isinstance(answer.get("error"), str):
        how = signal.Signals(-done.returncode).name if done.returncode < 0 else f"exit code {done.returncode}"
        raise refused(address, f"a process that connected to it died ({how})")
    if answer["error"]:
        raise refused(address, answer["error"])


def refused(address: str, text: str) -> NotConnected:
    """The error for what Ray said when it could not connect, with what may help."""
    text = text.strip()[:2000]
    low = text.lower()
    if "version mismatch" in low:
        advice = "connect from an environment with the cluster's versions, or restart the cluster from this one"
    elif "token" in low or "auth" in low:
        advice = "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH to the cluster's token file"
    else:
        advice = "if it asks for a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH to its token file"
    return NotConnected(f"the cluster at {address} refused: {text}; {advice}", address=address)


@contextlib.contextmanager
def short_patience() -> Iterator[None]:
    """Let Ray give up after a few tries: without its token it would knock at a cluster that answers for 20 s."""
    given = os.environ.get(_PATIENCE)
    os.environ.setdefault(_PATIENCE, "3")
    try:
        yield
    finally:
        if given is None:
            os.environ.pop(_PATIENCE, None)


def main() -> None:
    """Connect to the address of the command line, and print a JSON object: `error` is empty if that went well."""
    address = sys.argv[1]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    error = ""
    try:
        use_local_addresses(loopback_only(address))
        with short_patience():
            import ray

            ray.init(address=address, namespace="red-probe", log_to_driver=False, logging_level="ERROR")
            ray.nodes()
    except Exception as failure:
        error = str(failure) or type(failure).__name__
    answers.write(json.dumps({"error": error}))
    answers.flush()
    # Ray's own shut-down can take seconds, and there is nothing to be put in order.
    os._exit(0)


if __name__ == "__main__":
    main()
