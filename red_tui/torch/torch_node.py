"""A node that trains a model of PyTorch: from a model and a data set to a federation in ten lines."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks
from torch.utils.data import DataLoader, Dataset, TensorDataset

from red_tui.data.ray_parts import RayPart
from red_tui.errors import RedError
from red_tui.nodes.config import round_seed, seed_of
from red_tui.nodes.learning_keys import BATCH_SIZE, LEARNING_RATE, LOCAL_EPOCHS, number_of, steps_of, whole_of
from red_tui.nodes.template import EvaluateResult, FederatedNode, FitResult, Parameters
from red_tui.torch.state_dict import load_parameters_into, state_dict_to_parameters

ARRAYS = (np.ndarray, torch.Tensor)
PRECISIONS = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class TorchNode(FederatedNode):
    """A node that trains and judges a model of PyTorch.  Write `model` and `train_data`; override what differs.

    A process makes the model once and loads it in place for each of its nodes.  Random numbers (the order of the
    examples, dropout) depend on the config's `seed`, the node's id and the round; where several nodes of a bundle work
    at a time (`concurrency`), what draws from torch's global generator is shared between them and does not.

    Keys of the config, each of which may be changed between rounds:
        learning_rate: Of the usual optimiser; 0.01.
        momentum, weight_decay: Of the usual optimiser; 0.
        batch_size: Examples a batch, where `train_data` gives no batches itself; 32.
        local_epochs: Passes over the data in a round; 1.
        local_steps: Batches in a round, in place of `local_epochs`.
        clip_gradient: Largest norm of the gradient; none.
        precision: `bfloat16` or `float16`: the forward pass runs in it (automatic mixed precision); none.
        device: `auto` (a GPU if this node has a share of one, else the CPU), `cpu` or `cuda`.
        seed: Of the initial parameters and of all random numbers; else that of the rounds.

    Attributes:
        send_frozen: Whether parameters that are not trained (`requires_grad` False) travel too.  Buffers always do.
        compile_model: Whether the model goes through `torch.compile`, once a process.
    """

    send_frozen: ClassVar[bool] = True
    compile_model: ClassVar[bool] = False

    # -- what a template says ----------------------------------------------------------------------

    def model(self) -> torch.nn.Module:
        """Make the model.  Called once a process or bundle, with the config's `seed` set."""
        raise NotImplementedError(f"{type(self).__name__} needs a method model(self) that gives its torch.nn.Module")

    def train_data(self) -> Any:
        """Give what this node learns from: a data set, a loader, a tuple of tensors or arrays, or batches.

        Left as it is, it is `self.data`, this node's part of the data set that the layout names.
        """
        return self.data

    def eval_data(self) -> Any:
        """Give what this node judges on, as `train_data` does; None: it does not judge, and counts nothing."""
        return None

    def loss(self, model: torch.nn.Module, batch: Any) -> torch.Tensor:
        """The mean loss of a batch; the usual one is cross-entropy for whole numbers, else the mean squared error.

        Args:
            model: The model, on its device.
            batch: As the data give it, on the same device; the usual loss takes a pair of inputs and targets.

        Returns:
            A tensor without dimensions.
        """
        inputs, targets = batch
        outputs = model(inputs)
        if targets.dtype.is_floating_point:
            return torch.nn.functional.mse_loss(outputs, targets)
        return torch.nn.functional.cross_entropy(outputs, targets)

    def optimizer(self, model: torch.nn.Module, config: Mapping[str, Any]) -> Any:
        """Make the optimiser of a round: stochastic gradient descent (`torch.optim.SGD`), where it is not overridden.

        Args:
            model: The model, with the round's parameters.
            config: What `fit` was given.

        Returns:
            An optimiser, or several in a list.
        """
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        return PlainSGD(
            trained,
            lr=number_of(self.config, "learning_rate", LEARNING_RATE),
            momentum=number_of(self.config, "momentum", 0.0),
            weight_decay=number_of(self.config, "weight_decay", 0.0),
        )

    def scheduler(self, optimizer: Any, config: Mapping[str, Any]) -> Any:
        """Make what changes the learning rate after each local epoch; None: nothing does."""
        return None

    def metrics(self, model: torch.nn.Module, batch: Any) -> Mapping[str, float]:
        """Figures of a batch when the node judges: means over its examples.

        The usual one is `accuracy`, for a pair of inputs and whole numbers.
        """
        inputs, targets = batch
        if targets.dtype.is_floating_point:
            return {}
        return {"accuracy": float((model(inputs).argmax(dim=1) == targets).float().mean())}

    def train_step(self, model: torch.nn.Module, batch: Any, optimizer: Any) -> float:
        """Learn from a batch.

        Args:
            model: The model, in training mode.
            batch: On the model's device.
            optimizer: What `optimizer` gave.

        Returns:
            The batch's mean loss.
        """
        optimizers = optimizer if isinstance(optimizer, (list, tuple)) else [optimizer]
        told = self.__dict__.get("_told") or self._now_told()
        for each in optimizers:
            each.zero_grad(set_to_none=True)
        if told.precision is None:
            loss = self.loss(model, batch)
        else:
            with torch.autocast(told.device.type, told.precision):
                loss = self.loss(model, batch)
        scaler = told.scaler
        (loss if scaler is None else scaler.scale(loss)).backward()
        if told.largest is not None:
            for each in optimizers if scaler is not None else ():
                scaler.unscale_(each)
            torch.nn.utils.clip_grad_norm_(model.parameters(), told.largest)
        for each in optimizers:
            each.step() if scaler is None else scaler.step(each)
        if scaler is not None:
            scaler.update()
        return float(loss.detach())

    # -- what the federation calls -----------------------------------------------------------------

    def initial_parameters(self) -> Parameters:
        """The parameters of a new model; each node gives the same."""
        with self._borrowed() as model:
            torch.manual_seed(self._seed)
            return self._parameters_of(self.model() if model.used else model.module)

    def fit(self, parameters: Parameters, config: Mapping[str, Any]) -> FitResult:
        """Train the model on this node's data, for the epochs or steps that the config says.

        Returns:
            The trained parameters, the number of examples, and the mean loss over all batches as `loss`.

        Raises:
            StateDictError: If the parameters are not the model's.
        """
        seed = round_seed(self._seed, self.node_id, int(config.get("round", 0)))
        with self._loaded(parameters) as model:
            model.train()
            told = self._now_told()
            seed_all(seed, told.device)
            data = self._batches(self.train_data(), seed)
            optimizer = self.optimizer(model, config)
            scheduler = self.scheduler(optimizer, config)
            self.__dict__["_told"], on_host = told, told.device.type == "cpu"
            total, seen, examples = 0.0, 0, None
            try:
                for epoch, batch in self._steps(data):
                    if epoch.begins and scheduler is not None:
                        scheduler.step()
                    count = _count(batch)
                    # What data give lies on the host.
                    batch = batch if on_host else _moved(batch, told.device)
                    total += self.train_step(model, batch, optimizer) * count
                    seen += count
                    examples = epoch.examples(count)
            finally:
                self.__dict__.pop("_told", None)
            if not seen:
                raise RedError(f"node {self.node_id!r} has no examples to train on: train_data gave nothing")
            return FitResult(self._parameters_of(model), examples or seen, {"loss": total / seen})

    def evaluate(self, parameters: Parameters, config: Mapping[str, Any]) -> EvaluateResult:
        """Judge the parameters on `eval_data`.

        Returns:
            Mean loss and metrics over the examples; without data nothing, with the weight 0.

        Raises:
            StateDictError: If the parameters are not the model's.
        """
        given = self.eval_data()
        if given is None:
            return EvaluateResult(0.0, 0, {})
        seed = round_seed(self._seed, self.node_id, int(config.get("round", 0)))
        with self._loaded(parameters) as model, torch.no_grad():
            model.eval()
            device = self._device
            seed_all(seed, device)
            loss, seen, sums = 0.0, 0, dict[str, float]()
            for batch in self._batches(given, seed, shuffle=False):
                count, batch = _count(batch), _moved(batch, device)
                with self._precision():
                    loss += float(self.loss(model, batch)) * count
                    told = self.metrics(model, batch)
                for name, value in told.items():
                    sums[name] = sums.get(name, 0.0) + float(value) * count
                seen += count
        if not seen:
            return EvaluateResult(0.0, 0, {})
        return EvaluateResult(loss / seen, seen, {name: value / seen for name, value in sums.items()})

    # -- one model a process -----------------------------------------------------------------------

    @property
    def _seed(self) -> int:
        return int(seed_of(self.config))

    @property
    def _device(self) -> torch.device:
        told = str(self.config.get("device", "auto"))
        if told == "auto":
            return torch.device("cuda" if _has_gpu() else "cpu")
        return torch.device(told)

    @contextlib.contextmanager
    def _borrowed(self) -> Iterator[_Model]:
        """A model of this process that no other node works with."""
        models = MODELS.setdefault(type(self), [])
        with _LOCK:
            model = models.pop() if models else None
        if model is None:
            _use_own_cpus()
            torch.manual_seed(self._seed)
            device = self._device
            model = _Model(self.model().to(device), device)
        try:
            yield model
        finally:
            with _LOCK:
                models.append(model)

    @contextlib.contextmanager
    def _loaded(self, parameters: Parameters) -> Iterator[torch.nn.Module]:
        with self._borrowed() as borrowed:
            borrowed.used = True
            device = self._device
            if borrowed.device != device:
                borrowed.module.to(device)
                borrowed.device = device
            frozen = () if self.send_frozen else _frozen(borrowed.module)
            load_parameters_into(borrowed.module, parameters, left_out=lambda name: name in frozen)
            if self.compile_model and borrowed.compiled is None:
                borrowed.compiled = torch.compile(borrowed.module)
            yield borrowed.compiled if self.compile_model else borrowed.module

    def _parameters_of(self, model: torch.nn.Module) -> Parameters:
        inner = getattr(model, "_orig_mod", model)
        frozen = () if self.send_frozen else _frozen(inner)
        # Copies: the next node is loaded into the same tensors.
        parameters = state_dict_to_parameters(inner, copy=True)
        return {name: array for name, array in parameters.items() if name not in frozen}

    # -- batches -----------------------------------------------------------------------------------

    def _batches(self, given: Any, seed: int, *, shuffle: bool = True) -> Iterable[Any]:
        """Batches of what `train_data` or `eval_data` gave."""
        batches: Iterable[Any]
        if isinstance(given, DataLoader):
            batches = given
            return batches
        if isinstance(given, Mapping):
            given = tuple(given.values())
        if isinstance(given, (tuple, list)) and given and all(isinstance(one, ARRAYS) for one in given):
            given = TensorDataset(*map(_as_tensor, given))
        if type(given) is TensorDataset and len(given):
            return TensorBatches(given.tensors, whole_of(self.config, "batch_size", BATCH_SIZE), seed, shuffle)
        if isinstance(given, RayPart):
            return StreamBatches(given, whole_of(self.config, "batch_size", BATCH_SIZE))
        if isinstance(given, Dataset) or (isinstance(given, Sequence) and not isinstance(given, (list, tuple))):
            generator = torch.Generator().manual_seed(seed)
            batches = DataLoader(
                given, whole_of(self.config, "batch_size", BATCH_SIZE), shuffle=shuffle, generator=generator
            )
            return batches
        if isinstance(given, Iterable):
            return given
        raise TypeError(
            f"node {self.node_id!r}: its data are {type(given).__name__}: give a torch data set, a DataLoader, a tuple"
            " of tensors or arrays, or batches"
        )

    def _steps(self, batches: Iterable[Any]) -> Iterator[tuple[_Epoch, Any]]:
        """The batches of a round, over and over if need be."""
        limit, epochs = steps_of(self.config), whole_of(self.config, "local_epochs", LOCAL_EPOCHS)
        done, epoch = 0, _Epoch(0)
        while (limit is None and epoch.number < epochs) or (limit is not None and done < limit):
            empty = True
            for batch in batches:
                empty = False
                yield epoch, batch
                epoch.begins = False
                done += 1
                if limit is not None and done >= limit:
                    return
            if empty:
                return
            epoch = _Epoch(epoch.number + 1, epoch.whole or epoch.count)

    def _now_told(self) -> _Told:
        """What the config says of training, at this time."""
        told, largest = self.config.get("precision"), self.config.get("clip_gradient")
        if told is not None and told not in PRECISIONS:
            raise ValueError(f"precision must be {' or '.join(PRECISIONS)}, not {told!r}")
        device = self._device
        scaled = told == "float16" and device.type == "cuda"
        scaler = torch.amp.GradScaler("cuda") if scaled else None
        return _Told(device, PRECISIONS.get(told), None if largest is None else float(largest), scaler)

    def _precision(self) -> Any:
        told = self._now_told()
        return contextlib.nullcontext() if told.precision is None else torch.autocast(told.device.type, told.precision)


