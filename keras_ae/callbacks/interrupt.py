"""Ctrl-C at the end of a step."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator

import keras

from keras_ae.processes import ProcessLost


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during training, raised once the step that was running has ended."""


class Interrupt(keras.callbacks.Callback):
    """Lets the step that runs finish on Ctrl-C; a second Ctrl-C ends at once.

    Example:

    ```python
    interrupt = keras_ae.callbacks.Interrupt()
    with interrupt.listening():
        model.fit(x, callbacks=[interrupt])
    ```
    """

    # It asks between executions, however many steps each has.
    needs_each_batch = False

    def __init__(self):
        super().__init__()
        self._asked = False

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Takes Ctrl-C for the callback as long as the block lasts.

        Raises:
            Interrupted: In the block, when the step that ran has ended, or could not as
                another process that trains together has stopped.
        """
        if threading.current_thread() is not threading.main_thread():
            # Python delivers signals to its main thread only.
            yield
            return
        # What was asked for in an earlier block was done there.
        self._asked = False
        before = signal.signal(signal.SIGINT, self._ask)
        try:
            yield
        except ProcessLost as lost:
            if not self._asked:
                raise
            # Asked to stop, too, the other one had ended its step before.
            raise Interrupted from lost
        finally:
            signal.signal(signal.SIGINT, before)

    def _ask(self, number, frame):
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        print(
            "\nStopping after this step; Ctrl-C again stops at once.",
            file=sys.stderr,
            flush=True,
        )

    def _stop(self):
        if self._asked:
            raise Interrupted

    def on_train_batch_end(self, batch, logs=None):
        self._stop()

    def on_test_batch_end(self, batch, logs=None):
        self._stop()

    def on_epoch_end(self, epoch, logs=None):
        self._stop()
