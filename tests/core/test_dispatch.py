"""The dispatcher's parts, on a loop that does not run; tests/promises has the traces of what it runs."""

from __future__ import annotations

import contextlib
import contextvars
import os
import selectors
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from hwloop import EventLoop, Priority, SimLoop
from hwloop.core.descriptors import IN, OUT
from hwloop.core.dispatch import Dispatcher
from hwloop.core.gc_schedule import GcSchedule
from hwloop.core.loop_clock import LoopClock
from hwloop.core.monitor import FILED_BEFORE_WAIT, FILED_TOGETHER
from hwloop.core.parts import Parts
from hwloop.core.poller import EVENTS_PER_POLL, Poller
from hwloop.core.urgency import URGENCY, Urgency


class ScriptedPoller(Poller):
    """A poller whose methods can be replaced: those of a compiled class can't."""


class ScriptedParts(Parts):
    def make_poller(self) -> Poller:
        return ScriptedPoller(self.selector, self.clock, self.run_queue.inbox)


@pytest.fixture
def loop() -> Iterator[EventLoop]:
    loop = EventLoop(parts=ScriptedParts(selectors.DefaultSelector()))
    yield loop
    loop.close()


@pytest.fixture
def dispatcher(loop: EventLoop) -> Dispatcher:
    return loop._dispatcher


def test_a_slice_is_used_up_when_its_time_has_passed(loop: EventLoop, dispatcher: Dispatcher) -> None:
    loop.time = lambda: 2.0  # type: ignore[method-assign]
    dispatcher.poll(loop)
    dispatcher.slice = 0.5
    dispatcher.slice_began = 1.75
    assert not dispatcher.slice_used_up()
    dispatcher.slice_began = 1.5
    assert dispatcher.slice_used_up()


def test_a_clock_that_is_replaced_in_a_callback_has_the_loop_poll_after_the_batch(
    loop: EventLoop, dispatcher: Dispatcher
) -> None:
    """It may have leapt, and asyncio asks it after each batch."""
    polls: list[bool] = []
    loop.call_soon(dispatcher.clock_replaced)
    loop.call_soon(lambda: polls.append(loop._run_queue.poll_after_batch))
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert polls == [True]


