"""Channel alone: policies, loss accounting, waiting consumers and callbacks, on plain asyncio without any device."""

from __future__ import annotations

import asyncio
import gc
import re
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwloop.sources.channel import Channel, Iteration
from hwloop.sources.intake import WhenFull, add_lost, lost_in

POLICIES: tuple[WhenFull, ...] = ("drop-oldest", "drop-newest", "pause")


class Event(NamedTuple):
    number: int
    lost: int = 0


class Owner:
    """A source as its channel sees it, which notes what the channel asks of it."""

    def __init__(self, queue_size: int = 3, when_full: WhenFull = "drop-oldest") -> None:
        self.name = "owner"
        self.channel: Channel[Event] = Channel(self, queue_size, when_full)
        self.failures: list[tuple[str, BaseException]] = []
        self.asked: list[str] = []
        self.raises: BaseException | None = None

    def with_lost(self, event: Event, lost: int) -> Event:
        if self.raises is not None:
            raise self.raises
        return add_lost(event, lost)

    def report_failure(self, what: str, error: BaseException) -> None:
        self.failures.append((what, error))

    def pause_reading(self) -> None:
        self.channel.halted = True
        self.asked.append("pause")

    def resume_reading(self) -> None:
        if not self.channel.holds_up:
            self.channel.halted = False
            self.asked.append("resume")

    def put(self, *numbers: int, lost: int = 0) -> None:
        for number in numbers:
            self.channel.put(Event(number, lost))

    def __aiter__(self) -> AsyncIterator[Event]:
        return Iteration(self, self.channel, self.channel.get)


