"""JAX in several processes: how they meet and exchange what they have.

Arrays of all processes live inside a step only. What goes in and what comes out are
arrays of this process, the same in each.
"""

import contextlib
import functools
import os
import pickle
import socket
import sys
from collections.abc import Callable
from typing import Any

import jax
import keras
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from keras_ae import processes
from keras_ae.backend import _jax_meeting, _processes, _shared

# Of all processes: made by `distribute`.
_mesh: Mesh | None = None
# None where the user has brought them together.
_meeting: _jax_meeting.Meeting | None = None

_AXIS = "batch"


def count() -> int:
    """Returns how many processes train together; 1 before `distribute`."""
    return 1 if _mesh is None else jax.process_count()


def rank() -> int:
    """Returns which of the processes that train together this is; 0 for the first."""
    return 0 if _mesh is None else jax.process_index()


def alone() -> int:
    """Returns how many processes there are that do not train together; 0 if they do."""
    if _mesh is not None or keras.distribution.distribution() is not None:
        return 0
    return jax.process_count() if _is_joined() else processes.count()


def are_several() -> bool:
    """Whether there are several processes, which may not train together yet."""
    if _mesh is not None:
        return True
    return (jax.process_count() if _is_joined() else processes.count()) > 1


def _is_joined():
    return jax.distributed.is_initialized()


def distribute(devices: Any) -> tuple[Mesh, list[str]]:
    """Joins the processes that were started together.

    Args:
        devices: As in `keras_ae.distribute`.

    Returns:
        The devices of all processes, and what they are called.

    Raises:
        ValueError: If there is no such device, the port is taken, or it is too late.
        ProcessLost: If the others can't be reached.
    """
    global _mesh
    if _mesh is None and not _is_joined():
        _join()
    # Only when all have been brought together does it take part in an exchange.
    mesh = _mesh or Mesh(np.array(jax.devices()), (_AXIS,))
    _processes.check_all(devices, [*map(str, jax.devices())], jax.process_count())
    if _mesh is None:
        _mesh = mesh
        # By now all know each other. On a CPU nothing else is asked of JAX's service,
        # without which a process need not be aborted that has lost another.
        gather(None)
        from_first(None)
        if _meeting is not None and jax.default_backend() == "cpu":
            with told():
                jax.distributed.shutdown()
    here = [f"{socket.gethostname()} {device}" for device in jax.local_devices()]
    return _mesh, [name for names in gather(here) for name in names]


def _join():
    global _meeting
    # Not public; `jax.distributed.initialize` asks it only when all have met.
    from jax._src.xla_bridge import backends_are_initialized

    if backends_are_initialized():
        raise ValueError(
            "`keras_ae.distribute()` must be called in each of several processes "
            "before JAX computes anything. Received: a process in which it has; call "
            "it right after the imports."
        )
    place = {name: os.environ[name] for name in ("MASTER_ADDR", "MASTER_PORT")}
    mine, joined = int(os.environ["RANK"]), processes.count()
    port = int(place["MASTER_PORT"])
    # torchrun keeps the port itself.
    port += os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    _meeting = _jax_meeting.meet(place["MASTER_ADDR"], port, mine, joined)
    host = "127.0.0.1" if mine == 0 else place["MASTER_ADDR"]
    host = f"[{host}]" if ":" in host else host
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    with told():
        jax.distributed.initialize(
            f"{host}:{_meeting.port}",
            joined,
            mine,
            local_device_ids=_own_cards(),
            cluster_detection_method="deactivate",
        )


def _own_cards():
    """The graphics card of this process, where others of its host have the others."""
    number = os.environ.get("LOCAL_RANK")
    if number is None or os.environ.get("LOCAL_WORLD_SIZE") == "1":
        return None
    return [int(number)]


@contextlib.contextmanager
def told():
    """A block of exchanges, in which a process that is lost is told of."""
    if _meeting is not None and _meeting.gone.is_set():
        raise processes.ProcessLost(_processes.LOST)
    try:
        with _meeting or contextlib.nullcontext():
            yield
    except (RuntimeError, ValueError) as error:
        # What carries it, and JAX's service.
        carriers = ("Gloo", "NCCL", "coordination")
        if not any(carrier in str(error) for carrier in carriers):
            raise
        raise processes.ProcessLost(_processes.LOST) from error