class Kernel:
    """Reports ready descriptors in the poller's place."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ready: list[tuple[int, int]] = []
        self.urgent: list[tuple[int, int]] = []
        self.forgotten = 0
        monkeypatch.setattr(ScriptedPoller, "poll", lambda poller, when: self.ready)
        monkeypatch.setattr(ScriptedPoller, "poll_urgent", lambda poller: self.urgent)
        monkeypatch.setattr(ScriptedPoller, "forget_closed", lambda poller: self.forget())

    def forget(self) -> None:
        self.forgotten += 1


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


@pytest.fixture
def fds() -> Iterator[list[int]]:
    fds = [os.eventfd(0) for _ in range(3)]
    yield fds
    for fd in fds:
        os.close(fd)


def found(loop: EventLoop) -> list[object]:
    """Return the callbacks of the handles that polls have found ready."""
    return [handle._callback for handle in loop._run_queue.found]


@pytest.mark.parametrize(("mask", "expected"), [(IN, [min]), (OUT, [max]), (IN | OUT, [min, max]), (8, [min, max])])
def test_a_ready_descriptor_runs_the_callbacks_of_its_ready_directions(
    loop: EventLoop,
    dispatcher: Dispatcher,
    kernel: Kernel,
    fds: list[int],
    mask: int,
    expected: list[object],
) -> None:
    """An error or a hang-up (8 is EPOLLERR) concerns both."""
    loop.add_reader(fds[0], min)
    loop.add_writer(fds[0], max)
    kernel.ready = [(fds[0], mask)]
    dispatcher.poll(loop)
    assert found(loop) == expected
    dispatcher.poll(loop)  # it is ready still, and queued already
    assert found(loop) == expected


def test_a_number_that_nobody_watches_is_forgotten_and_the_others_are_served(
    loop: EventLoop, dispatcher: Dispatcher, kernel: Kernel, fds: list[int]
) -> None:
    loop.add_reader(fds[1], min)
    kernel.ready = [(fds[0], IN), (fds[1], IN)]
    dispatcher.poll(loop)
    assert kernel.forgotten == 1
    assert found(loop) == [min]


def test_the_alarm_that_has_rung_and_the_waker_are_no_numbers_to_be_forgotten(
    loop: EventLoop, dispatcher: Dispatcher, kernel: Kernel, fds: list[int]
) -> None:
    loop.add_reader(fds[1], min)
    loop._poller.alarm_when = 5.0
    loop._poller.descriptors.add_waker()
    kernel.ready = [(loop._poller.alarm_fd, IN), (loop._poller.descriptors.waker_fd, IN), (fds[1], IN)]
    dispatcher.poll(loop)
    assert (kernel.forgotten, loop._poller.alarm_when, found(loop)) == (0, 0.0, [min])


@pytest.mark.parametrize("add", [EventLoop.add_reader, EventLoop.add_writer])
def test_a_watcher_with_a_priority_joins_the_priority_queues(
    loop: EventLoop, dispatcher: Dispatcher, kernel: Kernel, fds: list[int], add: object
) -> None:
    loop._urgencies.in_use = True
    context = contextvars.Context()
    context.run(URGENCY.set, Urgency(Priority.HIGH))
    context.run(add, loop, fds[0], min)  # type: ignore[arg-type]
    kernel.ready = [(fds[0], IN | OUT)]
    for _ in range(2):
        dispatcher.poll(loop)
        assert (found(loop), len(loop._run_queue.urgent)) == ([], 1)
    assert loop._run_queue.urgent.pick(0.0, False)._callback is min


@pytest.mark.parametrize("more", [True, False])
def test_a_full_answer_of_the_kernel_is_completed_by_the_urgent_descriptors(
    loop: EventLoop, dispatcher: Dispatcher, kernel: Kernel, fds: list[int], more: bool
) -> None:
    loop.add_reader(fds[0], min)
    loop.add_reader(fds[1], max)
    kernel.ready = [(fds[0], IN)] * (EVENTS_PER_POLL - (not more))
    kernel.urgent = [(fds[1], IN)]
    dispatcher.poll(loop)
    assert found(loop) == ([min, max] if more else [min])


@pytest.mark.parametrize("values", ["lateness", "latency"])
@pytest.mark.parametrize(("busy", "enough"), [(True, FILED_TOGETHER), (False, FILED_BEFORE_WAIT)])
def test_values_are_filed_when_there_are_enough_of_them(
    loop: EventLoop, dispatcher: Dispatcher, kernel: Kernel, values: str, busy: bool, enough: int
) -> None:
    if busy:
        loop.call_soon(min)
    collected: list[float] = getattr(loop._monitor, values)
    collected.extend([0.0] * (enough - 1))
    dispatcher.poll(loop)
    assert len(collected) == enough - 1
    collected.append(0.0)
    dispatcher.poll(loop)
    assert not collected


def test_a_replaced_clock_has_the_loop_poll_after_each_batch(loop: EventLoop, dispatcher: Dispatcher) -> None:
    loop.time = lambda: 2.0  # type: ignore[method-assign]
    loop.call_soon(min)
    for _ in range(2):
        loop._run_queue.poll_after_batch = False
        dispatcher.poll(loop)
        assert loop._run_queue.poll_after_batch is True


# The order of a batch.


class Stage:
    """A loop whose slices are over after one callback, and callbacks that note their names."""

    def __init__(self, loop: EventLoop, kernel: Kernel, fds: list[int]) -> None:
        self.loop, self.kernel, self.fds = loop, kernel, fds
        self.trace = ""
        loop._dispatcher.slice = 0.0

    def note(self, name: str, adds: str = "") -> None:
        self.trace += name
        self.soon(adds)

    def soon(self, names: str) -> None:
        for name in names:
            self.loop.call_soon(self.note, name)

    def ready(self, names: str, *, adds: str = "") -> None:
        """Let the next poll find descriptors; the first one's callback adds ordinary work."""
        for fd, name in zip(self.fds, names, strict=False):
            self.loop.add_reader(fd, self.note, name, adds if name == names[0] else "")
        self.kernel.ready = [(fd, IN) for fd in self.fds[: len(names)]]

    def poll(self) -> None:
        self.loop._dispatcher.poll(self.loop)
        self.kernel.ready = []

    def run(self) -> str:
        """Run until nothing is ready."""

        def poll(poller: Poller, when: float | None) -> list[tuple[int, int]]:
            found, self.kernel.ready = self.kernel.ready, []
            if not found and not self.loop._run_queue.has_work():
                self.loop.stop()
            return found

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ScriptedPoller, "poll", poll)
            self.loop.run_forever()
        return self.trace


@pytest.fixture
def stage(loop: EventLoop, kernel: Kernel, fds: list[int]) -> Stage:
    return Stage(loop, kernel, fds)


def test_found_callbacks_that_are_left_go_on_taking_turns(stage: Stage) -> None:
    """Also when the queue has become a short one: only one that was short before the poll goes first."""
    stage.soon("12345")
    stage.ready("ABC")
    assert stage.run() == "A1B2C345"


def test_timers_that_were_due_when_set_make_no_short_queue_long(stage: Stage) -> None:
    stage.soon("123")
    for name in "tu":
        stage.loop.call_later(0, stage.note, name)
    stage.ready("A")
    assert stage.run() == "123Atu"