def play(main: Callable[[Owner], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def opened() -> None:
        owner = Owner(**options)
        owner.channel.open(asyncio.get_running_loop())
        async with asyncio.timeout(60):  # a consumer that nobody wakes
            await main(owner)

    asyncio.run(opened())


async def turn() -> None:
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def account(channel: Channel[Event]) -> tuple[int, int, int, int]:
    return channel.received, channel.delivered, channel.dropped, len(channel.events)


# Overflow policies.


def test_putting_stops_where_the_owner_is_halted_and_goes_on_with_the_rest() -> None:
    async def main(owner: Owner) -> None:
        events = iter([Event(1), Event(2), Event(3), Event(4)])
        assert not owner.channel.put_all(events)  # the second fills the queue
        assert len(owner.channel.events) == 3
        assert owner.channel.halted
        assert not owner.channel.put_all(events)
        assert len(owner.channel.events) == 4
        assert owner.channel.put_all(events)

    play(main, queue_size=2, when_full="pause")


def test_drop_oldest_keeps_the_newest_events_and_the_next_one_taken_carries_the_drops() -> None:
    async def main(owner: Owner) -> None:
        owner.put(1, 2, 3, 4, 5)
        assert [await owner.channel.get() for _ in range(3)] == [Event(3, 2), Event(4), Event(5)]
        assert account(owner.channel) == (5, 3, 2, 0)

    play(main)


def test_drop_newest_keeps_the_first_events_and_the_next_one_put_carries_the_drops() -> None:
    async def main(owner: Owner) -> None:
        owner.put(1, 2, 3, 4, 5)
        assert await owner.channel.get() == Event(1)
        owner.put(6)
        assert [await owner.channel.get() for _ in range(3)] == [Event(2), Event(3), Event(6, 2)]
        assert account(owner.channel) == (6, 4, 2, 0)

    play(main, when_full="drop-newest")


def test_pause_drops_nothing_and_asks_for_more_when_half_of_the_queue_is_free() -> None:
    async def main(owner: Owner) -> None:
        owner.put(1, 2, 3, 4)
        assert not owner.asked
        owner.put(5)
        assert owner.asked == ["pause"]
        for left in (4, 3):
            await owner.channel.get()
            assert len(owner.channel.events) == left
        assert owner.asked == ["pause"]
        await owner.channel.get()
        assert owner.asked == ["pause", "resume"]
        assert account(owner.channel) == (5, 3, 0, 2)

    play(main, when_full="pause", queue_size=4)


def test_a_dropped_event_hands_its_own_losses_on() -> None:
    async def main(owner: Owner) -> None:
        owner.put(1, lost=10)
        owner.put(2, 3)
        assert (owner.channel.dropped, owner.channel.owed) == (2, 12)
        assert await owner.channel.get() == Event(3, 12)
        assert owner.channel.owed == 0

    play(main, queue_size=1)


@pytest.mark.parametrize("size", [0, -1])
def test_a_queue_holds_at_least_one_event(size: int) -> None:
    with pytest.raises(ValueError, match="owner: queue_size must be at least 1"):
        Owner(queue_size=size)


def test_an_unknown_policy_is_named_with_those_that_exist() -> None:
    with pytest.raises(ValueError, match="when_full must be one of drop-oldest, drop-newest, pause, not 'wait'"):
        Owner(when_full="wait")  # type: ignore[arg-type]


# Callbacks.


def test_an_event_is_not_queued_beside_a_callback_unless_a_consumer_wants_it() -> None:
    async def main(owner: Owner) -> None:
        seen: list[Event] = []
        owner.channel.add_callback(seen.append)
        owner.put(1)
        assert account(owner.channel) == (1, 1, 0, 0)
        iteration = aiter(owner)
        owner.put(2)
        assert account(owner.channel) == (2, 1, 0, 1)
        assert await anext(iteration) == Event(2)
        del iteration
        owner.put(3)
        assert [event.number for event in seen] == [1, 2, 3]
        assert account(owner.channel) == (3, 3, 0, 0)

    play(main)


@pytest.mark.parametrize("error", [ValueError("a bug"), asyncio.CancelledError(), GeneratorExit()])
def test_a_callback_that_raises_is_reported_and_the_others_are_called(error: BaseException) -> None:
    async def main(owner: Owner) -> None:
        seen: list[Event] = []

        def bug(event: Event) -> None:
            raise error

        owner.channel.add_callback(bug)
        owner.channel.add_callback(seen.append)
        owner.put(1)
        ((what, reported),) = owner.failures
        assert re.match("exception in callback .*bug", what)
        assert reported is error
        assert seen == [Event(1)]

    play(main)


@pytest.mark.parametrize("end", [SystemExit, KeyboardInterrupt])
def test_an_exit_in_a_callback_passes_and_the_event_stays_accounted_for(end: type[BaseException]) -> None:
    async def main(owner: Owner) -> None:
        def leave(event: Event) -> None:
            raise end

        iteration = aiter(owner)
        owner.channel.add_callback(leave)
        with pytest.raises(end):
            owner.put(1)
        assert await anext(iteration) == Event(1)
        assert account(owner.channel) == (1, 1, 0, 0)

    play(main)


def test_with_lost_that_raises_is_reported_and_the_event_arrives() -> None:
    async def main(owner: Owner) -> None:
        owner.put(1, 2)
        owner.raises = ValueError("a bug")
        assert await owner.channel.get() == Event(2)
        assert [what for what, _ in owner.failures] == [
            "with_lost() failed; no event carries its count of 1 lost events"
        ]
        assert owner.failures[0][1] is owner.raises

    play(main, queue_size=1)


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (3, "^owner: a callback must be callable, not 3$"),
        (turn, "^owner: a callback must be a plain function; for coroutines use 'async for'$"),
    ],
)
def test_a_callback_is_a_plain_function(callback: Any, message: str) -> None:
    owner = Owner()
    with pytest.raises(TypeError, match=message):
        owner.channel.add_callback(callback)


def test_a_new_callback_ends_the_pause_of_a_queue_that_nobody_takes_from() -> None:
    async def main(owner: Owner) -> None:
        owner.put(1, 2)
        assert owner.asked == ["pause"]
        owner.channel.add_callback(lambda event: None)
        await turn()
        assert owner.asked == ["pause", "resume"]

    play(main, when_full="pause", queue_size=1)


