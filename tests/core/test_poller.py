"""The poller: ready descriptors, the alarm, other selectors and replaced clocks; without a loop."""

from __future__ import annotations

import errno
import os
import selectors
import threading
from collections.abc import Callable, Iterator, Sized

import pytest

from hwloop.core.clock import monotonic
from hwloop.core.descriptors import IN, READ
from hwloop.core.handles import Watcher
from hwloop.core.loop_clock import LoopClock
from hwloop.core.poller import SHORTEST_WAIT, Poller
from hwloop.core.urgency import Priority

Make = Callable[..., Poller]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[tuple[Poller, selectors.BaseSelector]] = []

    def make(
        selector: selectors.BaseSelector | None = None,
        clock: LoopClock | None = None,
        inbox: Sized = (),
    ) -> Poller:
        selector = selector or selectors.EpollSelector()
        poller = Poller(selector, clock or LoopClock(), inbox)
        poller.use_clock()
        made.append((poller, selector))
        return poller

    yield make
    for poller, selector in made:
        poller.close()
        selector.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        try:
            os.close(fd)
        except OSError:
            pass


class Loop:
    def get_debug(self) -> bool:
        return False


def watch(poller: Poller, fd: int, priority: Priority = Priority.NORMAL) -> None:
    poller.descriptors.set(fd, READ, Watcher(print, (), Loop(), priority))


@pytest.mark.parametrize("selector", [selectors.EpollSelector, selectors.PollSelector, selectors.SelectSelector])
def test_a_ready_descriptor_ends_a_wait_with_any_selector(
    make: Make, pipe: tuple[int, int], selector: type[selectors.BaseSelector]
) -> None:
    poller = make(selector())
    watch(poller, pipe[0])
    assert poller.poll(0.0) == []
    os.write(pipe[1], b"!")
    assert poller.poll(None) == [(pipe[0], IN)]


@pytest.mark.parametrize("selector", [selectors.EpollSelector, selectors.PollSelector])
def test_a_wait_never_ends_before_its_time_unless_it_returns_nothing(
    make: Make, selector: type[selectors.BaseSelector]
) -> None:
    poller = make(selector())
    when = monotonic() + 0.003
    while monotonic() < when:
        for fd, _ in poller.poll(when):
            assert monotonic() >= when
            if fd == poller.alarm_fd:
                poller.alarm_when = 0.0  # it has rung


def test_the_alarm_is_set_once_for_the_same_time_and_cleared_without_a_timer(make: Make, pipe: tuple[int, int]) -> None:
    poller = make()
    alarm = poller.descriptors.alarm
    assert alarm is not None
    calls: list[object] = []
    alarm.set = calls.append  # type: ignore[method-assign]
    alarm.clear = lambda: calls.append("clear")  # type: ignore[method-assign]
    watch(poller, pipe[0])
    os.write(pipe[1], b"!")
    when = monotonic() + 100
    for _ in range(3):
        poller.poll(when)
    poller.poll(None)
    poller.poll(None)
    assert calls == [when, "clear"]


def test_the_clock_is_read_once_for_the_same_time(make: Make, pipe: tuple[int, int]) -> None:
    clock = LoopClock()
    poller = make(clock=clock)
    readings: list[float] = []

    def now() -> float:
        readings.append(monotonic())
        return readings[-1]

    clock.now = now
    watch(poller, pipe[0])
    os.write(pipe[1], b"!")
    when = monotonic() + 100
    for _ in range(3):
        assert poller.poll(when) == [(pipe[0], IN)]
    assert len(readings) == 1


def test_an_alarm_that_is_set_already_ends_the_next_wait_too(make: Make, pipe: tuple[int, int]) -> None:
    """A descriptor has ended the wait before. The alarm may ring before the next wait begins."""
    poller = make()
    watch(poller, pipe[0])
    os.write(pipe[1], b"x")
    when = monotonic() + 0.02
    assert poller.poll(when) == [(pipe[0], IN)]
    assert poller.poll(0.0) == [(pipe[0], IN)]  # without a wait, whatever is set
    os.read(pipe[0], 1)
    while monotonic() < when:
        pass
    assert poller.poll(when) == [(poller.alarm_fd, IN)]
    poller.alarm_when = 0.0
    assert poller.poll(0.0) == []


def test_an_alarm_in_doubt_is_set_anew_and_cleared_if_there_is_no_timer(make: Make, pipe: tuple[int, int]) -> None:
    poller = make()
    alarm = poller.descriptors.alarm
    assert alarm is not None
    calls: list[object] = []
    alarm.set = calls.append  # type: ignore[method-assign]
    alarm.clear = lambda: calls.append("clear")  # type: ignore[method-assign]
    watch(poller, pipe[0])
    os.write(pipe[1], b"!")
    poller.doubt_alarm()
    poller.poll(None)
    when = monotonic() + 100
    for _ in range(2):
        poller.poll(when)
        poller.doubt_alarm()
    poller.poll(None)
    poller.poll(None)
    assert calls == [when, when, "clear"]


