"""How far long work is: a bar on a terminal, a line a minute elsewhere."""

import contextlib
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator

# Seconds before anything is said, between two bars, and between two lines.
_PATIENCE, _BAR, _LINE = 5.0, 0.2, 60.0
_inside = False


@contextlib.contextmanager
def shown(what: str = "", total: int | None = None) -> Iterator[Callable[..., None]]:
    """Tells on standard error how far work is that takes more than five seconds.

    Work inside other work that is shown says nothing of its own.

    Args:
        what: What is being done.
        total: Steps in all; None where nobody knows.

    Yields:
        A function `advance(done, total=total, what=what)` to call after every step.

    Example:

    ```python
    with progress.shown("encode", len(batches)) as advance:
        for done, batch in enumerate(batches, 1):
            encode(batch)
            advance(done)
    ```
    """
    global _inside
    if _inside:
        yield lambda *args, **kwargs: None
        return
    shows = _Shown(what, total)
    _inside = True
    # The first step alone may take minutes.
    timer = threading.Timer(_PATIENCE, shows.begin)
    timer.daemon = True
    timer.start()
    try:
        yield shows.advance
    finally:
        _inside = False
        timer.cancel()
        shows.end()


class _Shown:
    def __init__(self, what, total):
        self.what, self.total, self.done = what, total, 0
        self.began = self.part = time.monotonic()
        self.last = None
        self.lock = threading.Lock()

    def begin(self):
        with self.lock:
            if self.last is None:
                self.tell(self.done)

    def advance(self, done, total=None, what=None):
        with self.lock:
            self.tell(done, total, what)

    def tell(self, done, total=None, what=None):
        now = time.monotonic()
        if what not in (None, self.what):
            self.what, self.part = what, now
        total = self.total = total or self.total
        self.done = done
        on_terminal = sys.stderr.isatty()
        if self.last is None:
            due = now - self.began >= _PATIENCE
        else:
            due = now - self.last >= (_BAR if on_terminal else _LINE)
        if not due:
            return
        self.last = now
        said = f"{done:,} of {total:,}" if total else f"{done:,}"
        if total and done:
            left = (now - self.part) / done * (total - done)
            said += f", {_clock(left)} left"
        if not on_terminal:
            print(f"{self.what}: {said}", file=sys.stderr, flush=True)
            return
        bar = f"{'━' * (30 * done // total):30} " if total else ""
        line = f"{self.what:22} {bar}{said}"[: shutil.get_terminal_size().columns - 1]
        sys.stderr.write(f"\r\033[K{line}")
        sys.stderr.flush()

    def end(self):
        if self.last is not None and sys.stderr.isatty():
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()


def _clock(seconds):
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
