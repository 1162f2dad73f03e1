"""Source, the base of all sources and of custom ones, on a pipe of small events."""

from __future__ import annotations

import asyncio
import os
from typing import NamedTuple

import pytest

import hwloop
from hwloop.sources import Backoff, Source
from hwloop.sources.reopening import Pauses


class Event(NamedTuple):
    value: int
    lost: int = 0


class Pipe(Source[Event]):
    """One byte is one event; an end of file is a failure, as an unplugged device would be."""

    def __init__(self, **options):
        super().__init__(name="pipe", **options)
        self.reader = self.writer = -1
        self.refuse = 0

    def connect(self):
        if self.refuse:
            self.refuse -= 1
            raise OSError("not there yet")
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        return self.reader

    def receive(self):
        data = os.read(self.reader, 4096)
        if not data:
            raise OSError("unplugged")
        return [Event(byte) for byte in data]

    def disconnect(self):
        os.close(self.reader)
        self.unplug()

    def with_lost(self, event, lost):
        return event._replace(lost=event.lost + lost)

    def send(self, *values):
        os.write(self.writer, bytes(values))

    def unplug(self):
        if self.writer >= 0:
            os.close(self.writer)
            self.writer = -1


async def settle():
    """Let all that is readable be read."""
    await asyncio.sleep(0.005)


@pytest.fixture
def reports():
    return []


def reporting(reports):
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context))


def test_events_are_iterated_in_order(run):
    async def main():
        async with Pipe() as pipe:
            pipe.send(1, 2, 3)
            got = []
            async for event in pipe:
                got.append(event.value)
                if len(got) == 3:
                    return got, pipe.statistics()

    got, statistics = run(main())
    assert got == [1, 2, 3]
    assert (statistics.received, statistics.delivered, statistics.queued, statistics.wakeups) == (3, 3, 0, 1)


def test_callbacks_get_events_straight_from_the_reader_and_nothing_is_queued(run):
    async def main():
        got = []
        async with Pipe() as pipe:
            pipe.add_callback(lambda event: got.append(event.value))
            pipe.send(1, 2)
            await settle()
            pipe.remove_callback(pipe.callbacks[0])
            return got, pipe.statistics()

    got, statistics = run(main())
    assert got == [1, 2]
    assert (statistics.delivered, statistics.queued) == (2, 0)


def test_a_callback_that_raises_is_reported_and_the_others_and_the_rest_go_on(run, reports):
    async def main():
        reporting(reports)
        got = []
        async with Pipe() as pipe:
            pipe.add_callback(lambda event: 1 / 0)
            pipe.add_callback(lambda event: got.append(event.value))
            pipe.send(1, 2)
            await settle()
            return got, pipe.statistics().errors

    assert run(main()) == ([1, 2], 2)
    assert [type(report["exception"]) for report in reports] == [ZeroDivisionError] * 2
    assert "pipe: exception in callback" in reports[0]["message"]


@pytest.mark.parametrize("size", ["5", 2.5, None, True])
def test_a_queue_size_must_be_a_whole_number(size):
    with pytest.raises(TypeError, match="pipe: queue_size must be a whole number"):
        Pipe(queue_size=size)


@pytest.mark.parametrize("bad", [5, None, "text"])
def test_a_callback_must_be_callable(bad):
    with pytest.raises(TypeError, match="callable"):
        Pipe().add_callback(bad)


def test_a_coroutine_function_is_no_callback():
    async def callback(event):
        pass

    with pytest.raises(TypeError, match="async for"):
        Pipe().add_callback(callback)


def test_a_full_queue_drops_the_oldest_and_the_next_event_carries_the_count(run):
    async def main():
        async with Pipe(queue_size=3) as pipe:
            pipe.send(*range(10))
            await settle()
            return [await anext(pipe) for _ in range(3)], pipe.statistics()

    events, statistics = run(main())
    assert events == [Event(7, lost=7), Event(8), Event(9)]
    assert (statistics.received, statistics.delivered, statistics.dropped) == (10, 3, 7)


def test_a_full_queue_drops_the_newest_and_the_next_event_carries_the_count(run):
    async def main():
        async with Pipe(queue_size=3, when_full="drop-newest") as pipe:
            pipe.send(*range(10))
            await settle()
            events = [await anext(pipe) for _ in range(3)]
            pipe.send(99)
            return [*events, await anext(pipe)], pipe.statistics()

    events, statistics = run(main())
    assert events == [Event(0), Event(1), Event(2), Event(99, lost=7)]
    assert statistics.dropped == 7


