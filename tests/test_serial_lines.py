"""The driver of a serial port beside its bytes: hang-ups, errors, modes and modem lines."""

from __future__ import annotations

import asyncio
import logging
import os
import tty
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

import hwloop
from firmware_sim import SimBoard
from firmware_sim.uart import Port
from hwloop.board import using
from hwloop.errors import HardwareError
from hwloop.sources import Backoff, serial

NAME = "/dev/ttyAMA0"
Run = Callable[[Coroutine[Any, Any, Any]], Any]


class Pty(SimBoard):
    """A board with one port, a bare pseudo-terminal, which has none of a UART's ioctls."""

    def __init__(self) -> None:
        super().__init__()
        self.master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self._path = os.ttyname(self._slave)

    def serial_port(self, port: str) -> str:
        return self._path

    def close(self) -> None:
        for fd in (self.master, self._slave):
            if fd >= 0:
                os.close(fd)
        self.master = self._slave = -1
        super().close()


@pytest.fixture
def board() -> Iterator[SimBoard]:
    with SimBoard(clock=hwloop.VirtualClock()) as board, using(board):
        yield board


@pytest.fixture
def port(board: SimBoard) -> Port:
    return board.add_port(NAME)


def play(board: SimBoard, main: Coroutine[Any, Any, Any]) -> Any:
    return hwloop.run(main, board=board, clock=board.clock)


def ignore_reports() -> None:
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)


class TestUnplugging:
    """Within 50 ms, by an error or a hang-up."""

    @pytest.mark.parametrize("paused", [False, True])
    def test_it_is_noticed_at_once_whether_or_not_the_port_is_read(
        self, board: SimBoard, port: Port, *, paused: bool
    ) -> None:
        async def main() -> None:
            ignore_reports()
            loop, failed = asyncio.get_running_loop(), []
            source = serial.open(NAME, framing=serial.Lines(), queue_size=1).open()
            source.at_end.append(lambda: failed.append(loop.time()))
            if paused:
                port.send(b"one\ntwo\n")
                await asyncio.sleep(0.1)
                port.send(b"three\nfour\nfi")  # stays in the kernel, which drops it
            await asyncio.sleep(1.0)
            unplugged = loop.time()
            loop.call_soon(port.unplug)
            await asyncio.sleep(1.0)
            assert failed
            assert failed[0] - unplugged < 0.05
            assert [frame.data async for frame in until_failed(source)] == ([b"one", b"two"] if paused else [])

        play(board, main())

    def test_a_bare_pseudo_terminal_that_nobody_reads_hangs_up_too(self, run: Run) -> None:
        async def main() -> None:
            ignore_reports()
            source, ended = serial.open(NAME, framing=serial.Lines(), queue_size=1).open(), asyncio.Event()
            source.at_end.append(ended.set)
            os.write(board.master, b"one\ntwo\n")
            while source.statistics().queued < 2:
                await asyncio.sleep(0.001)
            board.close()
            async with asyncio.timeout(10):
                await ended.wait()

        with Pty() as board, using(board):
            run(main())

    def test_a_paused_protocol_loses_its_connection(self, board: SimBoard, port: Port) -> None:
        class Deaf(asyncio.Protocol):
            lost: BaseException | None = None

            def connection_lost(self, error: BaseException | None) -> None:
                self.lost = error

        async def main() -> None:
            loop = asyncio.get_running_loop()
            transport, protocol = await serial.create_serial_connection(loop, Deaf, NAME)
            transport.pause_reading()
            await asyncio.sleep(1)
            loop.call_soon(port.unplug)
            await asyncio.sleep(0.05)
            assert isinstance(protocol.lost, HardwareError)

        play(board, main())

    def test_a_port_that_comes_back_to_a_full_queue_stays_paused(self, board: SimBoard, port: Port) -> None:
        """However often: each time it would read once otherwise, and the queue would grow."""

        async def main() -> None:
            ignore_reports()
            async with serial.open(NAME, framing=serial.Lines(), queue_size=2, reopen=Backoff(0.01, 1)) as source:
                for number in range(20):
                    port.send(b"%d\n" % number * 3)
                    await asyncio.sleep(0.1)
                    port.unplug()
                    port.replug()
                    await asyncio.sleep(0.1)
                assert source.statistics().reopened == 20
                assert source.statistics().queued <= 6
                port.send(b"last\n")
                while (await anext(source)).data != b"last":
                    pass
                assert source.statistics().queued == 0

        play(board, main())

    def test_watching_for_it_keeps_no_descriptor_open(self, board: SimBoard, port: Port) -> None:
        async def main() -> None:
            before = len(os.listdir("/proc/self/fd"))
            for _ in range(3):
                async with serial.open(NAME, framing=serial.Lines(), queue_size=1) as source:
                    port.send(b"one\ntwo\n")
                    await asyncio.sleep(0.1)
                    assert source.statistics().queued == 2
            assert len(os.listdir("/proc/self/fd")) == before

        play(board, main())


