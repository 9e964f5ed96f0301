"""Serves the page, on this machine alone unless told otherwise."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_ae.explorer.view import View

# Where a page is looked for first.
_PORT = 7860
_LOOPBACK = "127.0.0.1"


def explore(
    model: keras.Model,
    x: np.ndarray | None = None,
    labels: Mapping[str, np.ndarray] | None = None,
    *,
    name: str | None = None,
    data: str = "the data",
    host: str = _LOOPBACK,
    port: int | None = None,
    seed: int = 0,
) -> Any:
    """Opens a page to explore a trained model of pictures, in a notebook or a browser.

    It has sliders along the principal directions of the codes, a map of codes to click
    on, attributes to add, the way from one picture of your own to another, samplers
    beside each other, and a search that goes on from the encoder's guess; what a model
    can't do is left out. Nothing is fetched from elsewhere. It needs Gradio,
    `pip install "keras-ae[explore]"`.

    Args:
        model: A trained model of pictures.
        x: Pictures `(n, *image_shape)` whose codes are shown; 2,000 are plenty. By
            default codes are those of samples drawn from the model, or of its prior.
        labels: Values of `x` by name, each `(n,)`, as `datasets.load(labels=True)`
            returns them, or columns of a frame: the attributes to add.
        name: Title of the page. Defaults to the class of the model.
        data: What `x` is, in words.
        host: Address that the page is served at. By default nobody but this machine
            reaches it; `"0.0.0.0"` is every network that the machine is in.
        port: Port of the page. Defaults to the first free one from 7860.
        seed: Seed of what is drawn, an integer >= 0.

    Returns:
        The page, Gradio's `Blocks`, which is being served: `page.local_url` is its
        address, `page.close()` ends it, and in a script `page.block_thread()` waits.

    Raises:
        ImportError: If Gradio is not installed.
        OSError: If the port is in use, or the host is not this machine's.
        ValueError: If the model describes no pictures, or has nothing to explore.

    Example:

    ```python
    model = keras_ae.from_preset("moon-vae")
    moons, labels = keras_ae.datasets.load("moon-phases", limit=2000, labels=True)
    page = keras_ae.explore(model, moons, labels)
    ```
    """
    port = check_address(host, port)
    view = View(model, x, labels, data=data, seed=seed)
    from keras_ae.explorer import page

    return page.serve(view, name or type(model).__name__, host, port)


def check_address(host: str = _LOOPBACK, port: int | None = None) -> int:
    """Returns the port to serve a page at, once Gradio and the address are there.

    Args:
        host: As for `explore`.
        port: As for `explore`.

    Raises:
        ImportError: If Gradio is not installed.
        OSError: If the port is in use, or the host is not this machine's.
        ValueError: If the port is out of range.
    """
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise ImportError(
            'The page needs Gradio: `pip install "keras-ae[explore]"` brings it.'
        ) from error
    if port is not None and not 1 <= port <= 65535:
        raise ValueError(f"`port` must be from 1 to 65535. Received: port={port}")
    for candidate in range(_PORT, _PORT + 100) if port is None else [port]:
        with contextlib.suppress(PermissionError, _Taken):
            _bind(host, candidate)
            return candidate
    if port is None:
        raise OSError(f"All ports from {_PORT} to {_PORT + 99} are in use.")
    raise OSError(
        f"`port` must be free, and one that you may use. Received: port={port}"
    )


class _Taken(OSError):
    """Another program serves there."""


def _bind(host, port):
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )[0]
    except (OSError, UnicodeError):
        raise _no_address(host) from None
    with socket.socket(family, kind) as trial:
        # A port that was just left is free.
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(address)
            trial.listen(1)
        except PermissionError:
            raise
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise _Taken from error
            raise _no_address(host) from error


def _no_address(host):
    return OSError(f"`host` must be an address of this machine. Received: host={host}")