def test_a_wait_shorter_than_a_spin_polls_without_the_alarm(make: Make) -> None:
    poller = make()
    poller.spin = 1.0
    alarm = poller.descriptors.alarm
    assert alarm is not None
    alarm.set = pytest.fail  # type: ignore[method-assign]
    assert poller.poll(monotonic() + 0.5) == []
    assert poller.spin > SHORTEST_WAIT


def test_a_call_from_another_thread_before_the_wait_ends_it(make: Make) -> None:
    sleeping: list[bool] = []

    class Inbox:
        def __len__(self) -> int:
            sleeping.append(poller.is_sleeping)
            return 1

    poller = make(inbox=Inbox())
    assert poller.poll(monotonic() + 5) == []
    assert sleeping == [True]  # a thread that calls now would see that it has to wake the loop
    assert not poller.is_sleeping


def test_a_descriptor_that_nobody_watches_has_the_set_replaced(make: Make, pipe: tuple[int, int]) -> None:
    poller = make()
    reader, writer = pipe
    watch(poller, reader)
    duplicate = os.dup(reader)  # keeps the description in the kernel's set
    try:
        os.close(reader)
        poller.descriptors.remove(reader, READ)
        os.write(writer, b"!")
        ((fd, _),) = poller.poll(None)
        assert poller.descriptors.keys.get(fd) is None
        poller.forget_closed()
        assert poller.poll(0.0) == []
    finally:
        os.close(duplicate)


def test_urgent_descriptors_can_be_polled_alone(make: Make, pipe: tuple[int, int]) -> None:
    poller = make()
    assert poller.poll_urgent() == []
    watch(poller, pipe[0], Priority.HIGH)
    os.write(pipe[1], b"!")
    assert poller.poll_urgent() == [(pipe[0], IN)]


def test_a_clock_that_the_alarm_does_not_follow_is_waited_for_through_the_selector(make: Make) -> None:
    now = 5.0
    clock = LoopClock(lambda: now)
    poller = make(clock=clock)
    alarm = poller.descriptors.alarm
    assert alarm is not None
    alarm.set = pytest.fail  # type: ignore[method-assign]
    assert poller.poll(5.002) == []
    clock.now = monotonic
    poller.use_clock()
    del alarm.set
    when = monotonic() + 0.001
    poller.poll(when)
    assert monotonic() >= when


def test_a_poll_beside_other_threads_keeps_the_interpreter_lock(make: Make, pipe: tuple[int, int]) -> None:
    poller = make()
    watch(poller, pipe[0])
    os.write(pipe[1], b"!")
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        assert poller.poll(0.0) == [(pipe[0], IN)]
    finally:
        done.set()
        thread.join()


def test_closing_twice_does_no_harm(make: Make) -> None:
    poller = make()
    poller.close()
    poller.close()


def test_another_thread_ends_wait_after_wait_by_a_waker_that_nobody_reads(make: Make) -> None:
    poller = make()
    poller.descriptors.add_waker()
    waker, number = poller.descriptors.waker, poller.descriptors.waker_fd
    for _ in range(3):
        assert poller.wake()
        assert poller.poll(None) == [(number, IN)]
        assert poller.poll(0.0) == []
    poller.descriptors.add_waker()
    assert poller.descriptors.waker is waker


def test_a_fresh_set_has_the_waker_too_and_a_childs_needs_one_of_its_own(make: Make) -> None:
    poller = make()
    poller.descriptors.add_waker()
    poller.wake()
    poller.forget_closed()
    assert poller.poll(None) == [(poller.descriptors.waker_fd, IN)]  # what came before is not lost
    poller.wake()
    assert poller.poll(None) == [(poller.descriptors.waker_fd, IN)]
    poller.renew_in_child()
    assert (poller.descriptors.waker, poller.descriptors.waker_fd) == (None, -1)
    assert not poller.wake()


def test_without_epoll_or_a_descriptor_that_is_left_asyncios_socket_wakes_the_loop(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    poller = make(selectors.PollSelector())
    poller.descriptors.add_waker()
    assert not poller.wake()

    def none_left(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    poller = make()
    assert not poller.wake()
    monkeypatch.setattr(os, "eventfd", none_left)
    poller.descriptors.add_waker()
    assert not poller.wake()
    assert poller.descriptors.waker_fd == -1


def test_a_waker_that_is_closed_as_a_thread_uses_it_wakes_nobody_and_raises_nothing(make: Make) -> None:
    poller = make()
    poller.descriptors.add_waker()
    assert poller.descriptors.waker is not None
    poller.descriptors.waker.close()
    assert not poller.wake()
