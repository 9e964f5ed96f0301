"""What is told of long work, and what not."""

import sys
import time

import pytest

import keras_ae
from keras_ae import progress
from keras_ae.training import inputs

pytestmark = pytest.mark.once


@pytest.fixture
def clock(monkeypatch):
    """Seconds since the beginning, which only the test moves."""
    seconds = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: seconds[0])

    def wait(more):
        seconds[0] += more

    return wait


def test_short_work_says_nothing(clock, capsys):
    with progress.shown("encode", 10) as advance:
        for done in range(10):
            clock(0.4)
            advance(done)
    assert capsys.readouterr() == ("", "")


def test_a_log_gets_a_line_a_minute_with_the_time_left(clock, capsys):
    with progress.shown("encode", 10_000) as advance:
        for done in range(0, 10_000, 100):
            clock(2.0)
            advance(done + 100)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "encode: 300 of 10,000, 3:14 left"
    assert lines[1] == "encode: 3,300 of 10,000, 2:14 left"
    assert len(lines) == 4


def test_a_long_first_step_is_told_of(capsys, monkeypatch):
    monkeypatch.setattr(progress, "_PATIENCE", 0.01)
    with progress.shown("search", 3):
        deadline = time.monotonic() + 60
        while not (told := capsys.readouterr().err) and time.monotonic() < deadline:
            time.sleep(0.01)
    assert told == "search: 0 of 3\n"
    with progress.shown() as advance:
        # What was said too early to be told is told later.
        advance(1, 4, "score")
        deadline = time.monotonic() + 60
        while not (told := capsys.readouterr().err) and time.monotonic() < deadline:
            time.sleep(0.01)
    assert told.startswith("score: 1 of 4, ")


def test_a_terminal_gets_a_bar_that_goes_away(clock, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress.shown(total=4) as advance:
        clock(6000.0)
        advance(2, what="ELBO")
        clock(0.1)
        advance(3)
    written = capsys.readouterr().err
    # What is done has begun just now, so that nobody knows how long it takes.
    assert written.startswith("\r\033[KELBO ")
    assert f"{'━' * 15:30} 2 of 4" in written
    assert "3 of 4" not in written
    assert written.endswith("\r\033[K")


def test_work_within_work_and_of_unknown_length(clock, capsys):
    with progress.shown("outer") as outer, progress.shown("inner", 5) as inner:
        clock(60.0)
        inner(1)
        outer(7)
    assert capsys.readouterr().err == "outer: 7\n"
    # What fails leaves the next one its voice.
    with pytest.raises(KeyError), progress.shown("outer"):
        raise KeyError
    with progress.shown("later") as advance:
        clock(3700.0)
        advance(1, 2)
    assert capsys.readouterr().err == "later: 1 of 2, 1:01:40 left\n"


def test_verbs_tell_how_far_they_are(clock, capsys, images, monkeypatch):
    model = keras_ae.VAE(2, image_shape=images.shape[1:], architecture="dense")
    model.encode(images)
    batches = inputs.batches

    def slow(*args):
        for batch in batches(*args):
            clock(70.0)
            yield batch

    monkeypatch.setattr(inputs, "batches", slow)
    model.encode(images, batch_size=16)
    model.log_likelihood(images, samples=2)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "encode: 16 of 32, 1:10 left"
    assert lines[-1].startswith("log-likelihood: 32 of 32")
