"""What a process of nodes sees of its machine's GPUs: its share, and nothing without one."""

from __future__ import annotations

import os

VISIBLE = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
"""Variables by which the libraries of GPUs are told what they may see."""

LEFT_ALONE = ("RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES", "RAY_EXPERIMENTAL_NOSET_HIP_VISIBLE_DEVICES")
"""With one of these an operator says that nobody is to set the other ones."""


def hide_devices_of_others() -> None:
    """Let a process of an actor without a share of a GPU see none.

    Ray tells actors with a share which devices are theirs; those without see all of the machine's, and a model of
    theirs would land on a device that others have to themselves.
    """
    import ray

    if ray.get_gpu_ids() or any(name in os.environ for name in LEFT_ALONE):
        return
    for name in VISIBLE:
        os.environ[name] = ""