class _Told(NamedTuple):
    """What a config says of training: where, in which precision, how long a gradient may be, and what scales losses."""

    device: torch.device
    precision: Any
    largest: float | None
    scaler: Any


class PlainSGD(torch.optim.SGD):  # type: ignore[misc]
    """`torch.optim.SGD`: the same numbers, with a shorter way to them where there is neither momentum nor decay."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget gradients; see `torch.optim.Optimizer.zero_grad`."""
        if not set_to_none:
            super().zero_grad(set_to_none=False)
            return
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def step(self, closure: Any = None) -> Any:
        """Move against the gradients; see `torch.optim.SGD.step`."""
        moved = [[one for one in group["params"] if one.grad is not None] for group in self.param_groups]
        if closure is not None or self._is_watched() or not all(map(_is_plain, self.param_groups, moved)):
            step = torch.optim.SGD.step
            return (step if hasattr(step, "hooked") else self.profile_hook_step(step))(self, closure)
        with torch.no_grad():
            for group, parameters in zip(self.param_groups, moved, strict=True):
                if parameters:
                    torch._foreach_add_(parameters, [one.grad for one in parameters], alpha=-group["lr"])
        return None

    # Torch wraps a step for its profiler and for hooks where it does not find this.
    step.hooked = True  # type: ignore[attr-defined]

    def _is_watched(self) -> bool:
        own = self._optimizer_step_pre_hooks or self._optimizer_step_post_hooks
        return bool(own or _global_optimizer_pre_hooks or _global_optimizer_post_hooks)