async def until_failed(source: serial.SerialPort) -> Any:
    while True:
        try:
            yield await anext(source)
        except (HardwareError, StopAsyncIteration):
            return


class TestErrors:
    def test_those_of_the_uart_are_counted_over_outages(self, board: SimBoard, port: Port) -> None:
        async def main() -> None:
            ignore_reports()
            port.send_break()  # before the port is open
            async with serial.open(NAME, reopen=Backoff(0.01)) as source:
                assert source.statistics().breaks == 0
                port.send_break()
                port.terminal.counts["overrun"] += 2
                port.terminal.counts["framing"] += 3
                assert (source.statistics().breaks, source.statistics().overruns) == (1, 2)
                source.close()  # the driver can't be asked any more
                found = source.statistics()
                assert (found.breaks, found.overruns, found.framing_errors, found.parity_errors) == (1, 2, 3, 0)
            async with serial.open(NAME, reopen=Backoff(0.01)) as source:
                port.send_break()
                source.statistics()
                source.fail(OSError("unplugged"))
                await asyncio.sleep(0.1)
                port.send_break()
                assert source.statistics().breaks == 2

        play(board, main())

    def test_characters_that_find_the_buffer_full_are_counted(self, board: SimBoard, port: Port) -> None:
        async def main() -> None:
            async with serial.open(NAME, 115200, queue_size=1, framing=serial.Lines()) as source:
                port.buffers.append(16)
                port.send(b"1\n2\n3\n" + bytes(100), 115200)
                await asyncio.sleep(1)
                assert source.statistics().buffer_overruns == port.dropped > 0

        play(board, main())

    def test_a_driver_that_does_not_count_says_so(self, run: Run) -> None:
        async def main() -> None:
            async with serial.open(NAME, low_latency=True) as source:
                found = source.statistics()
                assert (found.overruns, found.breaks, found.low_latency) == (None, None, False)

        with Pty() as board, using(board):
            run(main())


