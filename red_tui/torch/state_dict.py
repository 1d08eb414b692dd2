"""Between state dicts of PyTorch and parameters: arrays by name, in the order of the state dict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from red_tui.errors import RedError
from red_tui.nodes.arrays import fits_type
from red_tui.nodes.extension_types import extension_type
from red_tui.nodes.template import Parameters

_AS_BITS = {
    torch.bfloat16: (torch.int16, "bfloat16"),
    torch.float8_e4m3fn: (torch.int8, "float8_e4m3fn"),
    torch.float8_e5m2: (torch.int8, "float8_e5m2"),
}
"""Types that numpy lacks: what has their bits, and their name among the types of `ml_dtypes`."""

NAMED = 5


class StateDictError(RedError, ValueError):
    """Parameters and a model do not belong together.  Fields: names."""


def state_dict_to_parameters(state_dict: Any, *, copy: bool = False) -> Parameters:
    """Parameters from a model or a state dict.

    Args:
        state_dict: A module, or what its `state_dict()` gives: tensors by name, buffers included.
        copy: Whether the arrays are copies.  Else those of tensors on the CPU share memory with them, and change with
            the model.

    Returns:
        Arrays by name in the order of the state dict.  A tensor that stands under several names (tied weights) is there
        once, under the first.  bfloat16 and float8 are arrays of the types of `ml_dtypes`.

    Raises:
        TypeError: If a value is no tensor.
        ModuleNotFoundError: If `ml_dtypes` is needed and not installed.
    """
    tensors = state_dict.state_dict(keep_vars=True) if hasattr(state_dict, "state_dict") else state_dict
    return {name: _array(tensor, copy) for name, tensor in _untied(tensors).items()}


def parameters_to_state_dict(parameters: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """A state dict from parameters, for a model's `load_state_dict`.

    Tied weights are there once: load with `strict=False`, or let `load_parameters_into` load them.

    Args:
        parameters: Arrays by name.

    Returns:
        Tensors by name.  They share memory with arrays that can be written to; those that cannot (as parameters that
        come from Ray's object store) are copied.
    """
    return {name: _tensor(np.asarray(value)) for name, value in parameters.items()}


def load_parameters_into(
    model: torch.nn.Module, parameters: Mapping[str, Any], *, left_out: Callable[[str], bool] = lambda name: False
) -> None:
    """Write parameters into a model, in place: no tensor of it is replaced.

    Args:
        model: The model.
        parameters: Arrays by the names of its state dict.
        left_out: Of a name that is not in `parameters`, whether it keeps what the model has.

    Raises:
        StateDictError: If names, shapes or kinds of type are not the model's.
    """
    tensors = _untied(model.state_dict(keep_vars=True))
    missing = [name for name in tensors if name not in parameters and not left_out(name)]
    unknown = [name for name in parameters if name not in tensors]
    if missing or unknown:
        told = [f"{what} {_named(names)}" for what, names in (("it lacks", missing), ("not of it:", unknown)) if names]
        raise StateDictError(
            f"these are not the parameters of {type(model).__name__}: {'; '.join(told)}", names=missing + unknown
        )
    with torch.no_grad():
        for name, value in parameters.items():
            _write(tensors[name], np.asarray(value), name)


def _write(tensor: torch.Tensor, array: Any, name: str) -> None:
    if tuple(tensor.shape) != array.shape:
        raise StateDictError(
            f"{name!r} has the shape {array.shape}, and the model's is {tuple(tensor.shape)}", names=[name]
        )
    if tensor.device.type != "cpu":
        tensor.copy_(_tensor(array))
        return
    place = _array(tensor, copy=False)
    if place.dtype != array.dtype and not fits_type(array.dtype, place.dtype):
        raise StateDictError(f"{name!r} is {array.dtype}, and the model's is {place.dtype}", names=[name])
    place[...] = array


def _untied(tensors: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Each tensor under its first name only."""
    first: dict[Any, str] = {}
    untied = {}
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor):
            raise TypeError(
                f"{name!r} is {type(tensor).__name__}, no tensor: parameters are the tensors of a state dict"
            )
        place = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype, str(tensor.device))
        if tensor.numel() == 0 or first.setdefault(place, name) == name:
            untied[name] = tensor
    return untied


def _array(tensor: torch.Tensor, copy: bool) -> Any:
    tensor = tensor.detach()
    on_host = tensor.cpu()
    bits = _AS_BITS.get(on_host.dtype)
    array: Any
    if bits:
        # A view with other bits needs an array with dimensions.
        array = on_host.contiguous().reshape(-1).view(bits[0]).numpy().view(extension_type(bits[1]))
        array = array.reshape(tuple(tensor.shape))
    else:
        array = on_host.numpy()
    return array.copy() if copy and on_host is tensor else array


def _tensor(array: Any) -> torch.Tensor:
    for tensor_type, (bits, name) in _AS_BITS.items():
        if array.dtype.name == name:
            flat = np.array(array, copy=not array.flags.writeable or None).reshape(-1)
            whole = torch.from_numpy(flat.view(f"int{8 * array.dtype.itemsize}")).view(tensor_type)
            assert whole.element_size() == torch.empty(0, dtype=bits).element_size()
            return whole.reshape(array.shape)
    # One that cannot be written to would be changed behind its owner's back.
    return torch.from_numpy(np.array(array, copy=not array.flags.writeable or None))


def _named(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
