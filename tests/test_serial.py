"""The serial source on the simulated board: pyserial and the kernel's terminals are the real ones."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import grp  # noqa: F401  # before a test becomes a user who may not read Python's own files
import hashlib
import itertools
import os
import random
import select
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import serial.serialposix as pyserial_posix

from firmware_sim import SimBoard
from firmware_sim.uart import Port
from hwloop.board import using
from hwloop.core.urgency import Priority
from hwloop.errors import HardwareError
from hwloop.sources import Backoff, serial
from hwloop.sources.serial import Frame
from hwloop.sources.serial import device as serial_device
from hwloop.sources.serial import opening as serial_opening
from hwloop.trace_events import SerialSettings

Run = Callable[[Coroutine[Any, Any, None]], None]
NAME = "/dev/ttyAMA0"


class Paths(SimBoard):
    """A board on which every port is the file of that name."""

    def serial_port(self, port: str) -> str:
        return port


class Recorder:
    """A device that keeps what it is sent, and with `echo` sends it back."""

    def __init__(self, port: Port, *, echo: bool = False) -> None:
        self.heard = bytearray()
        self._port, self._echo = port, echo
        port.attach(self)

    def receive(self, data: bytes) -> None:
        self.heard += data
        if self._echo:
            self._port.send(data)


class Prompts(serial.Lines):
    """Lines, and what comes without a line end once the line has been silent for a millisecond."""

    last_ns = 0

    def feed(self, data: bytes, now_ns: int) -> list[Frame]:
        self.last_ns = now_ns
        return super().feed(data, now_ns)

    @property
    def deadline_ns(self) -> int | None:
        return self.last_ns + 1_000_000 if self._buffer else None

    def flush(self, now_ns: int) -> list[Frame]:
        return super().feed(b"\n", now_ns) if self.deadline_ns and now_ns >= self.deadline_ns else []


class Spoilt(BaseException):
    """An exception that few programs expect."""


@pytest.fixture
def board() -> Iterator[SimBoard]:
    with SimBoard() as board, using(board):
        yield board


@pytest.fixture
def port(board: SimBoard) -> Port:
    return board.add_port(NAME)


@pytest.fixture
def paths() -> Iterator[None]:
    with Paths() as board, using(board):
        yield


@pytest.fixture
def run(run: Run) -> Run:
    """As everywhere, but a coroutine that hangs fails."""

    async def bounded(main: Coroutine[Any, Any, None]) -> None:
        async with asyncio.timeout(20):
            await main

    return lambda main: run(bounded(main))


@contextlib.contextmanager
def held_by_pyserial(path: str) -> Iterator[int]:
    """Another program has the port at `path` open, locked as pyserial does. Its process id."""
    code = "import serial, sys; port = serial.Serial(sys.argv[1], exclusive=True); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline()
        yield other.pid
        other.stdin.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


def reports() -> list[dict[str, Any]]:
    """The reports to the running loop's exception handler from now on."""
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
    return told


async def take(source: serial.SerialPort, count: int) -> list[Frame]:
    async with asyncio.timeout(5):
        return [await anext(source) for _ in range(count)]


class TestReading:
    def test_lines_arrive_as_frames_stamped_with_loop_time(self, run: Run, port: Port) -> None:
        async def main() -> None:
            async with serial.open(NAME, framing=serial.Lines()) as source:
                before = asyncio.get_running_loop().time()
                port.send(b"one\r\ntwo\r\nthr")
                frames = await take(source, 2)
                assert [frame.data for frame in frames] == [b"one", b"two"]
                assert before <= frames[0].received_ns / 1e9 <= asyncio.get_running_loop().time()
                port.send(b"ee\n")
                assert [frame.data for frame in await take(source, 1)] == [b"three"]
                assert source.statistics().delivered == 3

        run(main())

    def test_without_framing_a_frame_is_what_one_read_brought(self, run: Run, port: Port) -> None:
        async def main() -> None:
            async with serial.open(NAME) as source:
                port.send(b"\x00\xff\x11\x13\x03\r\n")
                [frame] = await take(source, 1)
                assert frame.data == b"\x00\xff\x11\x13\x03\r\n"  # nothing is translated or swallowed
                assert source.statistics().wakeups == 1

        run(main())

    def test_half_a_megabyte_passes_unchanged_at_921600_baud(self, run: Run, port: Port) -> None:
        data = random.Random(1).randbytes(500_000)

        async def main() -> None:
            got = bytearray()
            async with serial.open(NAME, 921600) as source:
                port.send(data)
                async for frame in source:
                    got += frame.data
                    if len(got) >= len(data):
                        break
                assert source.statistics().wakeups < len(data) / 100  # a wakeup reads what is there, not a byte
            assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()
            assert port.dropped == 0

        run(main())

    def test_a_callback_is_called_from_the_reader(self, run: Run, port: Port) -> None:
        async def main() -> None:
            told, got = reports(), list[bytes]()

            def spoil(frame: Frame) -> None:
                raise ValueError("spoilt")

            source = serial.open(NAME, framing=serial.Lines(), priority=Priority.HIGH)
            source.add_callback(spoil)
            source.add_callback(lambda frame: got.append(frame.data))
            async with source:
                port.send(b"a\nb\n")
                await until(lambda: len(got) == 2)
                assert source.statistics().errors == 2
                assert [str(context["exception"]) for context in told] == ["spoilt", "spoilt"]

        run(main())

    def test_an_open_port_with_nothing_to_say_is_left_alone(self, run: Run, port: Port) -> None:
        """With VMIN = VTIME = 0 a read of nothing returns nothing, as that of a hung-up port does."""

        async def main() -> None:
            async with serial.open(NAME) as source:
                source.on_readable()
                assert not source.closed
                await asyncio.sleep(0.01)
                assert source.statistics().wakeups == 1
                port.send(b"x")
                assert [frame.data for frame in await take(source, 1)] == [b"x"]

        run(main())

    def test_a_full_queue_pauses_reading_and_nothing_is_lost(self, run: Run, port: Port) -> None:
        async def main() -> None:
            async with serial.open(NAME, framing=serial.Lines(), queue_size=10) as source:
                port.send(b"".join(b"%d\n" % number for number in range(5000)))
                await until(lambda: source.statistics().queued >= 10)
                wakeups = source.statistics().wakeups
                await asyncio.sleep(0.01)
                assert source.statistics().wakeups == wakeups  # paused: it does not spin either
                assert [int(frame.data) for frame in await take(source, 5000)] == list(range(5000))
                assert source.statistics().dropped == 0

        run(main())

    def test_reading_resumes_while_output_is_waiting(self, run: Run, board: SimBoard, port: Port) -> None:
        device = Recorder(port)

        async def main() -> None:
            async with serial.open(NAME, framing=serial.Lines(), queue_size=1) as source:
                port.send(b"1\n2\n3\n")
                await until(lambda: source.statistics().queued == 3)
                with board.timeline.lock:  # the device is not reading
                    source.write(bytes(200_000))
                    assert [frame.data for frame in await take(source, 3)] == [b"1", b"2", b"3"]
                await source.flush()
                await until(lambda: len(device.heard) == 200_000)

        run(main())

    def test_frames_dropped_by_a_full_queue_are_on_the_next_frame(self, run: Run, port: Port) -> None:
        async def main() -> None:
            framing = serial.Lines(check=bytes.isascii)
            async with serial.open(NAME, framing=framing, queue_size=2, when_full="drop-oldest") as source:
                port.send(b"1\n2\n3\n\xff\n4\n")
                await until(lambda: source.statistics().received == 4)
                first, second = await take(source, 2)
                assert (first.data, first.lost) == (b"3", 2)
                assert (second.data, second.lost) == (b"4", 1)
                statistics = source.statistics()
                assert (statistics.dropped, statistics.lost) == (2, 1)

        run(main())