@pytest.mark.parametrize(
    ("ahead", "batch", "first", "trace"),
    [
        (3, 4, 2, "12A3B4C"),
        (3, 4, 0, "A1B2C34"),
        (3, 1, 1, "1ABC"),
        (2, 3, 1, "1A2B3"),
        (1, 5, 4, "1234A5"),
        (0, 2, 1, "12"),
        (2, 0, 1, "AB"),
    ],
)
def test_a_stopped_loop_runs_the_rest_of_its_batch_in_turns(
    stage: Stage, dispatcher: Dispatcher, ahead: int, batch: int, first: int, trace: str
) -> None:
    stage.ready("ABC", adds="8")
    stage.poll()
    stage.soon("12345")
    watchers = list(stage.loop._run_queue.found)
    dispatcher._finish_batch(stage.loop, ahead, batch, first)
    assert stage.trace == trace
    assert [watcher._scheduled for watcher in watchers] == [False] * ahead + [True] * (3 - ahead)


def test_work_of_a_low_priority_goes_after_the_rest_of_the_batch(stage: Stage, dispatcher: Dispatcher) -> None:
    stage.ready("A")
    stage.poll()
    stage.loop.call_soon_priority(Priority.LOW, stage.note, "l")
    stage.loop._run_queue.urgent.begin_batch()
    dispatcher._finish_batch(stage.loop, 1, 0, 0)
    assert stage.trace == "Al"


def test_before_its_first_turn_a_loop_has_no_slice(dispatcher: Dispatcher) -> None:
    assert dispatcher.slice_began == 0.0


# Questions to the poller, the clock and the collector.


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """The times until which the dispatcher asks the poller to wait."""
    asked: list[float | None] = []

    def poll(poller: Poller, when: float | None) -> list[tuple[int, int]]:
        asked.append(when)
        return []

    monkeypatch.setattr(ScriptedPoller, "poll", poll)
    return asked


class Collector(GcSchedule):
    """A garbage collection that ends a wait if `collects`."""

    def __init__(self, *, collects: bool) -> None:
        super().__init__(LoopClock())
        self.is_active = True
        self.collects = collects
        self.asked_before: list[float | None] = []

    def collect_if_pressing(self) -> None:
        pass

    def collect_before(self, when: float | None) -> bool:
        self.asked_before.append(when)
        return self.collects


@pytest.mark.parametrize("collects", [True, False])
def test_the_collector_knows_the_next_timer_and_a_collection_ends_the_wait(
    loop: EventLoop, dispatcher: Dispatcher, asked: list[float | None], collects: bool
) -> None:
    """A finalizer may have queued a callback, so the poller may not sleep."""
    collector = Collector(collects=collects)
    dispatcher._gc_schedule = collector
    timer = loop.call_later(1000, min)
    dispatcher.poll(loop)
    assert collector.asked_before == [timer.when()]
    assert asked == [0.0 if collects else timer.when()]


def test_a_loop_with_work_does_not_wait(loop: EventLoop, dispatcher: Dispatcher, asked: list[float | None]) -> None:
    loop.call_soon(min)
    dispatcher.poll(loop)
    assert asked == [0.0]


