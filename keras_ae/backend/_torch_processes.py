"""PyTorch in several processes: how they meet, compare and exchange what they have."""

import atexit
import contextlib
import os
import socket
from typing import Any

import torch
from keras import ops
from torch import distributed

from keras_ae import machine, processes
from keras_ae.backend import _processes, _shared

# Of all processes, for what is not on a card: made by `distribute`.
_control: distributed.ProcessGroup | None = None


def count() -> int:
    """Returns how many processes train together; 1 before `distribute`."""
    return 1 if _control is None else distributed.get_world_size()


def alone() -> int:
    """Returns how many processes there are that do not train together; 0 if they do."""
    if _control is not None:
        return 0
    return distributed.get_world_size() if _is_joined() else processes.count()


def _is_joined():
    return distributed.is_available() and distributed.is_initialized()


def rank() -> int:
    """Returns which of the processes that train together this is; 0 for the first."""
    return 0 if _control is None else distributed.get_rank()


def distribute(devices: Any) -> list[str]:
    """Joins the processes that torchrun has started; returns the device of each.

    Args:
        devices: As in `keras_ae.distribute`.

    Raises:
        ValueError: If there is no such device, or the port is taken.
        ProcessesNeeded: If several are chosen in one process that is alone.
        ProcessLost: If the others can't be reached.
    """
    global _control
    if not (_is_joined() or processes.are_started()):
        return [_only_device(devices)]
    joined = distributed.get_world_size() if _is_joined() else processes.count()
    found = [f"process {rank}" for rank in range(joined)]
    _processes.check_all(devices, found, joined)
    device = _own_device()
    if _control is None:
        if not _is_joined():
            _join("nccl" if device.startswith("cuda") else "gloo")
        with _told():
            _control = distributed.new_group(backend="gloo")
    return gather(f"{socket.gethostname()} {device}")


def _only_device(devices):
    """The device that is chosen for a process that is alone."""
    found = devices_found()
    are_cards = torch.cuda.is_available()
    # Each core of a CPU may have a process, but all of them are one device.
    is_cpu = not are_cards and isinstance(devices, str) and devices == "all"
    chosen = _shared.chosen_devices(devices, found[:1] if is_cpu else found)
    if len(chosen) > 1:
        raise processes.ProcessesNeeded(chosen, are_cards)
    if not are_cards:
        return "cpu"
    torch.cuda.set_device(chosen[0])
    return found[chosen[0]]


def devices_found() -> list[str]:
    """Returns what may have a process each on this host: cards, or the CPU's cores."""
    cards = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return cards or [f"CPU core {index}" for index in range(machine.cores())]


def meeting_point() -> tuple[Any, dict[str, str]]:
    """Opens a place where processes of this host meet, at a port that is free.

    Returns:
        What keeps it open, and the environment variables that lead there.
    """
    store = distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    told = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    # As torchrun tells the processes that it starts that the place is open.
    return store, {**told, "TORCHELASTIC_USE_AGENT_STORE": "True"}


def from_first(value: Any) -> Any:
    """Returns what the first process has of a value, which can be pickled."""
    found = [value]
    with _told():
        distributed.broadcast_object_list(found, 0, group=_control)
    return found[0]


def _own_device():
    if not torch.cuda.is_available():
        return "cpu"
    number = int(os.environ.get("LOCAL_RANK", os.environ.get("RANK", 0)))
    if number >= torch.cuda.device_count():
        raise ValueError(
            "torchrun must start at most one process for each graphics card of a host. "
            f"Received: LOCAL_RANK={number}, and {torch.cuda.device_count()} cards; "
            f"start it with `--nproc-per-node {torch.cuda.device_count()}`."
        )
    torch.cuda.set_device(number)
    return f"cuda:{number}"


def _join(backend):
    try:
        distributed.init_process_group(backend)
    except (RuntimeError, ValueError) as error:
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        if "EADDRINUSE" in str(error) or "already in use" in str(error):
            raise _processes.port_taken(where) from error
        raise _processes.not_met(where) from error
    atexit.register(_end)


def _end():
    global _control
    _control = None
    if _is_joined():
        distributed.destroy_process_group()


@contextlib.contextmanager
def _told():
    """A block of exchanges, in which a process that is lost is told of."""
    try:
        yield
    except RuntimeError as error:
        raise processes.ProcessLost(_processes.LOST) from error


def gather(value: Any) -> list[Any]:
    """Returns what each process has of a small value, which can be pickled."""
    found = [None] * count()
    with _told():
        distributed.all_gather_object(found, value, group=_control)
    return found


def gathered(tensor):
    """The equal parts of all processes, in one."""
    # As bytes, of whatever type they are.
    part = tensor.contiguous().reshape(-1).view(torch.uint8)
    parts = part.new_empty(count(), part.numel())
    with _told():
        distributed.all_gather([*parts], part)
    return parts.view(tensor.dtype).reshape(-1, *tensor.shape[1:])


def summed(tensors):
    """Sums over all processes, exchanged as one."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    flat = torch.cat([tensor.reshape(-1).to(dtype) for tensor in tensors])
    with _told():
        distributed.all_reduce(flat)
    parts = flat.split([tensor.numel() for tensor in tensors])
    pairs = zip(parts, tensors, strict=True)
    return tuple(part.view(tensor.shape).to(tensor.dtype) for part, tensor in pairs)


def firsts_logs(logs):
    """The first process' logs, by which the callbacks of all decide alike."""
    values = [torch.as_tensor(value).detach().double() for value in logs.values()]
    values = ops.stack(values)
    with _told():
        distributed.broadcast(values, 0)
    return {
        name: value.to(getattr(logs[name], "dtype", value.dtype))
        for name, value in zip(logs, values, strict=True)
    }


def numbers(number: int) -> list[int]:
    """Returns the number that each process has."""
    mine = torch.tensor([number])
    found = mine.new_empty(count(), 1)
    with _told():
        distributed.all_gather([*found], mine, group=_control)
    return found.flatten().tolist()


@torch.no_grad()
def take_firsts(model):
    """Assigns the first process' values to the variables."""
    values = [v.value.detach() for v in _processes.state(model)]
    flat = [v.contiguous().reshape(-1).view(torch.uint8) for v in values]
    sizes = [part.numel() for part in flat]
    together = torch.cat(flat)
    with _told():
        distributed.broadcast(together, 0)
    for value, part in zip(values, together.split(sizes), strict=True):
        # A type's bytes must lie at a multiple of their number.
        value.copy_(part.clone().view(value.dtype).view(value.shape))


def random_state() -> tuple[Any, Any]:
    """Returns what PyTorch's random numbers go by, here and on a card."""
    cards = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    return torch.get_rng_state(), cards


def set_random_state(state: tuple[Any, Any]) -> None:
    """Goes on from what `random_state` has returned."""
    here, cards = state
    torch.set_rng_state(here)
    if cards is not None:
        torch.cuda.set_rng_state(cards)