class TestFraming:
    def test_garbage_and_truncated_frames_are_counted_and_cost_no_good_one(self, run: Run, port: Port) -> None:
        good = [bytes([0x42, 0x4D, number, 0x42 ^ 0x4D ^ number]) for number in range(3)]

        async def main() -> None:
            told = reports()
            framing = serial.Fixed(4, start=b"BM", check=lambda frame: frame[0] ^ frame[1] ^ frame[2] == frame[3])
            async with serial.open(NAME, framing=framing) as source:
                port.send(b"\xff\x00garbage" + good[0] + good[1][:3] + good[1] + b"B" + good[2])
                frames = await take(source, 3)
                assert [frame.data for frame in frames] == good
                assert [frame.lost for frame in frames] == [3, 1, 1]
                assert source.statistics().lost == 5
                assert framing.skipped == 9 + 3 + 1
            assert told == []

        run(main())

    def test_a_check_that_raises_is_reported_and_the_rest_goes_on(self, run: Run, port: Port) -> None:
        async def main() -> None:
            told = reports()
            async with serial.open(NAME, framing=serial.Lines(check=lambda line: int(line) > 0)) as source:
                port.send(b"1\nx\n2\n")
                assert [(frame.data, frame.lost) for frame in await take(source, 2)] == [(b"1", 0), (b"2", 1)]
                assert source.statistics().errors == 1
            assert [type(context["exception"]) for context in told] == [ValueError]

        run(main())

    def test_silence_ends_a_frame(self, run: Run, port: Port) -> None:
        async def main() -> None:
            async with serial.open(NAME, 115200, framing=serial.IdleGap(minimum=0.004)) as source:
                port.send(b"request")
                [first] = await take(source, 1)
                port.send(b"reply")
                [second] = await take(source, 1)
                assert (first.data, second.data) == (b"request", b"reply")
                assert source.statistics().wakeups == 2

        run(main())

    def test_the_silence_is_that_of_the_baud_rate(self, run: Run, port: Port) -> None:
        async def main() -> None:
            framing = serial.IdleGap(minimum=0.0)
            async with serial.open(NAME, 19200, parity="E", stopbits=2, framing=framing):
                assert framing.gap == pytest.approx(19.5 * 12 / 19200)

        run(main())

    def test_a_late_loop_does_not_cut_a_frame_in_two(self, run: Run, port: Port) -> None:
        async def main() -> None:
            async with serial.open(NAME, framing=serial.IdleGap(0.005)) as source:
                # All in one step of this task, in which the loop sees nothing.
                for data in (b"one ", b"frame"):
                    port.send(data)
                    assert select.select([source], [], [], 5)[0]
                    if data == b"one ":
                        source.on_readable()
                time.sleep(0.01)  # the program is busy past the end of the gap
                assert [frame.data for frame in await take(source, 1)] == [b"one frame"]

        run(main())

    def test_bytes_that_came_while_others_kept_the_loop_busy_belong_to_the_frame(self, run: Run, port: Port) -> None:
        async def main() -> None:
            async with serial.open(NAME, framing=serial.IdleGap(0.005)) as source:

                def busy() -> None:
                    port.send(b"frame")
                    assert select.select([source], [], [], 5)[0]

                port.send(b"one ")
                assert select.select([source], [], [], 5)[0]
                source.on_readable()
                assert source._silence._timer is not None
                asyncio.get_running_loop().call_at(source._silence._timer.when() - 0.0001, busy)
                time.sleep(0.01)  # both are due in the same turn, the busy one first
                assert [frame.data for frame in await take(source, 1)] == [b"one frame"]

        run(main())

    def test_a_paused_port_does_not_cut_a_frame_in_two(self, run: Run, port: Port) -> None:
        async def main() -> None:
            async with serial.open(NAME, framing=serial.IdleGap(0.002), queue_size=1) as source:
                for data in (b"1", b"2"):
                    port.send(data)
                    await until(lambda wanted=int(data): source.statistics().received == wanted)  # type: ignore[misc]
                port.send(b"paused")  # the queue was full with the second: this one stays in the kernel
                await asyncio.sleep(0.005)
                assert source.statistics().queued == 2
                assert [frame.data for frame in await take(source, 3)] == [b"1", b"2", b"paused"]

        run(main())

    @pytest.mark.parametrize("more", [b"", b"root"])
    def test_a_framer_of_ones_own_may_wait_for_silence_while_the_port_is_paused(
        self, run: Run, port: Port, more: bytes
    ) -> None:
        async def main() -> None:
            async with serial.open(NAME, framing=Prompts(), queue_size=1) as source:
                port.send(b"one\ntwo\nlogin: ")
                await until(lambda: source.statistics().received == 2)
                port.send(more)
                await asyncio.sleep(0.005)  # paused: nothing is read, and nothing ends
                assert source.statistics().received == 2
                assert [frame.data for frame in await take(source, 3)] == [b"one", b"two", b"login: " + more]

        run(main())

    def test_a_faulty_framer_ends_the_source_and_leaves_the_port_free(self, run: Run, port: Port) -> None:
        class Faulty(serial.Raw):
            def __init__(self, fault: str) -> None:
                super().__init__()
                self.fault = fault

            def fail(self, where: str) -> None:
                if where == self.fault:
                    raise ValueError("spoilt")

            def set_character_time(self, seconds: float) -> None:
                self.fail("open")

            def feed(self, data: bytes, now_ns: int) -> list[Frame]:
                self.fail("feed")
                return super().feed(data, now_ns)

            def reset(self) -> None:
                self.fail("close")

        async def main() -> None:
            for fault in ("open", "feed", "close"):
                with pytest.raises(ValueError, match="spoilt"):  # noqa: PT012
                    async with serial.open(NAME, framing=Faulty(fault)) as source:
                        if fault == "feed":
                            port.send(b"x")
                            await take(source, 1)
                serial.open(NAME).open().close()  # not busy

        run(main())

    @pytest.mark.parametrize("error", [ValueError, asyncio.CancelledError, Spoilt])
    def test_a_check_that_raises_anything_counts_as_no(self, run: Run, port: Port, error: type[BaseException]) -> None:
        def check(line: bytes) -> bool:
            if line == b"x":
                raise error
            return True

        async def main() -> None:
            told = reports()
            async with serial.open(NAME, framing=serial.Lines(check=check)) as source:
                port.send(b"1\nx\n2\n")
                assert [(frame.data, frame.lost) for frame in await take(source, 2)] == [(b"1", 0), (b"2", 1)]
            assert [type(context["exception"]) for context in told] == [error]

        run(main())

    @pytest.mark.parametrize("error", [ValueError, asyncio.CancelledError, GeneratorExit, StopIteration, Spoilt])
    @pytest.mark.parametrize("where", ["feed", "flush", "deadline_ns", "late feed"])
    def test_a_framer_that_raises_fails_its_port_alone_and_begins_anew(
        self, run: Run, board: SimBoard, port: Port, where: str, error: type[BaseException]
    ) -> None:
        other = board.add_port("/dev/ttyUSB0")
        faults = [error]

        class Faulty(serial.IdleGap):
            def fail(self, here: str, data: bytes) -> None:
                if here == where and faults and data:
                    raise faults.pop()

            def feed(self, data: bytes, now_ns: int) -> Iterable[Frame]:  # type: ignore[override]
                self.fail("feed", data)
                frames = super().feed(data, now_ns)
                return self.late(frames, data) if where == "late feed" else frames

            def late(self, frames: list[Frame], data: bytes) -> Iterator[Frame]:
                yield from frames
                self.fail("late feed", data)

            def flush(self, now_ns: int) -> list[Frame]:
                self.fail("flush", self._buffer)
                return super().flush(now_ns)

            @property
            def deadline_ns(self) -> int | None:
                self.fail("deadline_ns", self._buffer)
                return super().deadline_ns

        async def main() -> None:
            told = reports()
            beside = serial.open("/dev/ttyUSB0", framing=serial.Lines)
            faulty = serial.open(NAME, framing=Faulty(0.001), reopen=Backoff(initial=0.001))
            async with beside, faulty:
                port.send(b"x")
                await until(lambda: faulty.statistics().reopened == 1)
                other.send(b"1\n")
                assert [frame.data for frame in await take(beside, 1)] == [b"1"]
                await until(lambda: faulty.fileno() >= 0)
                port.send(b"again")
                [frame] = await take(faulty, 1)
                assert frame.data == b"again"  # nothing is left of what the framer had before
            [context] = told
            assert context["source"] is faulty
            assert NAME in context["message"]
            assert isinstance(context["exception"], error | RuntimeError)  # a StopIteration in a generator

        run(main())

    @pytest.mark.parametrize(
        ("made", "message"),
        [
            (lambda: None, "not iterable"),
            (lambda: 5, "not iterable"),
            (lambda: [b"frame"], r"a framing makes frames \(serial.Frame\), not b'frame'"),
            (lambda: [None], "a framing makes frames"),
            (lambda: "text", "a framing makes frames"),
            (lambda: itertools.repeat(Frame(b"x", 0)), "more than 262144 frames of one read"),
        ],
    )
    def test_a_framer_that_makes_no_frames_fails_the_port(
        self, run: Run, port: Port, made: Callable[[], Any], message: str
    ) -> None:
        class Nonsense(serial.Raw):
            def feed(self, data: bytes, now_ns: int) -> Any:
                return made()

        async def main() -> None:
            async with serial.open(NAME, framing=Nonsense) as source:
                port.send(b"x")
                with pytest.raises((TypeError, ValueError), match=message):
                    await take(source, 1)
                assert source.closed

        run(main())

    def test_a_deadline_that_stays_in_the_past_does_not_spin(self, run: Run, port: Port) -> None:
        class Stuck(serial.IdleGap):
            flushed = 0

            def flush(self, now_ns: int) -> list[Frame]:
                self.flushed += 1
                return []

        async def main() -> None:
            framing = Stuck(0.001)
            async with serial.open(NAME, framing=framing) as source:
                for count in (1, 2):
                    port.send(b"x")
                    await until(lambda: framing.flushed == count)  # noqa: B023
                    for _ in range(100):
                        await asyncio.sleep(0)
                    await asyncio.sleep(0.002)
                    assert framing.flushed == count
                assert source.fileno() >= 0

        run(main())

    def test_two_ports_cannot_share_a_framer(self, run: Run, board: SimBoard, port: Port) -> None:
        board.add_port("/dev/ttyUSB0")

        async def main() -> None:
            framing = serial.Lines()
            async with serial.open(NAME, framing=framing) as one:
                port.send(b"hal")
                await until(lambda: framing._buffer == b"hal")
                second = serial.open("/dev/ttyUSB0", framing=framing)
                with pytest.raises(
                    ValueError, match=f"^/dev/ttyUSB0: its framer is in use at {NAME}; make one for each port"
                ):
                    second.open()
                port.send(b"f\n")
                assert [frame.data for frame in await take(one, 1)] == [b"half"]
            second.open().close()

        run(main())

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: serial.Fixed("32"), "length must be a whole number, not '32'"),  # type: ignore[arg-type]
            (lambda: serial.Lines(max_length=None), "max_length must be a whole number, not None"),  # type: ignore[arg-type]
            (lambda: serial.Delimited("\n"), r"at least one byte, as b'\\n', not '\\n'"),  # type: ignore[arg-type]
            (lambda: serial.Lines(check=True), "check must be a function of bytes, not True"),  # type: ignore[arg-type]
        ],
    )
    def test_a_framers_arguments_are_checked(self, make: Callable[[], object], message: str) -> None:
        with pytest.raises((TypeError, ValueError), match=message):
            make()