class TestModes:
    def test_low_latency_is_shown_where_the_driver_has_it(
        self, board: SimBoard, port: Port, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def main() -> None:
            board.add_port("/dev/ttyACM0")  # its driver accepts the flag and ignores it
            for name, asked, granted in ((NAME, True, True), (NAME, False, False), ("/dev/ttyACM0", True, False)):
                with caplog.at_level(logging.INFO, "hwloop"):
                    async with serial.open(name, low_latency=asked) as source:
                        assert source.statistics().low_latency == granted
                port.terminal.flags = 0
            assert [record.message for record in caplog.records] == ["/dev/ttyACM0: its driver has no low-latency mode"]

        play(board, main())

    def test_rs485_reaches_the_driver_and_is_kept_over_an_outage(self, board: SimBoard, port: Port) -> None:
        async def main() -> None:
            ignore_reports()
            settings = serial.RS485Settings(rts_level_for_tx=False, rts_level_for_rx=True, delay_before_rx=0.005)
            async with serial.open(NAME, rs485=settings, reopen=Backoff(0.01)) as source:
                assert port.terminal.rs485 is not None
                assert int.from_bytes(port.terminal.rs485[:4], "little") == 0b101  # enabled, RTS after sending
                assert port.terminal.rs485[8] == 5  # milliseconds
                port.terminal.rs485 = bytes(32)
                source.fail(OSError("unplugged"))
                await asyncio.sleep(0.1)
                assert int.from_bytes(port.terminal.rs485[:4], "little") == 0b101
            async with serial.open(NAME, rs485=True):
                assert int.from_bytes(port.terminal.rs485[:4], "little") == 0b011  # enabled, RTS while sending

        play(board, main())

    def test_an_adapter_without_rs485_says_what_to_do(self, board: SimBoard) -> None:
        board.add_port("/dev/ttyUSB0")

        async def main() -> None:
            with pytest.raises(
                HardwareError, match=r"RS-485 mode refused: .*; leave out rs485= if the adapter switches"
            ):
                serial.open("/dev/ttyUSB0", rs485=True).open()
            serial.open("/dev/ttyUSB0").open().close()

        play(board, main())

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"rs485": 5}, r"rs485 must be True or serial.RS485Settings\(...\), not 5"),
            ({"rs485": True, "rts": False}, "with rs485= the driver sets RTS; leave out rtscts= and rts="),
            ({"rs485": True, "rtscts": True}, "with rs485= the driver sets RTS; leave out rtscts= and rts="),
        ],
    )
    def test_modes_that_make_no_sense_raise_at_once(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises((TypeError, ValueError), match=message):
            serial.open(NAME, **options)


class TestModemLines:
    def test_each_change_is_an_event(self, board: SimBoard, port: Port) -> None:
        async def main() -> None:
            async with serial.open(NAME) as source, source.modem_lines(every=0.01) as lines:
                assert lines.levels == (False, False, False, False)
                port.set_modem_lines(cts=True, dsr=True)
                change = await anext(lines)
                assert (change.levels, change.changed, change.lost) == ((True, True, False, False), ("cts", "dsr"), 0)
                assert asyncio.get_running_loop().time() - change.received_ns / 1e9 < 0.011
                port.set_modem_lines(cts=False)
                change = await anext(lines)
                assert (change.changed, change.levels.cts, lines.levels.cts) == (("cts",), False, False)

        play(board, main())

    def test_a_pulse_between_two_looks_is_seen_and_more_of_them_are_counted(self, board: SimBoard, port: Port) -> None:
        async def main() -> None:
            async with serial.open(NAME) as source, source.modem_lines() as lines:
                await asyncio.sleep(0.1)
                for level in (True, False) * 3:
                    port.set_modem_lines(cd=level)
                change = await anext(lines)
                assert (change.changed, change.levels.cd, change.lost) == (("cd",), False, 5)
                assert lines.statistics().lost == 5
                assert lines.statistics().wakeups > 3

        play(board, main())

    def test_callbacks_and_an_outage(self, board: SimBoard, port: Port) -> None:
        async def main() -> None:
            ignore_reports()
            changes: list[serial.ModemChange] = []
            async with serial.open(NAME, reopen=Backoff(0.01)) as source, source.modem_lines() as lines:
                lines.add_callback(changes.append)
                await asyncio.sleep(0.1)
                port.unplug()
                await asyncio.sleep(0.1)
                assert changes == []
                port.set_modem_lines(ri=True)
                port.replug()
                await asyncio.sleep(0.5)
                assert [change.changed for change in changes] == [("ri",)]
                assert lines.statistics().errors == 0
            assert lines.closed

        play(board, main())

    def test_it_ends_with_its_port_and_leaves_nothing_behind(self, board: SimBoard, port: Port) -> None:
        async def main() -> None:
            source = serial.open(NAME).open()
            async with source.modem_lines():
                pass
            assert source.at_end == []
            lines = source.modem_lines().open()
            waiting = asyncio.create_task(anext(lines, "ended"))
            await asyncio.sleep(0.1)
            source.close()
            assert await waiting == "ended"

        play(board, main())

    def test_a_driver_without_them_says_so(self, run: Run) -> None:
        async def main() -> None:
            async with serial.open(NAME) as source:
                with pytest.raises(
                    HardwareError, match="the modem lines can't be read; its driver or adapter does not"
                ):
                    source.modem_lines().open()
            with pytest.raises(HardwareError, match="it is closed"):
                source.modem_lines().open()

        with Pty() as board, using(board):
            run(main())