def test_a_full_queue_can_pause_reading_and_then_nothing_is_dropped(run):
    async def main():
        async with Pipe(queue_size=4, when_full="pause") as pipe:
            got = []
            for start in range(0, 40, 4):
                pipe.send(*range(start, start + 4))
                await settle()
            assert pipe.statistics().queued < 40
            while len(got) < 40:
                got.append((await anext(pipe)).value)
            return got, pipe.statistics().dropped

    assert run(main()) == (list(range(40)), 0)


@pytest.mark.parametrize("policy", ["drop-oldest", "drop-newest"])
def test_the_next_event_carries_the_losses_of_a_dropped_one(run, policy):
    async def main():
        async with Pipe(queue_size=2, when_full=policy) as pipe:
            for value in range(5):
                pipe.count_lost(9)
                pipe.deliver(Event(value, lost=9))
            events = [await anext(pipe) for _ in range(2)]
            pipe.deliver(Event(5))
            events.append(await anext(pipe))
            return events, pipe.statistics()

    events, statistics = run(main())
    assert statistics.dropped == 3
    assert sum(event.lost for event in events) == statistics.lost + statistics.dropped == 48
    lossy = events[0 if policy == "drop-oldest" else 2]
    assert lossy.lost == (39 if policy == "drop-oldest" else 30)


# Callbacks and consumers.


def receive_all(pipe, got):
    async def consume():
        async for event in pipe:
            got.append(event.value)

    return asyncio.create_task(consume())


@pytest.mark.parametrize("waits", [anext, lambda pipe: anext(aiter(pipe))], ids=["anext(source)", "anext(aiter)"])
@pytest.mark.parametrize("first", ["callback", "consumer"])
def test_a_callback_and_a_waiting_consumer_get_the_same_event(run, waits, first):
    async def main():
        got = []
        async with Pipe() as pipe:
            if first == "callback":
                pipe.add_callback(got.append)
            tasks = [asyncio.ensure_future(waits(pipe)) for _ in range(2)]
            await settle()
            if first == "consumer":
                pipe.add_callback(got.append)
            pipe.send(1, 2, 3)
            events = await asyncio.gather(*tasks)
            assert sorted(event.value for event in events) == [1, 2]
            assert [event.value for event in got] == [1, 2, 3]
            # The third came while two were awaited, so it is there for the next; later ones are the callback's.
            pipe.send(4)
            await settle()
            return pipe.statistics().queued

    assert run(main()) <= 1


def test_a_callback_taken_off_while_a_consumer_waits_changes_nothing_for_it(run):
    async def main():
        async with Pipe() as pipe:
            pipe.add_callback(print)
            task = asyncio.create_task(anext(pipe))
            await settle()
            pipe.remove_callback(print)
            pipe.send(1)
            return (await task).value

    assert run(main()) == 1


def test_consumers_that_come_and_go_beside_a_callback_get_what_comes_while_they_are_there(run):
    async def main():
        called, got = [], []
        async with Pipe() as pipe:
            pipe.add_callback(lambda event: called.append(event.value))
            for start in (0, 10):
                pipe.send(start)  # nobody but the callback wants it
                await settle()
                task = receive_all(pipe, got)
                await settle()
                pipe.send(start + 1, start + 2)
                await settle()
                task.cancel()
                await asyncio.wait([task])
            pipe.send(20)
            await settle()
            assert called == [0, 1, 2, 10, 11, 12, 20]
            assert got == [1, 2, 11, 12]
            statistics = pipe.statistics()
            assert (statistics.received, statistics.delivered, statistics.queued) == (7, 7, 0)

    run(main())


@pytest.mark.parametrize("how", ["break", "cancellation", "exception"])
def test_a_consumer_that_has_left_no_longer_holds_the_callbacks_up(run, how):
    async def main():
        called = []
        async with Pipe(queue_size=4, when_full="pause") as pipe:
            pipe.add_callback(lambda event: called.append(event.value))

            async def consume():
                async for _ in pipe:
                    if how == "break":
                        break
                    if how == "exception":
                        raise ValueError
                    await asyncio.sleep(100)

            task = asyncio.create_task(consume())
            await settle()
            sent = 0
            for _ in range(3):
                pipe.send(*range(sent, sent + 4))
                sent += 4
                await settle()
            if how == "cancellation":
                assert called[-1] < 11  # a slow consumer does pause the source
                task.cancel()
            await asyncio.wait([task])
            await settle()
            for _ in range(5):
                pipe.send(*range(sent, sent + 4))
                sent += 4
                await settle()
            assert called == list(range(sent))
            statistics = pipe.statistics()
            assert statistics.received == sent == statistics.delivered + statistics.dropped + statistics.queued

    run(main())