class Recorder:
    """As much of a loop as a channel needs, which records the calls that would let its owner look again."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def is_closed(self) -> bool:
        return False

    def call_soon(self, callback: Callable[[], object]) -> None:
        self.calls.append("call_soon")

    def call_soon_threadsafe(self, callback: Callable[[], object]) -> None:
        self.calls.append("call_soon_threadsafe")


@pytest.mark.parametrize(("inside", "call"), [(True, "call_soon"), (False, "call_soon_threadsafe")])
def test_an_owner_that_waits_for_room_looks_again_on_its_loop(inside: bool, call: str) -> None:
    owner, loop = Owner(), Recorder()
    owner.channel.open(loop)  # type: ignore[arg-type]
    owner.channel.halted = True
    asyncio._set_running_loop(loop if inside else None)  # type: ignore[arg-type]
    try:
        owner.channel.leave()
    finally:
        asyncio._set_running_loop(None)
    assert loop.calls == [call]


def test_without_a_loop_or_an_owner_nobody_looks_again() -> None:
    owner = Owner()
    channel = owner.channel
    channel.halted = True
    channel.leave()
    loop = Recorder()
    channel.open(loop)  # type: ignore[arg-type]
    del owner
    gc.collect()
    channel.leave()
    assert loop.calls == []


# Waiting consumers.


def test_consumers_are_served_in_the_order_in_which_they_began_to_wait() -> None:
    async def main(owner: Owner) -> None:
        served: list[tuple[str, int]] = []

        async def consume(name: str) -> None:
            served.append((name, (await owner.channel.get()).number))

        waiting = []
        for name in "abc":
            waiting.append(asyncio.create_task(consume(name)))
            await turn()
        owner.put(1, 2, 3)
        await asyncio.gather(*waiting)
        assert served == [("a", 1), ("b", 2), ("c", 3)]

    play(main)


def test_a_consumer_cancelled_as_it_is_woken_passes_the_event_on() -> None:
    async def main(owner: Owner) -> None:
        first, second = (asyncio.create_task(owner.channel.get()) for _ in range(2))
        await turn()
        owner.put(1)
        first.cancel()
        assert await second == Event(1)
        assert first.cancelled()
        assert owner.channel.consumers == 0

    play(main)


def test_a_consumer_that_is_closed_while_it_waits_wakes_no_other() -> None:
    async def main(owner: Owner) -> None:
        first, second = owner.channel.wait(), owner.channel.wait()
        for consumer in (first, second):
            consumer.send(None)  # it begins to wait
        second.close()
        assert owner.channel.waited_for
        assert owner.channel.consumers == 1
        first.close()
        assert not owner.channel.waited_for

    play(main)


def test_the_end_wakes_every_consumer_and_queued_events_can_still_be_taken() -> None:
    async def main(owner: Owner) -> None:
        waiting = [asyncio.create_task(anext(aiter(owner), None)) for _ in range(2)]  # type: ignore[arg-type]
        await turn()
        owner.channel.end()
        assert await asyncio.gather(*waiting) == [None, None]
        owner.put(1)
        assert [event async for event in owner] == [Event(1)]

    play(main)


def test_the_failure_that_ended_a_channel_is_raised_after_the_last_event() -> None:
    async def main(owner: Owner) -> None:
        owner.put(1)
        owner.channel.end(OSError("unplugged"))
        assert await owner.channel.get() == Event(1)
        for _ in range(2):
            with pytest.raises(OSError, match="unplugged"):
                await owner.channel.get()

    play(main)


def test_a_channel_that_is_not_open_says_so() -> None:
    owner = Owner()
    with pytest.raises(RuntimeError, match="owner is not open; use 'async with'"):
        asyncio.run(owner.channel.get())


def test_an_iteration_freed_in_another_thread_lets_the_owner_look_again_on_the_loop() -> None:
    async def main(owner: Owner) -> None:
        owner.channel.add_callback(lambda event: None)
        held = [aiter(owner)]
        owner.put(1, 2)
        assert owner.asked == ["pause"]
        thread = threading.Thread(target=held.clear)
        thread.start()
        await asyncio.to_thread(thread.join)
        await turn()
        assert owner.asked == ["pause", "resume"]
        assert owner.channel.consumers == 0

    play(main, when_full="pause", queue_size=1)


def test_an_iteration_keeps_the_owner() -> None:
    owner = Owner()
    iteration, reference = aiter(owner), weakref.ref(owner)
    del owner
    gc.collect()
    assert reference() is not None
    del iteration
    gc.collect()
    assert reference() is None


def test_a_channel_does_not_keep_its_owner() -> None:
    gc.disable()
    try:
        owner = Owner()
        owner.put(1, 2, 3, 4)
        channel = owner.channel
        del owner
        channel.put(Event(5))
        with pytest.raises(StopIteration) as taken:
            channel.get().send(None)
        assert taken.value.value == Event(3, 2)  # no owner is left to ask
    finally:
        gc.enable()


# Events that reach their receiver without the queue.


def test_an_event_that_bypasses_an_empty_queue_carries_what_is_owed() -> None:
    owner = Owner(queue_size=1)
    owner.channel.discard(Event(1, 4))
    assert owner.channel.bypass(Event(2)) == Event(2, 5)
    owner.put(3, 4)
    assert owner.channel.bypass(Event(5)) == Event(5)  # event 4, which is queued, came before and carries the drop
    assert account(owner.channel) == (5, 2, 2, 1)


def test_an_event_taken_back_counts_as_dropped() -> None:
    owner = Owner()
    event = owner.channel.bypass(Event(1, 2))
    owner.channel.take_back(event)
    assert account(owner.channel) == (1, 0, 1, 0)
    assert owner.channel.owed == 3


# Over any history.

STEPS = st.one_of(
    st.tuples(st.just("put"), st.integers(1, 4), st.integers(0, 2)),
    st.tuples(st.just("put, cancel"), st.integers(1, 2), st.integers(0, 1)),
    st.tuples(st.just("bypass"), st.integers(0, 2)),
    st.tuples(st.just("bypass, take back"), st.integers(0, 2)),
    st.tuples(st.just("discard"), st.integers(0, 2)),
    st.sampled_from(
        [("get",), ("iterate",), ("leave",), ("cancel",), ("turn",), ("clear",), ("callback",), ("no callback",)]
    ),
)


@pytest.mark.parametrize("when_full", POLICIES)
@given(st.integers(1, 3), st.lists(STEPS, max_size=30))
@settings(max_examples=50, deadline=None)
def test_no_event_and_no_loss_is_forgotten_over_any_history(
    when_full: WhenFull, queue_size: int, history: list[tuple[Any, ...]]
) -> None:
    async def main(owner: Owner) -> None:
        channel = owner.channel
        got: list[Event] = []  # by consumers, by direct receivers, and by callbacks that alone had the event
        tasks: list[asyncio.Task[None]] = []
        iterations: list[AsyncIterator[Event]] = []
        number = 0

        def event(lost: int) -> Event:
            nonlocal number
            number += 1
            channel.lost += lost
            return Event(number, lost)

        def callback(event: Event) -> None:
            if not channel.consumers:
                got.append(event)

        async def take(iteration: AsyncIterator[Event] | None) -> None:
            got.append(await (channel.get() if iteration is None else anext(iteration)))

        def act(what: str, *arguments: int) -> None:
            if what in ("put", "put, cancel"):
                count, lost = arguments
                for _ in range(count):
                    channel.put(event(lost))
                if what == "put, cancel" and tasks:
                    tasks.pop().cancel()
            elif what == "bypass":
                got.append(channel.bypass(event(*arguments)))
            elif what == "bypass, take back":
                channel.take_back(channel.bypass(event(*arguments)))
            elif what == "discard":
                channel.discard(event(*arguments))
            elif what == "get":
                tasks.append(asyncio.create_task(take(None)))
            elif what == "iterate":
                iterations.append(aiter(owner))
                tasks.append(asyncio.create_task(take(iterations[-1])))
            elif what == "leave" and iterations:
                iterations.pop()
            elif what == "cancel" and tasks:
                tasks.pop(0).cancel()
            elif what == "clear":
                channel.clear()
            elif what == "callback" and not channel.callbacks:
                channel.add_callback(callback)
            elif what == "no callback" and channel.callbacks:
                channel.callbacks.clear()

        def check() -> None:
            received, delivered, dropped, queued = account(channel)
            assert received == number == delivered + dropped + queued
            assert when_full == "pause" or queued <= queue_size
            carried = sum(event.lost for event in [*got, *channel.events])
            assert carried + channel.owed == channel.lost + dropped

        for what, *arguments in history:
            act(what, *arguments)
            if what == "turn":
                await turn()
            assert channel.received == channel.delivered + channel.dropped + len(channel.events)
        for _ in range(5):
            await turn()
        check()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        while channel.events:
            got.append(await channel.get())
        check()
        assert channel.delivered == len(got)
        assert not owner.failures

    play(main, queue_size=queue_size, when_full=when_full)


# Losses of an event.


def test_losses_are_added_to_named_tuples_that_count_them_and_other_events_stay_as_they_are() -> None:
    class Point(NamedTuple):
        x: int

    assert add_lost(Event(1, 2), 3) == Event(1, 5)
    assert add_lost(Point(1), 3) == Point(1)
    assert add_lost(b"event", 3) == b"event"

    class Replaceable:
        _replace = Point._replace

    event = Replaceable()
    assert add_lost(event, 3) is event


def test_an_event_whose_losses_can_not_be_read_has_none() -> None:
    class Odd:
        @property
        def lost(self) -> int:
            raise asyncio.CancelledError

    class Text:
        lost = "3"

    assert [lost_in(event) for event in (Odd(), b"event", Text(), Event(1, 7))] == [0, 0, 0, 7]


# Changes that no other test noticed (`make mutation`).


def test_an_event_that_owes_nothing_is_queued_as_it_is() -> None:
    owner, event = Owner(), Event(1)
    assert (owner.channel.halted, owner.channel.ended) == (False, False)
    assert isinstance(owner.channel.halted, bool)
    assert isinstance(owner.channel.ended, bool)
    owner.channel.put(event)
    assert owner.channel.events[0] is event


def test_a_loop_that_another_thread_closes_meanwhile_raises_nothing() -> None:
    class Closing(Recorder):
        def call_soon_threadsafe(self, callback: Callable[[], object]) -> None:
            raise RuntimeError("Event loop is closed")

    owner = Owner()
    owner.channel.open(Closing())  # type: ignore[arg-type]
    owner.channel.halted = True
    owner.channel.leave()


def test_a_callback_gets_the_count_of_an_event_that_was_discarded_before_it() -> None:
    async def main(owner: Owner) -> None:
        seen: list[Event] = []
        owner.channel.add_callback(seen.append)
        owner.channel.discard(Event(1))
        owner.put(2, 3)
        assert seen == [Event(2, 1), Event(3)]
        assert account(owner.channel) == (3, 2, 1, 0)

    play(main)


def test_a_channel_is_wanted_until_its_last_iterator_has_gone() -> None:
    async def main(owner: Owner) -> None:
        first, second = aiter(owner), aiter(owner)
        assert owner.channel.consumers == 2
        del first
        gc.collect()
        assert owner.channel.wanted
        del second
        gc.collect()
        assert not owner.channel.wanted

    play(main)


@pytest.mark.parametrize("size", [True, 2.0, "3", None])
def test_a_queue_size_that_is_no_whole_number_is_an_error_that_names_it(size: Any) -> None:
    with pytest.raises(TypeError, match=f"owner: queue_size must be a whole number, not {re.escape(repr(size))}"):
        Owner(queue_size=size)
