"""Requests on a serial port: each gets its own answer or none, whatever comes late, unasked or not at all.

Most run in virtual time, where an answer comes exactly when the device sends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import select
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from firmware_sim import SimBoard
from firmware_sim.devices.modbus import ModbusTemperature, crc16
from hwloop import SimLoop, VirtualClock
from hwloop.board import using
from hwloop.errors import HardwareError
from hwloop.sources import Backoff, serial

Run = Callable[[Coroutine[Any, Any, None]], None]
NAME = "/dev/ttyUSB0"


class Device:
    """Answers each line "n" with "=n", after the delay that it has for it: 10 ms, or never for None."""

    def __init__(self, board: SimBoard, delays: dict[bytes, float | None] | None = None) -> None:
        self.board, self.delays = board, delays or {}
        self.port = board.add_port(NAME)
        self.port.attach(self)
        self.asked: list[bytes] = []
        self._heard = b""

    def receive(self, data: bytes) -> None:
        *lines, self._heard = (self._heard + data).split(b"\n")
        for line in lines:
            self.asked.append(line)
            delay = self.delays.get(line, 0.01)
            if delay is not None:
                self.say(b"=" + line, delay)

    def say(self, line: bytes, delay: float) -> None:
        self.board.timeline.after(delay, lambda: self.port.send(line + b"\n"))


class Spoilt(BaseException):
    """An exception that few programs expect."""


Program = Callable[[serial.SerialPort, Device], Coroutine[Any, Any, Any]]


def simulate(program: Program, delays: dict[bytes, float | None] | None = None, **options: Any) -> Any:
    """Run a program with an open port, in virtual time."""
    clock = VirtualClock()

    async def main() -> Any:
        async with serial.open(NAME, 115200, framing=serial.Lines, **options) as port:
            return await program(port, device)

    with SimBoard(clock=clock) as board, using(board):
        device = Device(board, delays)
        with asyncio.Runner(loop_factory=lambda: SimLoop(clock=clock)) as runner:
            return runner.run(main())


async def ask(port: serial.SerialPort, line: bytes, **options: Any) -> bytes:
    return (await port.request(line + b"\n", **options)).data


def now() -> float:
    return asyncio.get_running_loop().time()


def accounted(port: serial.SerialPort) -> bool:
    it = port.statistics()
    return it.received == it.delivered + it.dropped + it.queued


def reports() -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
    return told


class TestSlowCallbacks:
    """A read brings many frames, and their callbacks take longer than the request may."""

    @staticmethod
    def burst(device: Device) -> None:
        device.port.send(b"".join(b"%d\n" % number for number in range(100)))

    @staticmethod
    def add_slow_callback(port: serial.SerialPort, device: Device) -> list[bytes]:
        got: list[bytes] = []

        def slow(frame: serial.Frame) -> None:
            got.append(frame.data)
            device.board.clock.sleep(0.01)

        port.add_callback(slow)
        return got

    def test_an_answer_does_not_wait_for_the_frames_before_it(self) -> None:
        async def program(port: serial.SerialPort, device: Device) -> None:
            got = self.add_slow_callback(port, device)
            device.board.timeline.after(0.01, lambda: self.burst(device))
            device.board.timeline.after(0.01, lambda: device.port.send(b"=ask\n"))
            assert await ask(port, b"ask", timeout=0.1, match=lambda data: data.startswith(b"=")) == b"=ask"
            await asyncio.sleep(2)
            assert got == [b"%d" % number for number in range(100)]
            assert accounted(port)
            assert (port.statistics().delivered, port.statistics().dropped) == (101, 0)

        simulate(program, {b"ask": None})

    def test_a_frame_from_before_a_request_is_no_answer_however_late_its_callback(self) -> None:
        async def program(port: serial.SerialPort, device: Device) -> None:
            with pytest.raises(TimeoutError):
                await ask(port, b"ask", timeout=0.01, late=0.1, match=lambda data: data == b"=ask")
            got = self.add_slow_callback(port, device)
            self.burst(device)  # an answer may still arrive, so these are compared with it
            assert await ask(port, b"2") == b"=2"
            await asyncio.sleep(2)
            assert got == [b"%d" % number for number in range(100)]
            assert accounted(port)
            assert port.statistics().dropped == 0

        simulate(program, {b"ask": None})

    def test_frames_that_are_left_are_counted_when_the_port_is_closed_or_discards_them(self) -> None:
        async def program(port: serial.SerialPort, device: Device) -> None:
            got = self.add_slow_callback(port, device)
            request = asyncio.create_task(ask(port, b"ask", match=lambda data: data == b"=ask"))
            await asyncio.sleep(0)
            for end in (port.discard, port.close):
                begun = len(got)
                self.burst(device)
                while len(got) < begun + 3:
                    await asyncio.sleep(0)
                end()
                delivered = len(got)
                await asyncio.sleep(0.1)
                assert len(got) == delivered
                assert accounted(port)
            assert port.statistics().received == 200
            with pytest.raises(HardwareError):
                await request

        simulate(program, {b"ask": None})


class TestAnswers:
    def test_each_task_gets_the_answer_to_its_own_request(self) -> None:
        async def program(port: serial.SerialPort, device: Device) -> None:
            lines = [b"%d" % number for number in range(20)]
            answers = await asyncio.gather(*(ask(port, line) for line in lines))
            assert answers == [b"=" + line for line in lines]
            assert device.asked == lines  # first come, first served
            assert accounted(port)
            assert port.statistics().delivered == 20

        simulate(program)

    def test_waiting_for_other_requests_is_not_counted(self) -> None:
        async def program(port: serial.SerialPort, device: Device) -> None:
            answers = await asyncio.gather(*(ask(port, b"%d" % number, timeout=0.015) for number in range(20)))
            assert len(answers) == 20

        simulate(program)

    def test_the_time_on_the_wire_is_not_counted(self) -> None:
        """A pseudo-terminal sends at once; a UART takes its time, which the timeout must not be measured from."""

        async def program(port: serial.SerialPort, device: Device) -> None:
            assert port._connection is not None
            port._connection.device.out_waiting = lambda: 11520  # type: ignore[method-assign]  # a second at 115200 baud
            before = now()
            with pytest.raises(TimeoutError):
                await ask(port, b"lost", timeout=0.1, late=0)
            assert now() - before == pytest.approx(1.1, abs=0.001)
            del port._connection.device.out_waiting

        simulate(program, {b"lost": None})

    def test_one_that_is_not_answered_says_so(self) -> None:
        async def program(port: serial.SerialPort, device: Device) -> None:
            before = now()
            with pytest.raises(TimeoutError, match=r"^/dev/ttyUSB0: no answer within 0\.25 s$"):
                await ask(port, b"lost", timeout=0.25)
            assert now() - before == pytest.approx(0.25, abs=0.001)

        simulate(program, {b"lost": None})

    def test_without_a_timeout_it_waits(self) -> None:
        async def program(port: serial.SerialPort, device: Device) -> None:
            assert await ask(port, b"slow", timeout=None) == b"=slow"

        simulate(program, {b"slow": 3600.0})

    def test_an_answer_that_came_while_the_program_was_busy_is_taken(self, leap: Run) -> None:
        async def main() -> None:
            loop: Any = asyncio.get_running_loop()
            async with serial.open(NAME, framing=serial.Lines) as port:
                for _ in range(5):
                    with board.timeline.lock:  # the device has to wait
                        asking = asyncio.create_task(ask(port, b"1", timeout=0.05, late=0.0))
                        await asyncio.sleep(0)
                        await asyncio.sleep(0)
                    # The answer comes in time, and is read when the timeout is due already.
                    assert select.select([port], [], [], 5)[0]
                    loop.clock.time += 0.06
                    assert await asking == b"=1"

        with SimBoard() as board, using(board):
            Device(board, {b"1": 0.0})
            leap(main())

    def test_an_answer_that_comes_while_others_keep_the_loop_busy_is_taken(self, leap: Run) -> None:
        async def main() -> None:
            loop: Any = asyncio.get_running_loop()
            async with serial.open(NAME, framing=serial.Lines) as port:

                def busy() -> None:
                    device.port.send(b"=lost\n")
                    assert select.select([port], [], [], 5)[0]

                asking = asyncio.create_task(ask(port, b"lost", timeout=0.05, late=0.0))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                loop.call_at(loop.time() + 0.04, busy)
                loop.clock.time += 0.1  # both are due in the same turn, the busy one first
                assert await asking == b"=lost"

        with SimBoard() as board, using(board):
            device = Device(board, {b"lost": None})
            leap(main())

    def test_modbus_rtu(self) -> None:
        clock = VirtualClock()

        async def main() -> None:
            framing = serial.IdleGap(minimum=0, check=lambda frame: crc16(frame[:-2]) == frame[-2:])
            async with serial.open(NAME, 19200, parity="E", framing=framing) as port:
                for temperature in (21.5, -3.0):
                    slave.temperature = temperature
                    query = b"\x01\x04\x00\x00\x00\x01"
                    answer = await port.request(query + crc16(query), timeout=0.1)
                    assert int.from_bytes(answer.data[3:5], signed=True) == temperature * 10
                with pytest.raises(TimeoutError):
                    await port.request(b"\x07" + query + crc16(b"\x07" + query), timeout=0.1)  # nobody's address

        with SimBoard(clock=clock) as board, using(board):
            slave = ModbusTemperature(NAME, parity="E")
            slave.attach(board)
            with asyncio.Runner(loop_factory=lambda: SimLoop(clock=clock)) as runner:
                runner.run(main())


class TestLateAnswers:
    @pytest.mark.parametrize("pause", [0.0, 0.05, 0.2, 0.5, 1.0])
    def test_a_late_answer_is_not_the_next_ones(self, pause: float) -> None:
        async def program(port: serial.SerialPort, device: Device) -> None:
            with pytest.raises(TimeoutError):
                await ask(port, b"1", timeout=0.3)
            await asyncio.sleep(pause)
            assert await ask(port, b"2", timeout=0.3) == b"=2"
            frame = await port.request(b"3\n", timeout=0.3)
            assert frame.data == b"=3"
            assert port.statistics().dropped == 1
            assert accounted(port)

        simulate(program, {b"1": 0.5})

    def test_the_frame_after_it_tells_of_it(self) -> None:
        async def program(port: serial.SerialPort, device: Device) -> None:
            with pytest.raises(TimeoutError):
                await ask(port, b"1", timeout=0.3)
            frame = await port.request(b"2\n")
            assert (frame.data, frame.lost) == (b"=2", 1)

        simulate(program, {b"1": 0.5})

    def test_the_next_request_waits_as_long_as_one_may_come(self) -> None:
        async def program(port: serial.SerialPort, device: Device) -> None:
            before = now()
            for late, wait in ((None, 0.5), (0.3, 0.3), (0.7, 0.7), (0.0, 0.0)):
                with pytest.raises(TimeoutError):
                    await ask(port, b"lost", timeout=0.3, late=late)
                before = now()
                assert await ask(port, b"1") == b"=1"
                assert now() - before == pytest.approx(wait + 0.01, abs=0.005)

        simulate(program, {b"lost": None})

    def test_it_goes_on_as_soon_as_the_late_answer_is_there(self) -> None:
        async def program(port: serial.SerialPort, device: Device) -> None:
            before = now()
            with pytest.raises(TimeoutError):
                await ask(port, b"1", timeout=0.1, late=10.0)
            assert await ask(port, b"2") == b"=2"
            assert now() - before == pytest.approx(0.21, abs=0.005)

        simulate(program, {b"1": 0.2})

    def test_the_answer_to_a_cancelled_request_is_late_too(self) -> None:
        async def program(port: serial.SerialPort, device: Device) -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await ask(port, b"1", timeout=1.0)
            assert await ask(port, b"2") == b"=2"
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await ask(port, b"1", timeout=None)
            assert await ask(port, b"3") == b"=3"
            assert port.statistics().dropped == 2
            assert accounted(port)

        simulate(program, {b"1": 0.5})

    def test_one_that_is_cancelled_before_its_turn_is_never_sent(self) -> None:
        async def program(port: serial.SerialPort, device: Device) -> None:
            first, second, third = (asyncio.create_task(ask(port, line)) for line in (b"1", b"2", b"3"))
            await asyncio.sleep(0.005)
            second.cancel()
            answers = await asyncio.gather(first, second, third, return_exceptions=True)
            assert second.cancelled()
            assert answers[::2] == [b"=1", b"=3"]
            assert device.asked == [b"1", b"3"]

        simulate(program)

    def test_one_that_is_cancelled_when_its_answer_is_there_owes_nothing(self) -> None:
        async def program(port: serial.SerialPort, device: Device) -> None:
            asking = asyncio.create_task(port.request(b"1\n"))
            await asyncio.sleep(0.005)
            # Answered and cancelled in one turn of the loop: the task would have been resumed in the next.
            requests = port._requests
            assert requests is not None
            plain = requests._resolve

            def resolve(frame: serial.Frame) -> None:
                plain(frame)
                asking.cancel()

            requests._resolve = resolve  # type: ignore[method-assign]
            with pytest.raises(asyncio.CancelledError):
                await asking
            requests._resolve = plain  # type: ignore[method-assign]
            assert port.statistics().dropped == 1
            assert accounted(port)
            before = now()
            frame = await port.request(b"2\n")
            assert (frame.data, frame.lost) == (b"=2", 1)
            assert now() - before == pytest.approx(0.01, abs=0.005)

        simulate(program)

    @pytest.mark.parametrize("seed", range(8))
    def test_whatever_comes_late_or_is_cancelled_no_request_gets_anothers_answer(self, seed: int) -> None:
        chance = random.Random(seed)
        lines = [b"%d" % number for number in range(60)]
        # Each comes before the timeout and the time for late answers are over, or never.
        delays: dict[bytes, float | None] = {line: chance.choice([0.01, 0.05, 0.15, 0.19, None]) for line in lines}

        async def program(port: serial.SerialPort, device: Device) -> None:
            answered = 0

            async def one(line: bytes) -> None:
                nonlocal answered
                await asyncio.sleep(chance.uniform(0, 5))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(chance.choice([None, 0.03, 0.12, 3.0])):
                        assert await ask(port, line, timeout=0.1, late=0.1) == b"=" + line
                        answered += 1

            await asyncio.gather(*map(one, lines))
            await asyncio.sleep(1)
            assert answered > 10
            assert accounted(port)

        simulate(program, delays)


class TestUnsolicited:
    def test_frames_that_do_not_match_go_to_callbacks_and_consumers(self) -> None:
        async def program(port: serial.SerialPort, device: Device) -> None:
            called, iterated = list[bytes](), list[bytes]()
            port.add_callback(lambda frame: called.append(frame.data))

            async def consume() -> None:
                async for frame in port:
                    iterated.append(frame.data)

            consumer = asyncio.create_task(consume())
            await asyncio.sleep(0.001)
            for delay in (0.001, 0.002, 0.003):
                device.say(b"RING", delay)
            assert await ask(port, b"1", match=lambda data: data.startswith(b"=")) == b"=1"
            await asyncio.sleep(0.001)
            assert called == iterated == [b"RING"] * 3
            consumer.cancel()
            assert accounted(port)

        simulate(program)

    def test_an_echo_is_not_the_answer(self) -> None:
        async def program(port: serial.SerialPort, device: Device) -> None:
            device.say(b"1", 0.001)
            assert await ask(port, b"1", match=lambda data: data != b"1") == b"=1"

        simulate(program)

    def test_a_late_answer_is_distinguished_from_them(self) -> None:
        def answers(number: bytes) -> Callable[[bytes], bool]:
            return lambda data: data == b"=" + number

        async def program(port: serial.SerialPort, device: Device) -> None:
            heard = list[bytes]()
            port.add_callback(lambda frame: heard.append(frame.data))
            with pytest.raises(TimeoutError):
                await ask(port, b"1", timeout=0.1, match=answers(b"1"))
            device.say(b"RING", 0.02)
            assert await ask(port, b"2", match=answers(b"2")) == b"=2"
            assert heard == [b"RING"]

        simulate(program, {b"1": 0.15})

    @pytest.mark.parametrize("error", [ValueError, asyncio.CancelledError, Spoilt])
    def test_a_match_that_raises_is_reported_and_counts_as_no(self, error: type[BaseException]) -> None:
        def faulty(data: bytes) -> bool:
            if data == b"noise":
                raise error
            return True

        async def program(port: serial.SerialPort, device: Device) -> None:
            told = reports()
            device.say(b"noise", 0.001)
            assert await ask(port, b"1", match=faulty) == b"=1"
            assert [type(context["exception"]) for context in told] == [error]
            assert told[0]["message"] == f"{NAME}: exception in a request's match"
            assert accounted(port)

        simulate(program)

    @pytest.mark.parametrize("matching", [False, True])
    def test_a_frame_that_came_before_is_not_the_answer(self, matching: bool) -> None:
        async def program(port: serial.SerialPort, device: Device) -> None:
            match = (lambda data: data.startswith(b"=")) if matching else None
            device.port.send(b"=stale\n=half a fra")
            await asyncio.sleep(0.01)
            port.pause_reading()
            device.port.send(b"me\n=in the kernel\n")
            assert select.select([port], [], [], 5)[0]
            port._start_reading()
            assert await ask(port, b"1", match=match) == b"=1"
            assert accounted(port)

        simulate(program)

    @pytest.mark.parametrize("matching", [False, True])
    @pytest.mark.parametrize("consumed", [False, True])
    def test_a_full_queue_holds_up_no_answer(self, consumed: bool, matching: bool) -> None:
        async def program(port: serial.SerialPort, device: Device) -> None:
            match = (lambda data: data.startswith(b"=")) if matching else None
            consumer = aiter(port) if consumed else None
            device.port.send(b"unread\n" * 10)
            await asyncio.sleep(0.01)
            assert not port._reading  # paused
            device.port.send(b"more\n")
            assert select.select([port], [], [], 5)[0]
            for number in (b"1", b"2"):
                assert await ask(port, number, match=match) == b"=" + number
            statistics = port.statistics()
            assert (statistics.queued, statistics.dropped) == ((11, 0) if consumed else (0, 11))
            assert accounted(port)
            del consumer

        simulate(program, queue_size=4)


class TestFailure:
    def test_those_who_wait_learn_that_the_port_is_gone(self) -> None:
        async def program(port: serial.SerialPort, device: Device) -> None:
            reports()
            tasks = [asyncio.create_task(ask(port, line)) for line in (b"1", b"2")]
            await asyncio.sleep(0.005)
            device.port.unplug()
            for task in tasks:
                with pytest.raises(HardwareError, match=r"the port went away before the answer came|reading failed"):
                    await task
            with pytest.raises(HardwareError, match="reading failed"):
                await ask(port, b"3")

        simulate(program)

    def test_closing_ends_a_request(self) -> None:
        async def program(port: serial.SerialPort, device: Device) -> None:
            asking = asyncio.create_task(ask(port, b"1"))
            await asyncio.sleep(0.005)
            port.close()
            with pytest.raises(HardwareError, match="before the answer came"):
                await asking

        simulate(program)

    def test_after_reopening_nothing_old_is_an_answer(self) -> None:
        async def program(port: serial.SerialPort, device: Device) -> None:
            reports()
            asking = asyncio.create_task(ask(port, b"slow", timeout=5.0))
            await asyncio.sleep(0.005)
            device.port.send(b"half")
            await asyncio.sleep(0.005)
            device.port.unplug()
            with pytest.raises(HardwareError, match="before the answer came; ask again"):
                await asking
            with pytest.raises(HardwareError, match="it is away"):
                await ask(port, b"1")
            device.port.replug()
            await asyncio.sleep(0.1)
            before = now()
            frame = await port.request(b"2\n")
            assert (frame.data, frame.lost) == (b"=2", 1)  # the half one
            assert now() - before == pytest.approx(0.01, abs=0.005)

        simulate(program, {b"slow": None}, reopen=Backoff(initial=0.01))

    def test_the_hook_on_reopening_asks_first(self) -> None:
        async def program(port: serial.SerialPort, device: Device) -> None:
            reports()
            device.port.unplug()
            await asyncio.sleep(0.05)
            device.port.replug()
            await asyncio.sleep(0.2)
            assert hooked == [b"=init"]
            assert await ask(port, b"1") == b"=1"
            assert device.asked == [b"init", b"1"]

        hooked = list[bytes]()

        async def initialise(port: serial.SerialPort) -> None:
            hooked.append(await ask(port, b"init"))

        simulate(program, reopen=Backoff(initial=0.01), on_reopen=initialise)

    def test_a_write_that_finds_the_port_gone_fails_the_request(self, run: Run) -> None:
        async def main() -> None:
            reports()
            async with serial.open(NAME, framing=serial.Lines) as port:
                device.port.unplug()
                with pytest.raises(HardwareError, match=r"writing failed|reading failed|before the answer"):
                    await ask(port, b"1")

        with SimBoard() as board, using(board):
            device = Device(board)
            run(main())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout": -1}, "timeout must be 0 seconds or more, not -1"),
        ({"late": -1}, "late must be 0 seconds or more"),
        ({"timeout": "1"}, "timeout must be a number of seconds, not '1'"),
        ({"late": True}, "late must be a number of seconds, not True"),
        ({"match": b"OK"}, "match must be a function of bytes, not b'OK'"),
        ({"data": "text"}, "data must be bytes, not str"),
    ],
)
def test_arguments_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    async def program(port: serial.SerialPort, device: Device) -> None:
        with pytest.raises((ValueError, TypeError), match=f"^{NAME}: {message}"):
            await port.request(**({"data": b"1\n"} | options))
        assert await ask(port, b"1") == b"=1"

    simulate(program)


def test_a_port_not_open_says_so() -> None:
    async def main() -> None:
        with pytest.raises(HardwareError, match="it is not open"):
            await serial.open(NAME).request(b"1")

    asyncio.run(main())