def test_a_clock_that_is_replaced_on_the_class_is_followed(
    loop: EventLoop, dispatcher: Dispatcher, asked: list[float | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    dispatcher.poll(loop)
    monkeypatch.setattr(EventLoop, "time", lambda loop: 5.0)
    assert dispatcher.poll(loop) == 5.0


def test_a_poll_that_finds_nothing_does_not_end_the_run(loop: EventLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    polls: list[float | None] = []

    def poll(poller: Poller, when: float | None) -> list[tuple[int, int]]:
        polls.append(when)
        if len(polls) == 3:
            loop.stop()
        return []

    monkeypatch.setattr(ScriptedPoller, "poll", poll)
    loop.run_forever()
    assert len(polls) >= 3


def test_an_overrun_of_exactly_the_limit_is_slow(loop: EventLoop, dispatcher: Dispatcher) -> None:
    clock, overruns = [1.0], list[float]()
    loop.time = lambda: clock[0]  # type: ignore[method-assign]
    dispatcher.slice, loop._monitor.slow_after = 0.5, 0.25
    dispatcher._overran = lambda handle, took: overruns.append(took)  # type: ignore[method-assign]

    def work() -> None:
        clock[0] += 0.75
        loop.call_soon(loop.stop)

    loop.call_soon(work)
    loop.run_forever()
    assert overruns == [0.25]


# Batches within a slice, and stop().


def test_urgent_work_of_one_batch_runs_although_a_part_of_it_stops_the_loop(loop: EventLoop) -> None:
    trace: list[str] = []
    loop._dispatcher.slice = 1000.0

    def first() -> None:
        trace.append("first")
        loop.call_soon_priority(Priority.HIGH, stops)
        loop.call_soon_priority(Priority.HIGH, trace.append, "also urgent")
        loop.call_soon(trace.append, "ordinary")

    def stops() -> None:
        trace.append("stops")
        loop.stop()
        loop.call_soon_priority(Priority.HIGH, trace.append, "of the next batch")

    loop.call_soon(first)
    loop.run_forever()
    assert trace == ["first", "stops", "also urgent", "ordinary"]


def test_a_loop_that_was_stopped_before_runs_the_overdue_timers_and_nothing_that_they_add(loop: EventLoop) -> None:
    trace: list[str] = []

    def overdue() -> None:
        trace.append("overdue")
        loop.call_soon(trace.append, "of the next batch")

    loop.call_at(loop.time() - 1, overdue)
    loop.stop()
    loop.run_forever()
    assert trace == ["overdue"]


def test_a_watcher_that_is_cancelled_by_the_callback_that_stops_the_loop_is_removed(
    loop: EventLoop, fds: list[int]
) -> None:
    handles = {}

    def stops() -> None:
        loop.stop()
        for handle in handles.values():
            handle.cancel()

    for fd in fds[:2]:
        handles[fd] = loop._add_reader(fd, stops)  # type: ignore[attr-defined]
        os.eventfd_write(fd, 1)
    loop.run_forever()
    assert [loop.remove_reader(fd) for fd in fds[:2]].count(False) >= 1


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("priority", [Priority.HIGH, Priority.NORMAL])
@pytest.mark.parametrize("make_loop", [EventLoop, lambda: SimLoop(seed=0)], ids=["real", "virtual"])
def test_a_watcher_that_was_cancelled_is_removed_when_its_descriptor_is_ready(
    fds: list[int], make_loop: Callable[[], EventLoop], priority: Priority, debug: bool
) -> None:
    """Or the kernel would report the descriptor for ever. asyncio's `add_reader` returns the handle to some callers."""
    with contextlib.closing(make_loop()) as loop:
        loop.set_debug(debug)
        loop.urgency.enable()
        context = contextvars.Context()
        context.run(URGENCY.set, Urgency(priority))
        handle = context.run(loop._add_reader, fds[0], min)  # type: ignore[attr-defined]
        handle.cancel()
        os.eventfd_write(fds[0], 1)
        loop.call_later(0.01, loop.stop)
        loop.run_forever()
        assert loop.remove_reader(fds[0]) is False


@pytest.mark.parametrize("found", [False, True])
def test_a_program_may_empty_a_queue_after_stop(loop: EventLoop, found: bool) -> None:
    """Test helpers do; what is left of the batch is less than was counted."""
    run_queue = loop._run_queue
    emptied = run_queue.found if found else run_queue.ordinary
    ran: list[str] = []
    for delay in (0.0001, 0.0001):
        loop.call_later(delay, ran.append, "timer")
    time.sleep(0.001)
    loop.call_soon(loop.stop)
    loop.call_soon(emptied.clear)
    loop.call_soon(ran.append, "ordinary")
    loop.call_soon(ran.append, "ordinary")
    loop.run_forever()
    assert ran.count("ordinary") == (2 if found else 0)
    assert not run_queue.has_work()


def test_an_exception_between_the_alarm_and_its_note_costs_no_timer_its_wakeup(loop: EventLoop) -> None:
    """A signal's handler may raise there. The alarm reports once that it has rung, and the next run waits for it."""
    poll, rescued = loop._poller.poll, list[str]()

    def interrupted(when: float | None) -> list[tuple[int, int]]:
        if found := poll(when):
            del loop._poller.poll
            raise KeyboardInterrupt
        return found

    def rescue() -> None:
        rescued.append("the loop waits for an alarm that has rung")
        loop.call_soon_threadsafe(loop.stop)

    loop._poller.poll = interrupted  # type: ignore[method-assign]
    for delay in (0.001, 0.01, 0.1, 1.0):  # on a busy machine a timer may be due before the loop waits for it
        loop.call_later(delay, loop.stop)
        with contextlib.suppress(KeyboardInterrupt):
            loop.run_forever()
            continue
        break
    assert "poll" not in vars(loop._poller), "the loop has not waited for the alarm"
    watchdog = threading.Timer(10, rescue)
    watchdog.start()
    loop.run_forever()
    watchdog.cancel()
    watchdog.join()
    assert not rescued


def test_a_new_spin_holds_for_the_timer_that_is_next(loop: EventLoop) -> None:
    loop._poller.alarm_when = when = loop.time() + 100
    loop.set_spin(1e-3)
    assert loop._poller.alarm_when != when