class Steps:
    """Steps that all processes take together.

    Attributes:
        dispatches: How often steps were taken.
    """

    def __init__(self):
        self.dispatches = 0
        # Data that lie on the device, and the same on the devices of all processes.
        self._data: tuple[Any, Any] = (None, None)

    def take(self, take: Callable, state: Any, blocks: Any, batches: Any) -> Any:
        """Returns what `take` does: logs, and the new state.

        Args:
            take: Function of the state on all devices, of blocks and of batches.
            state: Arrays of this process.
            blocks, batches: What the steps are given.
        """
        thorough = self.dispatches % _processes.OFTEN == 0
        self.dispatches += 1
        given = [block.parts for block in blocks], batches
        _processes.compare(sys.modules[__name__], given, thorough)
        if thorough:
            # Rounding may differ from device to device, and must not add up.
            state = firsts(state)
        with told():
            taken = take(self.spread(state), blocks, batches)
            taken = jax.tree.map(lambda value: value.addressable_data(0), taken)
            return jax.block_until_ready(taken)

    def spread_block(self, block: _shared.Block) -> _shared.Block:
        """Returns a block whose arrays are whole on each device."""
        parts = self.spread(block.parts)
        if block.rows is None:
            return block._replace(data=parts)
        if self._data[0] is not block.data:
            self._data = block.data, self.spread(block.data)
        rows, keys = parts
        return block._replace(data=self._data[1], rows=rows, keys=keys)

    def spread(self, values: Any) -> Any:
        """Returns arrays that are whole on each device, of those of this process."""
        mesh = _mesh
        assert mesh is not None
        whole = NamedSharding(mesh, PartitionSpec())

        def spread(value):
            copies = [jax.device_put(value, device) for device in mesh.local_devices]
            shape = copies[0].shape
            return jax.make_array_from_single_device_arrays(shape, whole, copies)

        return jax.tree.map(spread, values)


@functools.cache
def _exchange(firsts):
    """A function of what each device has: of the first's, or of all in one."""
    mesh = _mesh
    assert mesh is not None

    def exchange(rows):
        if not firsts:
            return rows
        is_first = jax.numpy.arange(mesh.size)[:, None] == 0
        return jax.numpy.where(is_first, rows, 0).sum(axis=0, dtype=rows.dtype)

    return jax.jit(exchange, out_shardings=NamedSharding(mesh, PartitionSpec()))


def _exchanged(content, size, firsts=False):
    """Bytes of the first process, or a row of bytes of each, filled up to a size."""
    mesh = _mesh
    assert mesh is not None
    row = np.zeros((1, size), "uint8")
    row[0, : len(content)] = np.frombuffer(content, "uint8")
    devices = mesh.local_devices
    with told():
        rows = jax.make_array_from_single_device_arrays(
            (mesh.size, size),
            NamedSharding(mesh, PartitionSpec(mesh.axis_names)),
            [jax.device_put(row, device) for device in devices],
        )
        found = np.asarray(_exchange(firsts)(rows).addressable_data(0))
    if firsts:
        return found.tobytes()
    owners = [device.process_index for device in mesh.devices.flat]
    return [found[owners.index(rank)].tobytes() for rank in range(count())]


def numbers(number: int) -> list[int]:
    """Returns the number that each process has."""
    rows = _exchanged(number.to_bytes(8), 8)
    return [*map(int.from_bytes, rows)]


def gather(value: Any) -> list[Any]:
    """Returns what each process has of a small value, which can be pickled."""
    content = pickle.dumps(value)
    # Few sizes are compiled.
    size = _size(max(numbers(len(content))))
    return [*map(pickle.loads, _exchanged(content, size))]


def from_first(value: Any) -> Any:
    """Returns what the first process has of a value, which can be pickled."""
    content = pickle.dumps(value) if rank() == 0 else b""
    size = _size(numbers(len(content))[0])
    return pickle.loads(_exchanged(content, size, firsts=True))


def _size(needed):
    return 1 << (needed - 1).bit_length()


def take_firsts(model: keras.Model) -> None:
    """Assigns the first process' values to the variables."""
    variables = _processes.state(model)
    values = firsts([variable.value for variable in variables])
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def firsts(values: Any) -> Any:
    """Returns what the first process has of arrays in any structure."""
    leaves, structure = jax.tree.flatten(values)
    found = from_first([*map(np.asarray, leaves)] if rank() == 0 else None)
    return jax.tree.unflatten(structure, map(jax.numpy.asarray, found))


def random_state() -> None:
    """Returns nothing: JAX's random numbers go by what they are given."""


def set_random_state(state: None) -> None:
    """Does nothing."""
