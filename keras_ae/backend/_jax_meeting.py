"""Where processes meet before JAX does, and how each learns that another is gone.

JAX aborts a process that can't have its port or waits in vain for the others, and one
that waits for a graphics card of a process that is gone may wait forever.
"""

import contextlib
import errno
import os
import selectors
import socket
import struct
import threading
import time
from collections.abc import Sequence

from keras_ae import processes
from keras_ae.backend import _processes

_WITHIN = 300.0  # seconds for all to come
_BETWEEN = 0.2  # seconds from one attempt to the next
# Seconds for an exchange to fail by itself when a process is gone.
_PATIENCE = 10.0
# What a process that comes says first: its mark, its number and how many there are.
_COMING = struct.Struct("!8sII")
# What the first one answers: the port of JAX's own service.
_ANSWER = struct.Struct("!8sI")
_MARK = b"keras-ae"


class Meeting:
    """The connections between the first process and each other one.

    Args:
        connections: On the first process to all others, on those to the first.
        port: Of JAX's own service, on the first one's host.

    Attributes:
        gone: Whether a process is.
    """

    def __init__(self, connections: Sequence[socket.socket], port: int):
        self.connections = connections
        self.port = port
        self.gone = threading.Event()
        # Since when this process waits for the others, or None.
        self._waits: float | None = None
        for connection in connections:
            _keep_alive(connection)
        threading.Thread(target=self._watch, daemon=True).start()

    def __enter__(self):
        self._waits = time.monotonic()

    def __exit__(self, *raised):
        self._waits = None

    def _watch(self):
        with selectors.DefaultSelector() as ready:
            for connection in self.connections:
                ready.register(connection, selectors.EVENT_READ)
            # Nobody sends any more: it is an end.
            ready.select()
        self.gone.set()
        since = time.monotonic()
        for connection in self.connections:
            # Those who have not lost it lose this one.
            connection.close()
        while True:
            waits = self._waits
            if waits and time.monotonic() - max(waits, since) > _PATIENCE:
                if processes.tells_of_loss:
                    os.write(2, f"Error: {_processes.LOST}\n".encode())
                # What the main thread waits for can't be interrupted.
                os._exit(processes.LOST_STATUS)
            time.sleep(_BETWEEN)


def meet(address: str, port: int, rank: int, count: int) -> Meeting:
    """Waits for all processes to come.

    Args:
        address: Of the first process' host.
        port: Where it waits for the others.
        rank: Which process this is.
        count: How many there are.

    Raises:
        ValueError: If the port is taken, or two were told what contradicts.
        ProcessLost: If not all of them come.
    """
    where = f"{address}:{port}"
    until = time.monotonic() + _WITHIN
    try:
        if rank > 0:
            return _come(address, port, rank, count, until)
        return _receive(port, count, until)
    except OSError as error:
        if error.errno == errno.EADDRINUSE or isinstance(error, _OthersPort):
            raise _processes.port_taken(where) from error
        raise _processes.not_met(where) from error


class _OthersPort(OSError):
    """Another program answers there."""


def _receive(port, count, until):
    """The first one receives all others."""
    others: dict[int, socket.socket] = {}
    with contextlib.ExitStack() as stack, _listening(port, count) as listener:
        while len(others) < count - 1:
            listener.settimeout(max(0.01, until - time.monotonic()))
            connection, _ = listener.accept()
            stack.enter_context(connection)
            connection.settimeout(_PATIENCE)
            try:
                mark, rank, told = _COMING.unpack(_exactly(connection, _COMING.size))
            except OSError:
                mark = b""
            if mark != _MARK:
                # Nobody that was waited for.
                connection.close()
                continue
            if told != count or rank in others or not 0 < rank < count:
                raise ValueError(
                    "Each process must be told a RANK of its own, and the same "
                    f"WORLD_SIZE. Received: RANK=0 of {count}, "
                    f"{'and twice ' if rank in others else ''}RANK={rank} of {told}"
                )
            others[rank] = connection
        service = _free_port()
        for connection in others.values():
            connection.sendall(_ANSWER.pack(_MARK, service))
        stack.pop_all()
    return Meeting([*others.values()], service)


def _listening(port, count):
    options = {"backlog": max(count, 16)}
    if socket.has_dualstack_ipv6():
        options |= {"family": socket.AF_INET6, "dualstack_ipv6": True}
    return socket.create_server(("", port), **options)


def _free_port():
    with _listening(0, 1) as listener:
        return listener.getsockname()[1]


def _come(address, port, rank, count, until):
    """Another one goes to where the first one is, or will be."""
    while True:
        left = max(0.01, until - time.monotonic())
        try:
            connection = socket.create_connection((address, port), left)
            break
        except OSError:
            # It was not there yet.
            if time.monotonic() + _BETWEEN > until:
                raise
            time.sleep(_BETWEEN)
    with contextlib.ExitStack() as stack:
        stack.enter_context(connection)
        connection.settimeout(left)
        connection.sendall(_COMING.pack(_MARK, rank, count))
        mark, service = _ANSWER.unpack(_exactly(connection, _ANSWER.size))
        if mark != _MARK:
            raise _OthersPort
        stack.pop_all()
    return Meeting([connection], service)


def _exactly(connection, size):
    """As many bytes as were asked for."""
    received = b""
    while len(received) < size:
        part = connection.recv(size - len(received))
        if not part:
            raise ConnectionResetError(errno.ECONNRESET, "Connection closed")
        received += part
    return received


def _keep_alive(connection):
    """Lets a connection end within half a minute of the other's host."""
    connection.settimeout(None)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # Where the system knows of them, which not all do.
    for name, seconds in (("KEEPIDLE", 10), ("KEEPINTVL", 5), ("KEEPCNT", 4)):
        option = getattr(socket, f"TCP_{name}", None)
        if option is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, seconds)
