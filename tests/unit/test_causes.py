"""Texts as Ray 2.60 wrote them when processes, hosts and memory really went; shortened at the end only."""

from __future__ import annotations

import pytest
from ray import exceptions

from red_tui.nodes.failures import cause_of_death, first_sentence

HEAD = """The actor died unexpectedly before finishing this task.
	class_name: A
	actor_id: 6b97d6ae364fc011d8751f9801000000
	pid: 5644
	namespace: red
	ip: 192.0.2.2
"""
SUDDEN = HEAD + (
    "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker"
    " unexpectedly exits with a connection error code 2. End of file. Some common causes include: (1) the process was"
    " killed by the OOM killer due to high memory usage, (2) ray stop --force was called, or (3) the worker crashed"
    " unexpectedly due to SIGSEGV or another unexpected error. If the process was killed by the kernel OOM killer"
    " (verifiable by checking for OOM in dmesg of the OOMing node), consider enabling resource isolation via"
    " --enable-resource-isolation to prevent node deaths by resource contention."
)
HOST_LOST = HEAD + (
    "The actor died because its node has died. Node Id: 93f6c1452d2ca846a619ad77b5f231330349a70a2fbb289c398600cc\n"
    "	the actor's node was terminated unexpectedly: health check failed due to missing too many heartbeats"
)
HOST_LEFT = HEAD + (
    "The actor died because its node has died. Node Id: 2fa0f840a1da8c548cfe3a6af23c099329402f5bc62e6c08ab1c25ac\n"
    "	the actor's node was terminated expectedly: received SIGTERM"
)
GROUP_REMOVED = HEAD + (
    "The actor is dead because its worker process has died. Worker exit type: INTENDED_SYSTEM_EXIT Worker exit detail:"
    " Destroying worker since its placement group was removed. Placement group id: c400321c235b6e6734e8d2c78b5c01000000"
)
OWNER = HEAD + (
    "The actor is dead because its owner has died. Owner Id: 28f3ede09363984804246f6e2ec3dece0aa67caf2ee9b66dedcbbb10"
    " Owner Ip address: 192.0.2.2 Owner worker exit type: SYSTEM_ERROR Worker exit detail: Owner's worker process has"
    " crashed."
)
MEMORY = """1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 192.0.2.2, ID: \
1b8c79173885046946fb64b6e6b8fbbcdf214671a40058829f18d8f4) was 1.59GB used / 23.54GB limit (0.067498)
OOM kill reason: Memory usage 1697918976B exceeded threshold of 252765008B (1.0% of 25276502016B limit)
Ray killed 1 worker(s) based on the killing policy
Selected to kill: (Actor(274f855e795d967c0b9d952301000000): job ID=01000000, task name=A.__init__, required \
resources={}, pid=7538, actual memory used=0.20GB, worker ID=5d3eb5f93ab79defd905bf8af9d00db251d7230298f46418420b10cb)
"""
MEMORY_BEFORE_2_56 = (
    "Task was killed due to the node running low on memory.\nMemory on the node (IP: 192.0.2.2, ID: 1b8c) where the"
    " task was running was 15.21GB / 16.00GB (0.950625), which exceeds the memory usage threshold of 0.95."
)
CONSTRUCTOR = """The actor died because of an error raised in its creation task, \x1b[36mray::A.__init__()\x1b[39m \
(pid=5645, ip=192.0.2.2, actor_id=f2f2137967f7b1f0c33a866d01000000, repr=<texts.A object at 0x7f0d590ecb10>)
           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/tmp/texts.py", line 16, in __init__
    if fail: raise ValueError("no\\nsecond line")
             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
ValueError: no
second line"""
METHOD = """\x1b[36mray::A.boom()\x1b[39m (pid=6211, ip=192.0.2.2, actor_id=f9ebf41e4dbcde86335d5d9501000000)
           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/tmp/texts.py", line 23, in boom
    def boom(self): raise KeyError("x")
KeyError: 'x'"""
TASK_NODE = (
    "Task failed because the node it was running on is dead or unavailable. Node IP: 192.0.2.2, node ID: a413d1ec."
    " This can happen if the node was preempted, had a hardware failure, or its raylet crashed unexpectedly."
)
TAKEN = (
    "The name fed/x (namespace=None) is already taken. Please use a different name or get the existing actor using"
    " ray.get_actor('fed/x', namespace='None')"
)
CLOSED = "The actor is temporarily unavailable: RpcError: RPC error: Socket closed rpc_code: 14"
AFFINITY = (
    "The node specified via NodeAffinitySchedulingStrategy doesn't exist any more or is infeasible, and soft=False was"
    " specified."
)


def died(text: str) -> exceptions.ActorDiedError:
    error = exceptions.ActorDiedError()
    error.error_msg = text
    return error