class TestDiscarding:
    def test_everything_that_has_arrived_is_dropped_and_counted(self, run: Run, port: Port) -> None:
        async def main() -> None:
            async with serial.open(NAME, framing=serial.Lines, queue_size=2) as source:
                port.send(b"1\n2\n3\nhal")
                await until(lambda: source.statistics().queued == 3)
                port.send(b"f\n5\nhal")  # the queue is full: this waits in the kernel
                assert select.select([source], [], [], 5)[0]
                source.discard()
                port.send(b"f\n7\n")
                frames = await take(source, 2)
                assert [frame.data for frame in frames] == [b"f", b"7"]
                statistics = source.statistics()
                assert (statistics.dropped, statistics.lost, statistics.delivered) == (5, 1, 2)
                assert sum(frame.lost for frame in frames) == statistics.dropped + statistics.lost
                assert statistics.received == statistics.delivered + statistics.dropped

        run(main())

    def test_pyserials_way_does_the_same(self, run: Run, port: Port) -> None:
        async def main() -> None:
            async with serial.open(NAME, framing=serial.Lines) as source:
                port.send(b"1\n2\nhal")
                await until(lambda: source.statistics().queued == 2)
                source.serial.reset_input_buffer()
                port.send(b"f\n")
                assert [(frame.data, frame.lost) for frame in await take(source, 1)] == [(b"f", 3)]

        run(main())

    def test_a_device_that_sends_on_and_on_does_not_hold_it_up(
        self, run: Run, port: Port, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("hwloop.sources.serial.port._DISCARD_AT_MOST", 0)  # as if so much had been read already

        async def main() -> None:
            async with serial.open(NAME, framing=serial.Lines) as source:
                port.send(b"old\n")
                assert select.select([source], [], [], 5)[0]
                source.discard()
                port.send(b"new\n")
                assert [frame.data for frame in await take(source, 1)] == [b"new"]

        run(main())

    def test_bytes_still_in_the_driver_are_discarded_too(self, run: Run, port: Port) -> None:
        async def main() -> None:
            async with serial.open(NAME, framing=serial.Lines) as source:
                for number in range(100):
                    port.send(b"old\n")
                    source.discard()
                    port.send(b"%d\n" % number)
                    assert [frame.data for frame in await take(source, 1)] == [b"%d" % number]

        run(main())

    def test_a_silence_that_was_waited_for_is_forgotten(self, run: Run, port: Port) -> None:
        async def main() -> None:
            async with serial.open(NAME, framing=serial.IdleGap(0.005)) as source:
                port.send(b"old")
                await until(lambda: source.statistics().wakeups == 1)
                source.discard()
                assert source._silence._timer is None
                port.send(b"new")
                assert [(frame.data, frame.lost) for frame in await take(source, 1)] == [(b"new", 1)]

        run(main())

    @pytest.mark.parametrize("policy", ["pause", "drop-oldest", "drop-newest"])
    def test_with_each_policy_the_account_is_exact(self, run: Run, port: Port, policy: Any) -> None:
        async def main() -> None:
            async with serial.open(NAME, framing=serial.Lines, queue_size=3, when_full=policy) as source:
                told, sent = 0, 0
                for round_ in range(6):
                    port.send(b"".join(b"%d\n" % number for number in range(5)))
                    sent += 5
                    await until(lambda: source.statistics().received == sent)  # noqa: B023
                    if round_ % 2:
                        source.discard()
                        port.send(b"last\n")
                        sent += 1
                        await until(lambda: source.statistics().queued == 1)
                    for frame in await take(source, source.statistics().queued):
                        told += frame.lost
                statistics = source.statistics()
                assert statistics.received == sent == statistics.delivered + statistics.dropped
                port.send(b"end\n")  # what is owed still
                told += (await take(source, 1))[0].lost
                assert told == statistics.dropped

        run(main())

    def test_a_port_that_is_gone_is_failed_and_one_not_open_says_so(self, run: Run, port: Port) -> None:
        async def main() -> None:
            reports()
            source = serial.open(NAME)
            with pytest.raises(HardwareError, match="it is not open"):
                source.discard()
            async with source:
                port.unplug()
                source.discard()
                assert source.closed
                assert isinstance(source.failure, HardwareError)
                with pytest.raises(HardwareError):
                    source.discard()

        run(main())

    def test_a_framer_that_raises_fails_the_port_and_not_the_caller(self, run: Run, port: Port) -> None:
        class Faulty(serial.Lines):
            def reset(self) -> None:
                if self.user is not None:
                    raise asyncio.CancelledError

        async def main() -> None:
            told = reports()
            async with serial.open(NAME, framing=Faulty) as source:
                source.discard()
                assert source.closed
            assert [type(context["exception"]) for context in told] == [asyncio.CancelledError]

        run(main())

    def test_opening_discards_what_came_before(self, run: Run, port: Port) -> None:
        async def main() -> None:
            port.send(b"garbage of the boot\n")
            async with serial.open(NAME, framing=serial.Lines) as source:
                port.send(b"1\n")
                assert [frame.data for frame in await take(source, 1)] == [b"1"]

        run(main())


class TestReopening:
    @staticmethod
    async def outage(source: serial.SerialPort, port: Port) -> None:
        port.unplug()
        await until(lambda: source.fileno() < 0)
        port.replug()
        await until(lambda: source.fileno() >= 0)

    def test_settings_that_the_program_has_made_are_kept(self, run: Run, port: Port) -> None:
        async def main() -> None:
            reports()
            async with serial.open(NAME, 9600, dtr=True, reopen=Backoff(initial=0.001)) as source:
                source.serial.baudrate, source.serial.parity, source.serial.stopbits = 115200, "E", 2
                source.serial.dtr = False
                for _ in range(2):
                    await self.outage(source, port)
                    assert source.serial.get_settings()["baudrate"] == 115200
                    assert port.settings == SerialSettings(115200, 8, "E", 2)
                    assert (port.dtr, port.rts) == (False, True)

        run(main())

    def test_a_hook_sets_the_device_up_again(self, run: Run, port: Port) -> None:
        device = Recorder(port)
        hooked: list[serial.SerialPort] = []

        async def set_up(source: serial.SerialPort) -> None:
            source.serial.baudrate = 9600
            source.write(b"baud 115200\n")
            await source.flush()
            source.serial.baudrate = 115200
            hooked.append(source)

        async def main() -> None:
            reports()
            async with serial.open(NAME, 9600, reopen=Backoff(initial=0.001), on_reopen=set_up) as source:
                for count in (1, 2):
                    await self.outage(source, port)
                    await until(lambda: len(hooked) == count)  # noqa: B023
                    assert source.serial.baudrate == 115200
                    await until(lambda: device.heard == b"baud 115200\n" * count)  # noqa: B023

        run(main())

    @pytest.mark.parametrize("error", [ValueError, asyncio.CancelledError, Spoilt])
    def test_a_hook_that_raises_is_reported_and_the_port_stays_open(
        self, run: Run, port: Port, error: type[BaseException]
    ) -> None:
        def set_up(source: serial.SerialPort) -> None:
            raise error

        async def main() -> None:
            told = reports()
            framing = serial.Lines()
            async with serial.open(NAME, framing=framing, reopen=Backoff(initial=0.001), on_reopen=set_up) as source:
                await self.outage(source, port)
                port.send(b"1\n")
                assert [frame.data for frame in await take(source, 1)] == [b"1"]
            assert [type(context["exception"]) for context in told][1:] == [error]  # after the outage's own report

        run(main())


class TestWriting:
    def test_written_bytes_arrive_in_order(self, run: Run, port: Port) -> None:
        device = Recorder(port)
        data = random.Random(2).randbytes(300_000)

        async def main() -> None:
            async with serial.open(NAME, 921600) as source:
                for start in range(0, len(data), 7000):
                    source.write(memoryview(data)[start : start + 7000])
                    await source.drain()
            await until(lambda: len(device.heard) == len(data))  # leaving the block has sent it all
            assert device.heard == data
            assert source.unsent == 0

        run(main())

    def test_an_echo_of_half_a_megabyte_passes_both_ways_at_once(self, run: Run, port: Port) -> None:
        Recorder(port, echo=True)
        data = random.Random(3).randbytes(500_000)

        async def main() -> None:
            got = bytearray()
            async with serial.open(NAME, 921600) as source:
                source.write(data)
                async for frame in source:
                    got += frame.data
                    if len(got) >= len(data):
                        break
            assert got == data

        run(main())

    def test_drain_waits_while_too_much_is_waiting(self, run: Run, board: SimBoard, port: Port) -> None:
        Recorder(port)

        async def main() -> None:
            async with serial.open(NAME) as source:
                source.write(b"x")
                await source.drain()
                with board.timeline.lock:  # the device is not reading
                    source.write(bytes(200_000))
                    draining = asyncio.create_task(source.drain())
                    await asyncio.sleep(0.005)
                    assert not draining.done()
                await draining
                await source.flush()
                # Nothing waits any more, so nothing watches for room: that would spin.
                assert not asyncio.get_running_loop().remove_writer(source.fileno())

        run(main())

    def test_flush_waits_for_what_the_kernel_has_not_sent(
        self, run: Run, port: Port, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A pseudo-terminal has no send buffer, so the driver's answer is made up: 20 bytes, then 3, then none."""
        Recorder(port)
        left = [20, 3]
        monkeypatch.setattr(serial_device.SerialDevice, "out_waiting", lambda self: left.pop(0) if left else 0)

        async def main() -> None:
            loop = asyncio.get_running_loop()
            source = serial.open(NAME, 9600).open()
            source.write(b"x")
            before = loop.time()
            await source.flush()
            assert loop.time() - before >= 23 * 10 / 9600
            source.close()

        run(main())

    def test_closing_drops_what_is_waiting_and_counts_it(self, run: Run, board: SimBoard, port: Port) -> None:
        device = Recorder(port)

        async def main() -> None:
            source = serial.open(NAME).open()
            with board.timeline.lock:
                source.write(bytes(300_000))
                source.close()
            await asyncio.sleep(0.005)
            assert source.unsent > 0
            assert len(device.heard) + source.unsent <= 300_000

        run(main())

    def test_closing_counts_what_the_kernel_had_not_sent(
        self, run: Run, port: Port, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(serial_device.SerialDevice, "out_waiting", lambda self: 7)

        async def main() -> None:
            source = serial.open(NAME).open()
            source.close()
            assert source.unsent == 7

        run(main())

    def test_a_flush_that_outlasts_the_port_says_so(
        self, run: Run, port: Port, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(serial_device.SerialDevice, "out_waiting", lambda self: 50)

        async def main() -> None:
            reports()
            source = serial.open(NAME, 9600, reopen=Backoff(initial=0.001)).open()
            flushing = asyncio.create_task(source.flush())
            await asyncio.sleep(0)
            port.unplug()
            await until(lambda: source.fileno() == -1)
            port.replug()
            await until(lambda: source.statistics().reopened)
            with pytest.raises(HardwareError, match="the port was away"):
                await flushing
            source.close()

        run(main())

    def test_only_bytes_can_be_written(self, run: Run, port: Port) -> None:
        async def main() -> None:
            async with serial.open(NAME) as source:
                with pytest.raises(TypeError, match="bytes, not str"):
                    source.write("text")  # type: ignore[arg-type]

        run(main())

    def test_a_break_is_held_and_ended(self, run: Run, port: Port) -> None:
        async def main() -> None:
            async with serial.open(NAME) as source:
                task = asyncio.create_task(source.send_break(10))
                await asyncio.sleep(0)
                await until(lambda: source.serial.break_condition)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
                assert not source.serial.break_condition

        run(main())


class TestUnplugging:
    def test_it_ends_the_source_with_an_error_that_says_so(self, run: Run, port: Port) -> None:
        async def main() -> None:
            told = reports()
            async with serial.open(NAME, framing=serial.Lines()) as source:
                waiting = asyncio.create_task(anext(source))  # type: ignore[arg-type]
                await asyncio.sleep(0)
                port.unplug()
                with pytest.raises(HardwareError, match=r"/dev/ttyAMA0: reading failed: .*; is it still plugged in"):
                    await waiting
                assert source.closed
                with pytest.raises(HardwareError, match="reading failed"):
                    source.write(b"x")
                statistics = source.statistics()
                assert (statistics.errors, statistics.wakeups) == (1, 1)
            assert told == []  # the waiting task has the error

        run(main())

    def test_half_a_frame_is_lost_and_the_next_one_says_so(self, run: Run, port: Port) -> None:
        async def main() -> None:
            told = reports()
            framing = serial.Lines()
            async with serial.open(NAME, framing=framing, reopen=Backoff(initial=0.001)) as source:
                port.send(b"whole\nhal")
                await until(lambda: source.statistics().received == 1)
                port.unplug()
                await until(lambda: source.fileno() == -1)
                assert framing.skipped == 3
                with pytest.raises(HardwareError, match="it is away; open it, or wait"):
                    source.write(b"x")
                port.replug()
                await until(lambda: source.fileno() >= 0)
                port.send(b"f\nagain\n")
                frames = await take(source, 3)
                assert [(frame.data, frame.lost) for frame in frames] == [(b"whole", 0), (b"f", 1), (b"again", 0)]
                statistics = source.statistics()
                assert (statistics.reopened, statistics.lost) == (1, 1)
            assert len(told) == 1

        run(main())

    def test_in_mid_write_it_wakes_those_who_wait(self, run: Run, board: SimBoard, port: Port) -> None:
        Recorder(port)

        async def main() -> None:
            reports()
            async with serial.open(NAME) as source:
                with board.timeline.lock:
                    source.write(bytes(300_000))
                    waiting = [asyncio.create_task(source.drain()), asyncio.create_task(source.flush())]
                    await asyncio.sleep(0.001)
                    port.unplug()
                    for result in await asyncio.gather(*waiting, return_exceptions=True):
                        assert isinstance(result, HardwareError)
                assert source.unsent > 100_000
                assert source.closed

        run(main())

    def test_in_mid_write_with_reopen_those_who_wait_learn_that_it_is_lost(
        self, run: Run, board: SimBoard, port: Port
    ) -> None:
        Recorder(port)

        async def main() -> None:
            reports()
            async with serial.open(NAME, reopen=Backoff(initial=0.001)) as source:
                with board.timeline.lock:
                    source.write(bytes(300_000))
                    waiting = asyncio.create_task(source.flush())
                    await asyncio.sleep(0.001)
                    port.unplug()
                    with pytest.raises(HardwareError, match="away"):
                        await waiting
                    port.replug()
                await until(lambda: source.fileno() >= 0)
                source.write(b"again")
                await source.flush()
            await until(lambda: port.bytes_in >= 5)

        run(main())

    def test_a_write_that_finds_the_port_gone_is_contained(self, run: Run, port: Port) -> None:
        async def main() -> None:
            told = reports()
            async with serial.open(NAME) as source:
                port.unplug()
                source.write(b"x")
                assert source.closed
                assert source.unsent == 1
                with pytest.raises(HardwareError, match="writing failed"):
                    await source.flush()
            assert [context["exception"].tried for context in told] == [NAME]

        run(main())


class TestClosing:
    def test_it_wakes_whoever_waits(self, run: Run, board: SimBoard, port: Port) -> None:
        Recorder(port)

        async def main() -> None:
            source = serial.open(NAME).open()
            with board.timeline.lock:
                source.write(bytes(300_000))
                reading = asyncio.create_task(anext(source, None))  # type: ignore[arg-type]
                writing = [asyncio.create_task(source.drain()), asyncio.create_task(source.flush())]
                await asyncio.sleep(0.001)
                source.close()
                source.close()
                assert await reading is None
                for result in await asyncio.gather(*writing, return_exceptions=True):
                    assert isinstance(result, HardwareError)
                    assert "it is closed" in str(result)

        run(main())

    def test_a_wait_that_is_cancelled_leaves_the_port_usable(self, run: Run, board: SimBoard, port: Port) -> None:
        Recorder(port)

        async def main() -> None:
            async with serial.open(NAME) as source:
                with board.timeline.lock:
                    source.write(bytes(300_000))
                    with pytest.raises(TimeoutError):
                        await asyncio.wait_for(source.drain(), 0.001)
                await source.flush()

        run(main())

    def test_a_block_that_raises_does_not_wait_to_send(self, run: Run, board: SimBoard, port: Port) -> None:
        Recorder(port)

        async def main() -> None:
            source = serial.open(NAME)
            with board.timeline.lock, pytest.raises(KeyError):  # noqa: PT012
                async with source:
                    source.write(bytes(300_000))
                    raise KeyError
            assert source.closed

        run(main())

    def test_half_a_frame_in_a_gap_is_forgotten(self, run: Run, port: Port) -> None:
        async def main() -> None:
            async with serial.open(NAME, framing=serial.IdleGap(60)) as source:
                port.send(b"half")
                await until(lambda: source.statistics().wakeups)
                timer = source._silence._timer
                assert timer is not None
            assert timer.cancelled()
            assert source.statistics().lost == 1

        run(main())


class TestOpening:
    def refused(self, run: Run, name: str, *words: str, baudrate: int = 9600) -> HardwareError:
        """Opening `name` fails with an error that says all these words. The leak check sees to the rest."""

        async def main() -> None:
            with pytest.raises(HardwareError) as caught:
                await serial.open(name, baudrate).__aenter__()
            errors.append(caught.value)

        errors: list[HardwareError] = []
        run(main())
        for word in (name, *words):
            assert word in str(errors[0])
        return errors[0]

    def test_no_such_port_on_the_simulated_board(self, run: Run, port: Port) -> None:
        self.refused(run, "/dev/ttyS9", "no such port", f"its ports are: {NAME}")

    def test_an_unplugged_port(self, run: Run, port: Port) -> None:
        port.unplug()
        assert self.refused(run, NAME, "unplugged").errno == errno.ENOENT

    @pytest.mark.usefixtures("paths")
    def test_no_such_port(self, run: Run) -> None:
        assert self.refused(run, "/dev/ttyNONE", "no such port", "there").errno == errno.ENOENT

    @pytest.mark.usefixtures("paths")
    @pytest.mark.parametrize("name", ["/dev/null", "/dev"])
    def test_not_a_serial_port(self, run: Run, name: str) -> None:
        self.refused(run, name, "not a serial port")

    @pytest.mark.usefixtures("paths")
    def test_a_file_is_no_serial_port(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        self.refused(run, str(tmp_path / "file"), "not a serial port")

    @pytest.mark.parametrize(
        ("mode", "words"),
        [(0o060, ("add the user to group", "usermod -aG")), (0o600, ("group", "may not use it", "login console"))],
        ids=["the group may", "only the owner may"],
    )
    def test_no_permission(self, run: Run, port: Port, mode: int, words: tuple[str, ...]) -> None:
        root = os.geteuid() == 0
        if not root and mode == 0o600:
            pytest.skip("the owner may open it")
        os.chmod(port.path, mode)
        if root:
            os.setegid(65534)
            os.seteuid(65534)
        try:
            error = self.refused(run, NAME, "permission denied", *words)
        finally:
            if root:
                os.seteuid(0)
                os.setegid(0)
        assert error.errno == errno.EACCES

    def test_a_busy_port(self, run: Run, port: Port) -> None:
        async def main() -> None:
            async with serial.open(NAME):
                busy = "busy: this program holds it; close it first, or open it with exclusive=False to share it"
                as_user = "busy: this program holds it; close it first$"  # the kernel refuses the port to all but root
                with pytest.raises(HardwareError, match=busy if os.geteuid() == 0 else as_user):
                    serial.open(NAME).open()
            async with serial.open(NAME, exclusive=False):
                serial.open(NAME, exclusive=False).open().close()
            serial.open(NAME).open().close()

        run(main())

    def test_a_port_that_pyserial_has_locked_elsewhere_names_that_program(self, run: Run, port: Port) -> None:
        async def main() -> None:
            with held_by_pyserial(port.path) as pid:
                with pytest.raises(
                    HardwareError, match=rf"busy: \S+ \(process {pid}\) holds it; stop that program, or"
                ):
                    serial.open(NAME).open()
                serial.open(NAME, exclusive=False).open().close()
            serial.open(NAME).open().close()

        run(main())

    def test_pyserial_elsewhere_sees_that_the_port_is_locked(self, run: Run, port: Port) -> None:
        async def main() -> None:
            code = "import serial, sys; serial.Serial(sys.argv[1], exclusive=True)"
            for exclusive, refused in ((True, True), (False, False)):
                async with serial.open(NAME, exclusive=exclusive):
                    found = subprocess.run([sys.executable, "-c", code, port.path], capture_output=True, text=True)
                    assert ("exclusively lock" in found.stderr or "busy" in found.stderr) is refused, found.stderr

        run(main())

    def test_the_kernel_refuses_an_exclusive_port_to_other_users_and_no_longer_when_it_is_closed(
        self, run: Run, port: Port
    ) -> None:
        async def main() -> None:
            os.chmod(port.path, 0o666)
            code = "import os, sys; os.geteuid() or os.setuid(65534); os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)"
            async with serial.open(NAME):
                found = subprocess.run([sys.executable, "-c", code, port.path], capture_output=True, text=True)
                assert "Device or resource busy" in found.stderr
            found = subprocess.run([sys.executable, "-c", code, port.path], capture_output=True, text=True)
            assert found.returncode == 0, found.stderr

        run(main())

    def test_a_holder_that_cannot_be_seen_is_to_be_looked_for(
        self, run: Run, port: Port, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(serial_opening, "holders", lambda path: [])

        async def main() -> None:
            async with serial.open(NAME):
                with pytest.raises(
                    HardwareError, match=r"another program, or this one, holds it; .*sudo fuser -v /dev"
                ):
                    serial.open(NAME).open()

        run(main())

    def test_a_baud_rate_too_large_for_the_driver(self, run: Run, port: Port) -> None:
        self.refused(run, NAME, "baud rate 10000000000 refused", "try a standard rate", baudrate=10**10)

    def test_a_baud_rate_that_the_driver_quietly_replaces(self, run: Run, port: Port) -> None:
        """A pseudo-terminal takes any rate, so another one is set behind pyserial's back."""

        async def main() -> None:
            async with serial.open(NAME, 9600) as source:
                serial_opening._check_baudrate(NAME, source._connected().device, 9600)
                serial_opening._check_baudrate(NAME, source._connected().device, 9700)
                with pytest.raises(HardwareError, match="baud rate 115200 refused: the driver set 9600"):
                    serial_opening._check_baudrate(NAME, source._connected().device, 115200)
            async with serial.open(NAME, 250_000) as source:  # a rate with no constant of its own (DMX)
                serial_opening._check_baudrate(NAME, source._connected().device, 250_000)

        run(main())

    def test_a_port_that_refuses_its_settings_is_closed_at_once(
        self, run: Run, port: Port, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(serial_opening, "_BAUD_TOLERANCE", -1)  # so that no rate will do

        async def main() -> None:
            try:
                serial.open(NAME).open()
            except HardwareError:
                monkeypatch.undo()
                serial.open(NAME).open().close()  # not busy, though the error still holds on to pyserial's object
            else:
                pytest.fail("the port was opened")

        run(main())

    def test_a_pseudo_terminals_refusal_of_parity_says_what_it_lacks(
        self, run: Run, paths: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        master, slave = os.openpty()
        refused = termios.error(errno.EINVAL, "Invalid argument")  # as Debian's C library does
        monkeypatch.setattr(pyserial_posix.termios, "tcsetattr", mock.Mock(side_effect=refused))

        async def main() -> None:
            with pytest.raises(HardwareError, match="a pseudo-terminal has neither parity nor 5 to 7 data bits"):
                serial.open(os.ttyname(slave), parity="E").open()

        try:
            run(main())
        finally:
            os.close(master)
            os.close(slave)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"baudrate": -1}, "baudrate must be a whole number above 0, not -1"),
            ({"baudrate": 0}, "baudrate must be a whole number above 0"),
            ({"baudrate": 9600.5}, "baudrate must be a whole number above 0"),
            ({"baudrate": "fast"}, "baudrate must be a whole number of bits a second, not 'fast'"),
            ({"baudrate": None}, "baudrate must be a whole number of bits a second, not None"),
            ({"baudrate": True}, "baudrate must be a whole number of bits a second, not True"),
            ({"bytesize": 9}, "bytesize must be one of 5, 6, 7, 8, not 9"),
            ({"parity": "X"}, r"parity must be one of N, E, O, M, S \(none, even, .*\), not 'X'"),
            ({"parity": 2}, "parity must be one of N, E"),
            ({"stopbits": 3}, "stopbits must be one of 1, 1.5, 2, not 3"),
            ({"queue_size": 0}, "queue_size must be at least 1"),
            ({"dtr": "off"}, "dtr must be True, False or None, not 'off'"),
            ({"rts": True, "rtscts": True}, "with rtscts=True the driver sets RTS; leave out rts= or rtscts="),
            ({"timeout": 1}, r"serial.open\(\) has no argument 'timeout'; use port.request\(data, timeout=...\), or"),
            ({"write_timeout": 1}, "no argument 'write_timeout'; use asyncio.timeout"),
            ({"inter_byte_timeout": 1}, r"use framing=serial.IdleGap\(seconds\)"),
            ({"colour": "red"}, r"serial.open\(\) has no argument 'colour'$"),
            (
                {"framing": serial.Fixed},
                r"is the class Fixed, which needs arguments: write framing=Fixed\(length=\.\.\.\)",
            ),
            ({"framing": serial.Framer}, "is the class Framer, which needs arguments"),
            ({"framing": b"\r"}, r"not b'\\r': write framing=serial.Delimited\(b'\\r'\)"),
            ({"framing": "\n"}, r"not '\\n': write framing=serial.Delimited\(b'\\n'\)"),
            ({"framing": str.splitlines}, r"framing must be a framer such as serial.Lines\(\), not str.splitlines"),
        ],
    )
    def test_settings_that_make_no_sense_raise_at_once(self, settings: dict[str, Any], message: str) -> None:
        with pytest.raises((ValueError, TypeError), match=f"^{NAME}: .*{message}"):
            serial.open(NAME, **settings)

    @pytest.mark.parametrize("name", [None, 3, "", "  ", object()])
    def test_a_name_that_names_nothing_raises_at_once(self, name: Any) -> None:
        with pytest.raises((ValueError, TypeError), match=r"write one like|named by a string or a path"):
            serial.open(name)

    @pytest.mark.parametrize(
        ("settings", "wanted"),
        [
            ({"baudrate": "19200", "parity": "even"}, {"baudrate": 19200, "parity": "E"}),
            ({"baudrate": 9600.0, "parity": "o", "bytesize": "7"}, {"baudrate": 9600, "parity": "O", "bytesize": 7}),
            ({"parity": "Mark", "stopbits": "1.5"}, {"parity": "M", "stopbits": 1.5}),
            ({"parity": None, "stopbits": 2.0}, {"parity": "N", "stopbits": 2}),
            ({"dtr": 0, "rts": 1}, {"baudrate": 9600}),
        ],
    )
    @pytest.mark.parametrize("name", [NAME, Path(NAME), NAME.encode()])
    def test_settings_in_other_spellings_are_taken(
        self, run: Run, port: Port, name: Any, settings: dict[str, Any], wanted: dict[str, Any]
    ) -> None:
        async def main() -> None:
            async with serial.open(name, **settings) as source:
                assert source.serial.get_settings() == source.serial.get_settings() | wanted
            loop = asyncio.get_running_loop()
            transport, _ = await serial.create_serial_connection(loop, asyncio.Protocol, name, **settings)
            assert transport.serial.get_settings() == transport.serial.get_settings() | wanted
            transport.close()
            await asyncio.sleep(0.01)

        run(main())

    @pytest.mark.parametrize("framing", [serial.Lines, Prompts])
    def test_a_framing_given_as_a_class_is_made(self, run: Run, port: Port, framing: type[serial.Framer]) -> None:
        async def main() -> None:
            async with serial.open(NAME, framing=framing) as one:
                port.send(b"1\n")
                assert [frame.data for frame in await take(one, 1)] == [b"1"]
                assert one.framing is not serial.open(NAME, framing=framing).framing

        run(main())

    def test_a_framer_class_that_needs_arguments_raises_at_once(self) -> None:
        class Careless(serial.Lines):
            def __init__(self) -> None:
                self.count = 0

        with pytest.raises(TypeError, match=r"Careless.__init__ must call super\(\).__init__\(\)"):
            serial.open(NAME, framing=Careless())

    def test_all_settings_reach_the_port(self, run: Run, port: Port) -> None:
        async def main() -> None:
            source = serial.open(
                NAME, 38400, bytesize=7, parity="E", stopbits=2, rtscts=True, xonxoff=True, low_latency=True
            )
            async with source:
                settings = source.serial.get_settings()
            wanted = {"baudrate": 38400, "bytesize": 7, "parity": "E", "stopbits": 2, "rtscts": True, "xonxoff": True}
            assert settings == settings | wanted

        run(main())

    def test_without_pyserial_the_error_names_it(self, run: Run, port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "serial", None)

        async def main() -> None:
            with pytest.raises(HardwareError, match=r"pyserial: not installed.*pip install pyserial"):
                serial.open(NAME).open()

        run(main())

    def test_a_second_open_raises_and_so_does_one_after_closing(self, run: Run, port: Port) -> None:
        async def main() -> None:
            source = serial.open(NAME).open()
            with pytest.raises(RuntimeError, match="open already"):
                source.open()
            source.close()
            with pytest.raises(RuntimeError, match="closed"):
                source.open()
            with pytest.raises(HardwareError, match="it is closed"):
                source.write(b"x")

        run(main())

    def test_a_port_not_opened_yet_says_so(self, run: Run, port: Port) -> None:
        with pytest.raises(HardwareError, match="it is not open"):
            serial.open(NAME).write(b"x")