def _is_plain(group: Mapping[str, Any], moved: Sequence[torch.Tensor]) -> bool:
    """Whether a step is the gradient times the rate, and no more."""
    special = ("momentum", "weight_decay", "maximize", "differentiable", "fused")
    return (
        not any(group.get(key) for key in special)
        and isinstance(group["lr"], float)
        and not any(one.grad.is_sparse for one in moved)
    )


class TensorBatches:
    """Batches of tensors whose first dimension are the examples: those of torch's `DataLoader`, cut out at once.

    Args:
        tensors: Of one length.
        batch_size: Examples a batch; the last may have fewer.
        seed: Of the order; each pass has another one.
        shuffle: Whether the order is random.
    """

    def __init__(self, tensors: Sequence[torch.Tensor], batch_size: int, seed: int, shuffle: bool) -> None:
        self.tensors, self.batch_size, self.shuffle = tensors, batch_size, shuffle
        self._generator = torch.Generator().manual_seed(seed)

    def __iter__(self) -> Iterator[list[torch.Tensor]]:
        size = len(self.tensors[0])
        # As DataLoader does: a seed for its workers comes first, then the order, and another at the end of a pass.
        torch.empty((), dtype=torch.int64).random_(generator=self._generator)
        if not self.shuffle:
            for start in range(0, size, self.batch_size):
                yield [tensor[start : start + self.batch_size] for tensor in self.tensors]
            return
        order = torch.randperm(size, generator=self._generator)
        for start in range(0, size, self.batch_size):
            chosen = order[start : start + self.batch_size]
            yield [tensor[chosen] for tensor in self.tensors]
        torch.randperm(size, generator=self._generator)


