"""Sources with a rate limit: off the loop while above it, with nothing lost, logged and counted."""

from __future__ import annotations

import asyncio
import logging
import os

import pytest

from firmware_sim import SimBoard
from hwloop import board as boards
from hwloop import gpio, serial
from hwloop.board import Edge
from hwloop.sources import Backoff, RateLimit, Source
from hwloop.sources.poll import Poll


class Pipe(Source[int]):
    """One byte is one event; notes when it was read."""

    def __init__(self, **options):
        super().__init__(name="pipe", **options)
        self.reads = []

    def connect(self):
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        return self.reader

    def receive(self):
        data = os.read(self.reader, 4096)
        if not data:
            raise OSError("unplugged")
        self.reads.append(asyncio.get_running_loop().time() - 1000)
        return list(data)

    def disconnect(self):
        os.close(self.reader)
        os.close(self.writer)

    def send(self, *values):
        os.write(self.writer, bytes(values))


async def chatter(pipe, count):
    """An event each millisecond."""
    for value in range(count):
        pipe.send(value % 256)
        await asyncio.sleep(0.001)


@pytest.fixture
def messages():
    """The messages that hwloop has logged."""
    texts = []
    handler = logging.Handler()
    handler.emit = lambda record: texts.append(record.getMessage())
    logging.getLogger("hwloop").addHandler(handler)
    yield texts
    logging.getLogger("hwloop").removeHandler(handler)


def test_a_source_within_its_limit_is_left_alone(leap, messages):
    async def main():
        async with Pipe(rate_limit=RateLimit(1000, 2)) as pipe:
            await chatter(pipe, 500)
            await asyncio.sleep(2)
            assert len(pipe.reads) == 500
            return pipe.statistics()

    statistics = leap(main())
    assert (statistics.limited, statistics.limited_seconds) == (0, 0)
    assert messages == []


def test_a_source_over_its_limit_is_read_that_often_and_loses_nothing(leap):
    async def main():
        got = []
        async with Pipe(rate_limit=100) as pipe:  # five at once, then off for 0.05 s
            pipe.add_callback(got.append)
            await chatter(pipe, 1000)
            await asyncio.sleep(1)
            assert got == [value % 256 for value in range(1000)]
            for start in pipe.reads:
                within = sum(start <= read < start + 0.1 for read in pipe.reads)
                assert within <= 5 + 0.1 * 100
            assert len(pipe.reads) >= 90
            return pipe.statistics()

    statistics = leap(main())
    assert (statistics.received, statistics.delivered, statistics.lost, statistics.dropped) == (1000, 1000, 0, 0)
    assert 15 <= statistics.limited <= 20
    assert 0.7 < statistics.limited_seconds < 1


def test_the_time_off_the_loop_is_counted_to_the_microsecond(leap):
    async def main():
        async with Pipe(rate_limit=RateLimit(10, 2)) as pipe:
            for _ in range(3):
                pipe.send(1)
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.049)
            during = pipe.statistics()
            await asyncio.sleep(0.5)
            return during, pipe.statistics(), pipe.reads

    during, after, reads = leap(main())
    assert (during.limited, round(during.limited_seconds, 6)) == (1, 0.05)
    assert (after.limited, round(after.limited_seconds, 6)) == (1, 0.198)
    assert [round(read, 6) for read in reads] == [0, 0.001, 0.2]


def test_a_limited_source_is_off_the_loop(leap):
    async def main():
        loop = asyncio.get_running_loop()
        async with Pipe(rate_limit=10) as pipe:
            for _ in range(2):
                pipe.send(1)
                await asyncio.sleep(0.001)
            registered = [key.fd for key in loop.clock.get_map().values()]
            assert pipe.fileno() not in registered
            wakeups = pipe.statistics().wakeups
            pipe.send(2)
            await asyncio.sleep(0.05)
            assert pipe.statistics().wakeups == wakeups
            await asyncio.sleep(0.1)
            assert pipe.fileno() in [key.fd for key in loop.clock.get_map().values()]

    leap(main())


def test_an_outage_is_reported_when_it_begins_and_when_it_has_ended(leap, messages):
    async def main():
        async with Pipe(rate_limit=100) as pipe:
            await chatter(pipe, 200)
            assert len(messages) == 1
            await asyncio.sleep(2)
            assert len(messages) == 2
            await chatter(pipe, 60)
            await asyncio.sleep(2)

    leap(main())
    assert [message.split(",")[0] for message in messages] == [
        "pipe is above its limit of 100 reads a second: it is off the loop now and then",
        "pipe is back within its limit",
    ] * 2
    assert "off 4 times, 0.18" in messages[1]
    assert "off 2 times, 0.09" in messages[3] or "off 1 times, 0.04" in messages[3]


def test_a_source_that_comes_back_to_a_full_queue_still_waits_for_room(leap):
    async def main():
        async with Pipe(rate_limit=RateLimit(10, 1), queue_size=4, when_full="pause") as pipe:
            pipe.send(1, 2, 3)
            await asyncio.sleep(0.01)
            pipe.send(4, 5)
            await asyncio.sleep(0.01)
            assert pipe.statistics().limited == 1
            pipe.deliver(9)  # as a timer of the source's own may do while it is off
            await asyncio.sleep(1)
            assert len(pipe.reads) == 1  # back long ago, but the queue is full
            assert [await anext(pipe) for _ in range(6)] == [1, 2, 3, 9, 4, 5]

    leap(main())