def test_a_callback_that_comes_to_a_paused_source_sets_it_going(run):
    async def main():
        called = []
        async with Pipe(queue_size=2, when_full="pause") as pipe:
            for start in (0, 2, 4):
                pipe.send(start, start + 1)
                await settle()
            assert pipe.statistics().received == 4
            pipe.add_callback(lambda event: called.append(event.value))
            await settle()
            return called

    assert run(main()) == [4, 5]


def test_without_callbacks_a_paused_source_waits_for_the_next_consumer(run):
    async def main():
        got = []
        async with Pipe(queue_size=2, when_full="pause") as pipe:
            pipe.send(0)
            async for event in pipe:
                got.append(event.value)
                break
            for start in range(1, 7, 2):
                pipe.send(start, start + 1)
                await settle()
            assert pipe.statistics().received == 5
            while len(got) < 7:
                got.append((await anext(pipe)).value)
            return got, pipe.statistics().dropped

    assert run(main()) == (list(range(7)), 0)


def test_closing_wakes_whoever_waits_and_is_harmless_when_repeated(run):
    async def main():
        pipe = Pipe().open()
        iterated = [asyncio.create_task(anext(pipe, "ended")) for _ in range(3)]
        await settle()
        pipe.close()
        pipe.close()
        assert pipe.closed
        assert pipe.fileno() == -1
        return await asyncio.gather(*iterated)

    assert run(main()) == ["ended"] * 3


def test_events_queued_before_closing_can_still_be_read(run):
    async def main():
        pipe = Pipe().open()
        pipe.send(1, 2)
        await settle()
        pipe.close()
        return [event.value async for event in pipe]

    assert run(main()) == [1, 2]


def test_a_callback_that_closes_the_source_gets_no_more(run):
    async def main():
        pipe = Pipe().open()
        got = []
        pipe.add_callback(lambda event: (got.append(event.value), pipe.close()))
        pipe.send(1, 2, 3)
        await settle()
        return got

    assert run(main()) == [1]


def test_events_of_the_read_in_which_a_callback_closes_or_exits_are_counted(run):
    kept = []

    async def main(leave):
        pipe = Pipe().open()
        kept.append(pipe)
        pipe.add_callback(leave(pipe))
        pipe.send(1, 2, 3)
        await settle()

    def exits(pipe):
        def callback(event):
            raise KeyboardInterrupt

        return callback

    run(main(lambda pipe: lambda event: pipe.close()))
    with pytest.raises(KeyboardInterrupt):
        run(main(exits))
    for pipe in kept:
        pipe.close()
        statistics = pipe.statistics()
        assert (statistics.received, statistics.delivered, statistics.dropped) == (3, 1, 2)


def test_several_consumers_share_the_events(run):
    async def main():
        async with Pipe() as pipe:
            tasks = [asyncio.create_task(anext(pipe)) for _ in range(3)]
            await settle()
            pipe.send(1, 2, 3)
            return sorted(event.value for event in await asyncio.gather(*tasks))

    assert run(main()) == [1, 2, 3]


def test_a_consumer_that_is_cancelled_as_it_is_woken_hands_the_event_on(run):
    async def main():
        async with Pipe() as pipe:
            first, second = (asyncio.create_task(anext(pipe)) for _ in range(2))
            await settle()
            pipe.deliver(Event(1))  # wakes the first, which has not run yet
            first.cancel()
            event = await asyncio.wait_for(second, 5)
            assert first.cancelled()
            return event

    assert run(main()) == Event(1)


def test_a_device_that_fails_ends_the_source_and_whoever_waits_gets_the_error(run, reports):
    async def main():
        reporting(reports)
        pipe = Pipe().open()
        waiting = asyncio.create_task(anext(pipe))
        await settle()
        pipe.unplug()
        with pytest.raises(OSError, match="unplugged"):
            await waiting
        with pytest.raises(OSError, match="unplugged"):
            await anext(pipe)
        assert pipe.closed
        pipe.close()
        return pipe.statistics().errors

    assert run(main()) == 1
    assert reports == []  # the waiting consumer has the error, and no second report is made