class StreamBatches:
    """Batches of a stream of Ray Data, as tensors in the order of its columns; each pass reads it anew.

    Args:
        part: The stream.
        batch_size: Rows a batch.
    """

    def __init__(self, part: RayPart, batch_size: int) -> None:
        self.part, self.batch_size = part, batch_size

    def __iter__(self) -> Iterator[list[torch.Tensor]]:
        for batch in self.part.iter_batches(self.batch_size):
            yield [_as_tensor(column) for column in batch.values()]


class _Model:
    """A model of this process, and its compiled form."""

    def __init__(self, module: torch.nn.Module, device: torch.device) -> None:
        self.module, self.device = module, device
        self.compiled: Any = None
        self.used = False


class _Epoch:
    """One pass over the data: its number, and how many examples a whole pass has."""

    def __init__(self, number: int, whole: int = 0) -> None:
        self.number, self.whole = number, whole
        self.begins = number > 0
        self.count = 0

    def examples(self, more: int) -> int:
        """Examples of one pass, as far as they have been counted, with so many more."""
        self.count += more
        return self.whole or self.count


MODELS: dict[type, list[_Model]] = {}
_LOCK = threading.Lock()
_cpus_set = False


def _use_own_cpus() -> None:
    """Let torch use the CPUs of this process's share, at least one: else each process would take all of the machine."""
    global _cpus_set
    if _cpus_set:
        return
    _cpus_set = True
    import ray

    if not ray.is_initialized() or ray.get_runtime_context().worker.mode != ray.WORKER_MODE:
        return
    share = ray.get_runtime_context().get_assigned_resources()
    cpus = sum(value for name, value in share.items() if name == "CPU" or name.startswith("CPU_group"))
    torch.set_num_threads(max(1, int(cpus)))


