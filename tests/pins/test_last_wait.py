"""The wait for a handler that still runs when its program ends."""

from __future__ import annotations

import logging
import math
import os
import signal
import threading

import pytest

from hwloop.pins import last_wait


@pytest.fixture
def leaving(monkeypatch):
    monkeypatch.setattr(last_wait, "_SILENT", 0.001)
    with last_wait.leaving():
        yield


@pytest.fixture
def handler():
    """A thread that is in a function of the program."""
    over = threading.Event()

    def handle():
        over.wait()

    thread = threading.Thread(target=handle)
    thread.start()
    yield thread
    over.set()
    thread.join()


def test_before_the_end_it_waits_in_silence_for_as_long_as_it_is_asked(handler, caplog):
    asked = []
    assert not last_wait.wait_for_end("a handler", handler, lambda seconds: bool(asked.append(seconds)), 10)
    assert asked == [10]
    assert caplog.messages == []


def test_at_the_end_it_says_what_it_waits_for_and_gives_up_once_for_all(leaving, handler, caplog):
    caplog.set_level(logging.WARNING)
    asked = []
    for _ in range(2):
        assert last_wait.wait_for_end("a handler", handler, lambda seconds: bool(asked.append(seconds)), 10)
    assert len(asked) == 2  # in silence, and after the message
    [message] = caplog.messages
    assert message.startswith(f"a handler still runs at {__file__}:")
    assert "in 10 s; a further signal, such as Ctrl-C, ends the wait" in message


def test_a_bounded_end_bounds_the_wait(leaving, handler, caplog, monkeypatch):
    monkeypatch.setattr(last_wait, "_over_at", math.inf)
    asked = []
    last_wait.bound(5)
    assert last_wait.wait_for_end("a handler", handler, lambda seconds: bool(asked.append(seconds)), 10)
    assert max(asked) <= 5
    [message] = caplog.messages
    assert "in 5 s; a further signal" in message


def test_a_bound_that_is_over_leaves_a_moment_for_a_handler_that_is_about_to_end(leaving, handler, caplog, monkeypatch):
    monkeypatch.setattr(last_wait, "_over_at", math.inf)
    last_wait.bound(0)
    last_wait.bound(5)  # a later bound does not prolong the first one
    assert last_wait.wait_for_end("a handler", handler, lambda seconds: bool(threading.Event().wait(seconds)), 10)
    [message] = caplog.messages
    assert message.endswith("handle; its device is closed, and the process ends without it")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_further_signal_ends_the_wait(leaving, handler, number):
    before = signal.getsignal(number)

    def ended(seconds):
        if seconds > 1:
            os.kill(os.getpid(), number)
            threading.Event().wait(seconds)
        return False

    assert last_wait.wait_for_end("a handler", handler, ended, 1000)
    assert signal.getsignal(number) is before


def test_a_thread_that_is_about_to_end_needs_no_message(leaving, caplog):
    thread = threading.Thread(target=int)
    asked = []

    def ended(seconds):
        asked.append(seconds)
        return len(asked) == 3

    assert last_wait.wait_for_end("a handler", thread, ended, 1000)
    assert caplog.messages == []