def test_room_in_the_queue_does_not_bring_a_limited_source_back(leap):
    async def main():
        async with Pipe(rate_limit=RateLimit(10, 1), queue_size=4, when_full="pause") as pipe:
            pipe.send(1, 2)
            await asyncio.sleep(0.01)
            pipe.send(3)
            await asyncio.sleep(0.01)
            assert [await anext(pipe), await anext(pipe)] == [1, 2]
            await asyncio.sleep(0.05)
            assert len(pipe.reads) == 1
            assert pipe.statistics().limited == 1
            return await anext(pipe), round(pipe.reads[1], 6)

    assert leap(main()) == (3, 0.1)


def test_closing_a_limited_source_ends_the_outage(leap, messages):
    async def main():
        loop = asyncio.get_running_loop()
        pipe = Pipe(rate_limit=10).open()
        for _ in range(2):
            pipe.send(1)
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.049)
        pipe.close()
        statistics = pipe.statistics()
        await asyncio.sleep(10)
        assert pipe.statistics() == statistics
        assert loop.time() - 1000 < 10.1
        return statistics

    statistics = leap(main())
    assert (statistics.limited, round(statistics.limited_seconds, 3)) == (1, 0.05)
    assert len(messages) == 1


def test_a_device_that_fails_while_limited_is_reopened_and_limited_anew(leap):
    async def main():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: None)
        async with Pipe(rate_limit=10, reopen=Backoff(0.01)) as pipe:
            for _ in range(2):
                pipe.send(1)
                await asyncio.sleep(0.001)
            assert pipe.statistics().limited == 1
            pipe.fail(OSError("unplugged"))
            await asyncio.sleep(0.02)
            pipe.send(2)
            await asyncio.sleep(1)
            statistics = pipe.statistics()
            return statistics.reopened, statistics.limited, statistics.received

    # The second 1 was lost with the pipe that held it; the 2 came while the bucket was still empty.
    assert leap(main()) == (1, 2, 2)


async def value():
    return 42


def test_a_trigger_that_chatters_causes_readings_up_to_the_limit_and_one_for_its_last_edge(leap):
    async def main():
        async with Pipe() as bus, Pipe() as line, Poll(bus, value, trigger=line, name="poll", rate_limit=20) as poll:
            for number in range(1000):
                line.deliver(Edge(5, 1, number, 0, 0))
                await asyncio.sleep(0.001)
            await asyncio.sleep(1)
            statistics = poll.statistics()
            readings = [await anext(poll) for _ in range(statistics.queued)]
            assert readings[-1].timestamp_ns == 999
            assert sum(reading.lost + 1 for reading in readings) == 1001
            return statistics

    statistics = leap(main())
    assert 20 <= statistics.received <= 22
    assert statistics.limited >= 18


def test_a_schedule_over_its_limit_skips_and_counts(leap):
    async def main():
        async with Pipe() as bus, Poll(bus, value, every=0.01, name="poll", rate_limit=20) as poll:
            await asyncio.sleep(1.005)
            statistics = poll.statistics()
            readings = [await anext(poll) for _ in range(statistics.queued)]
            return statistics, sum(reading.lost + 1 for reading in readings)

    statistics, accounted = leap(main())
    assert 15 <= statistics.received <= 21
    assert 95 <= accounted <= 101


def test_a_line_that_chatters_is_limited_and_no_edge_is_lost(run, messages):
    async def main():
        async with gpio.watch(5, pull="up", rate_limit=20) as line:
            values = []
            line.on_edge(lambda edge: values.append(edge.value))
            for number in range(60):
                board.chip.line(5).drive(number % 2)
                await asyncio.sleep(0.0005)
            async with asyncio.timeout(5):
                while len(values) < 60:
                    await asyncio.sleep(0.002)
            assert values == [0, 1] * 30
            return line.statistics()

    with SimBoard() as board, boards.using(board):
        statistics = run(main())
    assert statistics.lost == 0
    assert statistics.limited >= 1
    assert messages[0].startswith("gpio:5 is above its limit of 20 reads a second")


def test_a_port_that_babbles_is_limited_and_no_frame_is_lost(run):
    async def main():
        async with serial.open("/dev/ttyAMA0", 115200, framing=serial.Lines(), rate_limit=20) as port:
            for number in range(30):
                peer.send(b"%d\n" % number)
                await asyncio.sleep(0.001)
            async with asyncio.timeout(5):
                assert [int((await anext(port)).data) for _ in range(30)] == list(range(30))
            return port.statistics()

    with SimBoard() as board, boards.using(board):
        peer = board.add_port("/dev/ttyAMA0")
        statistics = run(main())
    assert statistics.limited >= 1


@pytest.mark.parametrize("bad", [0, -5, float("nan"), float("inf")])
def test_an_impossible_limit_raises(bad):
    with pytest.raises(ValueError, match="a rate"):
        Pipe(rate_limit=bad)
    with pytest.raises(ValueError, match="burst"):
        RateLimit(5, 0)


def test_a_limit_of_the_wrong_type_raises():
    with pytest.raises(TypeError, match="a rate"):
        Pipe(rate_limit="fast")


def test_sources_pass_the_limit_on():
    with pytest.raises(ValueError, match="a rate"):
        gpio.watch(5, rate_limit=0)
    with pytest.raises(ValueError, match="a rate"):
        serial.open("/dev/ttyAMA0", rate_limit=0)