def _has_gpu() -> bool:
    """Whether this process may use a GPU: in a worker of Ray, if it has a share of one."""
    if not torch.cuda.is_available():
        return False
    import ray

    in_worker = ray.is_initialized() and ray.get_runtime_context().worker.mode == ray.WORKER_MODE
    return not in_worker or bool(ray.get_gpu_ids())


def seed_all(seed: int, device: torch.device) -> None:
    """Seed torch's own generators: the host's alone where nothing else is used, in a hundredth of the time."""
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def _as_tensor(value: Any) -> torch.Tensor:
    """A tensor of an array; one that cannot be written to, as from Ray's object store, is copied."""
    if isinstance(value, torch.Tensor):
        return value
    return torch.from_numpy(value if value.flags.writeable else value.copy())


def _frozen(model: torch.nn.Module) -> frozenset[str]:
    return frozenset(name for name, parameter in model.named_parameters() if not parameter.requires_grad)


def _count(batch: Any) -> int:
    """Examples of a batch: the length of its first tensor."""
    if isinstance(batch, torch.Tensor):
        return len(batch)
    inner = batch.values() if isinstance(batch, Mapping) else batch
    return next((_count(one) for one in inner if isinstance(one, (torch.Tensor, Mapping, list, tuple))), 1)


def _moved(batch: Any, device: torch.device) -> Any:
    """A batch on a device; lists, tuples and mappings of tensors stay what they are."""
    if isinstance(batch, torch.Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        return {name: _moved(one, device) for name, one in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(_moved(one, device) for one in batch))
    if isinstance(batch, (list, tuple)):
        return type(batch)(_moved(one, device) for one in batch)
    return batch