class RaisedInMethod(exceptions.RayTaskError):
    """A raised method's error without the process that raised it."""

    def __init__(self) -> None:
        Exception.__init__(self)

    def __str__(self) -> str:
        return METHOD


SURE = [
    (
        died(SUDDEN),
        "the process ended without a word: killed by a signal (SIGKILL, the kernel out of memory) or crashed",
    ),
    (
        died(SUDDEN + "\nThe actor never ran - it was cancelled before it started running."),
        "the process ended without a word while it started: killed by a signal (SIGKILL, the kernel out of memory) or"
        " crashed",
    ),
    (
        exceptions.WorkerCrashedError(),
        "the process ended without a word: killed by a signal (SIGKILL, the kernel out of memory) or crashed",
    ),
    (
        exceptions.OutOfMemoryError(MEMORY),
        "out of memory: host 192.0.2.2 had 1.59 of 23.54 GB in use, this process 0.20 GB of it; Ray ended it to"
        " protect the host",
    ),
    (
        exceptions.OutOfMemoryError(MEMORY + MEMORY[MEMORY.index("Selected") :]),
        "out of memory: host 192.0.2.2 had 1.59 of 23.54 GB in use; Ray ended it to protect the host",
    ),
    (
        died(MEMORY_BEFORE_2_56),
        "out of memory: host 192.0.2.2 had 15.21 of 16.00 GB in use; Ray ended it to protect the host",
    ),
    (
        died(HOST_LOST),
        "host lost: the machine that ran it (192.0.2.2) left the cluster (health check failed due to missing too many"
        " heartbeats)",
    ),
    (died(HOST_LEFT), "host lost: the machine that ran it (192.0.2.2) left the cluster (received SIGTERM)"),
    (exceptions.NodeDiedError(TASK_NODE), "host lost: the machine that ran it (192.0.2.2) left the cluster"),
    (died(GROUP_REMOVED), "its bundle was given back: the placement group was removed"),
    (exceptions.ActorPlacementGroupRemoved(), "its bundle was given back: the placement group was removed"),
    (
        died(HEAD + "The actor is dead because it was killed by `ray.kill`."),
        "the process was ended on purpose (ray.kill or exit)",
    ),
    (died(OWNER), "the process that owned it is gone"),
    (died(CONSTRUCTOR), "its constructor raised: ValueError: no second line"),
    (
        exceptions.ActorAlreadyExistsError(TAKEN),
        "name taken: another actor is called fed/x: end it, or use another federation or node id",
    ),
    (exceptions.ActorUnschedulableError(AFFINITY), f"cannot be placed: {AFFINITY}"),
    (
        exceptions.RuntimeEnvSetupError("pip could not find a version of nothing"),
        "its runtime environment could not be set up: pip could not find a version of nothing",
    ),
    (RuntimeError("something that nobody has seen before"), "something that nobody has seen before"),
    (RuntimeError(), "RuntimeError"),
]


@pytest.mark.parametrize(("error", "text"), SURE, ids=lambda value: type(value).__name__)
def test_rays_reasons_become_an_operators_words(error: BaseException, text: str) -> None:
    cause = cause_of_death(error)
    assert cause.text == text
    assert cause.died and not cause.unsure
    assert "\x1b" not in cause.traceback


def test_a_sudden_end_is_not_called_out_of_memory_on_rays_guess() -> None:
    assert not cause_of_death(died(SUDDEN)).text.startswith("out of memory")


def test_what_the_memory_monitor_ended_is_not_called_a_constructor_that_raised() -> None:
    assert "__init__" in MEMORY and "constructor" not in cause_of_death(exceptions.OutOfMemoryError(MEMORY)).text


def test_a_lost_connection_is_told_from_a_death_that_ray_is_sure_of() -> None:
    cause = cause_of_death(exceptions.ActorUnavailableError(CLOSED, None))
    assert cause.unsure and cause.died
    assert cause.text == (
        "its process does not answer (Socket closed): it or its host has gone, or it is being restarted"
    )


def test_a_call_that_raised_or_was_late_leaves_the_process_alive() -> None:
    assert cause_of_death(RaisedInMethod()) == cause_of_death(RaisedInMethod())
    assert cause_of_death(RaisedInMethod()).text == "raised KeyError: 'x'"
    assert not cause_of_death(RaisedInMethod()).died
    late = cause_of_death(exceptions.GetTimeoutError("Get timed out: some object(s) not ready."))
    assert late.text == "it did not answer in time" and not late.died


def test_a_cause_is_one_line() -> None:
    assert first_sentence("a\n b\t\tc " + "x" * 500, 20) == "a b c xxxxxxxxxxxxx…"
    for error, _ in SURE:
        assert "\n" not in cause_of_death(error).text