def test_a_device_that_fails_unobserved_is_reported_once(run, reports):
    async def main():
        reporting(reports)
        pipe = Pipe().open()
        pipe.unplug()
        await settle()
        assert pipe.closed

    run(main())
    assert [report["message"] for report in reports] == ["pipe failed and is closed"]


def test_a_source_with_a_backoff_comes_back_and_the_outage_is_reported_once(run, reports):
    async def main():
        reporting(reports)
        async with Pipe(reopen=Backoff(0.001, 2, 0.004)) as pipe:
            pipe.refuse = 3
            pipe.unplug()
            while not pipe.statistics().reopened:
                await settle()
            pipe.send(7)
            return await anext(pipe), pipe.statistics()

    event, statistics = run(main())
    assert event == Event(7)
    assert (statistics.reopened, statistics.errors) == (1, 4)
    assert [report["message"] for report in reports] == ["pipe failed; it is reopened as soon as that works"]


def test_closing_during_an_outage_ends_the_attempts(run, reports):
    async def main():
        reporting(reports)
        pipe = Pipe(reopen=Backoff(0.001)).open()
        pipe.refuse = 10**9
        waiting = asyncio.create_task(anext(pipe, "ended"))
        pipe.unplug()
        await settle()
        pipe.close()
        errors = pipe.statistics().errors
        await settle()
        assert pipe.statistics().errors == errors
        return await waiting

    assert run(main()) == "ended"


def test_using_a_source_in_the_wrong_state_says_what_to_do(run):
    async def main():
        pipe = Pipe()
        with pytest.raises(RuntimeError, match="async with"):
            await anext(pipe)
        pipe.open()
        with pytest.raises(RuntimeError, match="open already"):
            pipe.open()
        pipe.close()
        with pytest.raises(RuntimeError, match="make a new one"):
            pipe.open()

    run(main())


def test_a_source_that_cannot_be_opened_leaves_nothing_registered():
    async def main():
        pipe = Pipe()
        pipe.refuse = 1
        with pytest.raises(OSError, match="not there yet"):
            pipe.open()
        assert asyncio.get_running_loop().sources() == []
        pipe.open().close()  # and can be tried again

    hwloop.run(main())


def test_closing_after_the_loop_was_closed_is_harmless(run, caplog):
    kept = []

    async def main():
        kept.append(Pipe().open())

    run(main())
    kept[0].close()
    assert kept[0].closed
    assert caplog.records == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"queue_size": 0}, "queue_size"),
        ({"when_full": "explode"}, "drop-oldest, drop-newest, pause"),
        ({"priority": 9}, "unknown priority 9"),
    ],
)
def test_bad_options_raise(options, message):
    with pytest.raises(ValueError, match=message):
        Pipe(**options)


def test_a_number_in_place_of_a_backoff_raises_at_once():
    with pytest.raises(TypeError, match=r"reopen must be a Backoff or None, not 0\.5"):
        Pipe(reopen=0.5)


def test_a_backoff_grows_to_its_maximum_and_stays_there():
    backoff = Backoff(0.1, 2, 5)
    assert [backoff.pause(attempt) for attempt in (0, 1, 2, 10, 10**6)] == [0.1, 0.2, 0.4, 5, 5]
    for bad in ((0, 2, 5), (1, 0.5, 5), (6, 2, 5), (1, 2, 5, 1.5), (1, 2, 5, -0.1)):
        with pytest.raises(ValueError, match="backoff"):
            Backoff(*bad)


def test_the_pauses_of_two_sources_differ_by_the_jitter_and_are_the_same_in_each_run():
    backoff = Backoff(1, 2, 8, jitter=0.25)
    first, again, other = (
        [pauses.before(attempt) for attempt in range(20)]
        for pauses in (Pauses(backoff, "a"), Pauses(backoff, "a"), Pauses(backoff, "b"))
    )
    assert first == again != other
    assert all(0.75 * backoff.pause(attempt) <= pause <= backoff.pause(attempt) for attempt, pause in enumerate(first))
    assert len({round(pause, 3) for pause in first[3:]}) > 10
    assert [Pauses(Backoff(1, 2, 8, 0), "a").before(attempt) for attempt in range(4)] == [1, 2, 4, 8]


def test_a_source_shows_its_name_and_state(run):
    async def main():
        pipe = Pipe()
        states = [repr(pipe)]
        pipe.open()
        states.append(repr(pipe))
        pipe.close()
        return [*states, repr(pipe)]

    assert run(main()) == ["<Pipe pipe new>", "<Pipe pipe open>", "<Pipe pipe closed>"]
