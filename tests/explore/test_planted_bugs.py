"""Programs with one planted bug each, and the same programs without it: the bug hunter finds the bug, and nothing else.

Each program is a class. `main` is the program, with `broken` for the bug; `check` stimulates the board and asserts an
invariant that holds under the faults of the case.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import functools
from dataclasses import dataclass, field

import pytest

import hwloop
from firmware_sim import Connections, Device, SimBoard
from hwloop import Backoff, gpio, i2c, serial
from hwloop.testing.drawing import schedules
from hwloop.testing.explore import explore
from hwloop.testing.targets import Targets

RUNS = 120
PORT = "/dev/ttyUSB0"


@dataclass
class Scale(Device):
    """Answers each line on its port after 50 ms: "get N" by "N 21.5", and counts each "tip N"."""

    port: str = PORT
    tips: list = field(default_factory=list, init=False)

    def attach(self, board: Connections) -> None:
        self._port = board.add_port(self.port)
        self._port.attach(self)
        self._timeline = board.timeline
        self._text = b""

    def receive(self, data: bytes) -> None:
        *lines, self._text = (self._text + data).split(b"\n")
        for line in lines:
            word, _, number = line.partition(b" ")
            if word == b"tip":
                self.tips.append(number)
            answer = number + b" 21.5\n"
            self._timeline.after(0.05, lambda answer=answer: self._port.send(answer, 9600))


class Case:
    board = ()
    faults = ()
    seconds = 5.0

    def __init__(self, broken):
        self.broken = broken

    async def check(self, board):
        raise NotImplementedError


class BouncesCounted(Case):
    board = ({"type": "button", "name": "door", "line": 17, "hold": 0.4},)
    faults = ("contact-bounce", "lost-wake-up")

    async def main(self):
        debounce = 0 if self.broken else 0.2
        async with gpio.watch(17, pull="up", active_low=True, debounce=debounce) as door:
            async for edge in door:
                self.presses += edge.value

    async def check(self, board):
        self.presses = 0
        async with running(self.main()):
            for _ in range(3):
                board["door"].click()
                await asyncio.sleep(1)
        assert self.presses <= 3


class LossesIgnored(Case):
    """Counts the pulses of a meter through a short queue, and forgets `lost`."""

    faults = ("blocked-loop",)

    async def main(self):
        async with gpio.watch(5, edges="rising", pull="down", queue_size=4, when_full="drop-oldest") as meter:
            async for edge in meter:
                self.pulses += 1 if self.broken else 1 + edge.lost

    async def check(self, board):
        self.pulses = 0
        async with running(self.main()):
            for number in range(60):  # on the board's time, which goes on while the loop is blocked
                for level in (1, 0):
                    pulse = functools.partial(board.line(5).drive, level)
                    board.timeline.after(0.05 * number + 0.02 * (1 - level), pulse)
            await asyncio.sleep(6)
            board.line(5).drive(1)
            await asyncio.sleep(0.1)
        assert self.pulses == 61


class SensorAbsent(Case):
    """Divides by a reading that is not there when the first transfer fails."""

    board = ({"type": "bme280", "name": "climate"},)
    faults = ("i2c-nack", "i2c-arbitration-loss")

    async def check(self, board):
        reading = None
        async with i2c.open(1) as bus:
            for _ in range(20):
                with contextlib.suppress(OSError):
                    reading = (await bus.run(lambda it: it.read_i2c_block_data(0x76, 0xFA, 3)))[0]
                if self.broken or reading:
                    100 / reading
                await asyncio.sleep(0.1)


class DiesAtStart(Case):
    """Reads the identity of a chip once, at the start, without a second try."""

    board = ({"type": "bme280", "name": "climate"},)
    faults = ("i2c-nack", "i2c-hang", "i2c-stuck-sda")
    seconds = 0.05

    async def identity(self, bus):
        while True:
            try:
                return await bus.run(lambda it: it.read_byte_data(0x76, 0xD0))
            except OSError:
                if self.broken:
                    raise
                await asyncio.sleep(0.5)

    async def check(self, board):
        async with i2c.open(1) as bus:
            assert await self.identity(bus) == 0x60


class LockKept(Case):
    """Takes a lock without giving it back when the transfer fails."""

    board = ({"type": "bme280", "name": "climate"},)
    faults = ("i2c-nack",)

    async def read(self, bus):
        await self.lock.acquire()
        try:
            await bus.run(lambda it: it.read_byte_data(0x76, 0xD0))
        except OSError:
            if not self.broken:
                self.lock.release()
            return
        self.lock.release()

    async def check(self, board):
        self.lock = asyncio.Lock()
        async with i2c.open(1) as bus:
            for _ in range(20):
                await asyncio.wait_for(self.read(bus), 5)
                await asyncio.sleep(0.1)


class RetriesWithoutPause(Case):
    """Repeats a failed transfer at once, for as long as it fails."""

    board = ({"type": "bme280", "name": "climate"},)
    faults = ("i2c-nack",)

    async def check(self, board):
        async with i2c.open(1) as bus:
            for _ in range(10):
                while True:
                    try:
                        await bus.run(lambda it: it.read_byte_data(0x76, 0xD0))
                        break
                    except OSError:
                        await asyncio.sleep(0 if self.broken else 0.1)
                await asyncio.sleep(0.1)
        assert board.i2c(1).transfers < 200


class HeaterStaysOn(Case):
    """Leaves the heater as it is while the sensor does not answer."""

    board = ({"type": "bme280", "name": "climate", "temperature": 10.0},)
    faults = ("i2c-nack", "i2c-hang")

    async def main(self):
        async with gpio.output(26, initial=0, safe=0) as heater, i2c.open(1) as bus:
            while True:
                try:
                    await bus.run(lambda it: it.read_i2c_block_data(0x76, 0xFA, 3))
                    self.answered = asyncio.get_running_loop().time()
                    heater.set(1)
                except OSError:
                    if not self.broken:
                        heater.set(0)
                await asyncio.sleep(0.1)

    async def check(self, board):
        self.answered = 0.0
        loop = asyncio.get_running_loop()
        async with running(self.main()):
            while loop.time() < 10:
                await asyncio.sleep(0.2)
                if loop.time() - self.answered > 2.5:
                    assert board.line(26).level == 0


class ChipForgotItsSettings(Case):
    """Sets up a chip once, and does not notice that it was reset."""

    board = ({"type": "bme280", "name": "climate"},)
    faults = ("i2c-device-reset",)

    async def check(self, board):
        async with i2c.open(1) as bus:
            await bus.run(lambda it: it.write_byte_data(0x76, 0xF4, 0x27))
            for _ in range(30):
                await asyncio.sleep(0.1)
                if not self.broken and await bus.run(lambda it: it.read_byte_data(0x76, 0xF4)) != 0x27:
                    await bus.run(lambda it: it.write_byte_data(0x76, 0xF4, 0x27))
            await asyncio.sleep(0.1)
            if not self.broken and await bus.run(lambda it: it.read_byte_data(0x76, 0xF4)) != 0x27:
                await bus.run(lambda it: it.write_byte_data(0x76, 0xF4, 0x27))
            mode = await bus.run(lambda it: it.read_byte_data(0x76, 0xF4)) & 3
        assert mode == 3


class AnswerNotWaitedFor(Case):
    """Waits for an answer without a limit of time."""

    board = ({"type": f"{__name__}:Scale", "name": "scale"},)
    faults = ("serial-truncation", "serial-noise")

    async def check(self, board):
        async with serial.open(PORT, 9600, framing=serial.Lines()) as port:
            for number in range(10):
                port.write(b"get %d\n" % number)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(None if self.broken else 1):
                        await anext(port)
                await asyncio.sleep(0.1)


class StaleAnswer(Case):
    """Takes a late answer to one question for the answer to the next."""

    board = ({"type": f"{__name__}:Scale", "name": "scale"},)
    faults = ("serial-gap",)

    async def check(self, board):
        async with serial.open(PORT, 9600, framing=serial.Lines()) as port:
            for number in range(10):
                port.write(b"get %d\n" % number)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.3):
                        answer = (await anext(port)).data
                        while not self.broken and not answer.startswith(b"%d " % number):
                            answer = (await anext(port)).data
                        assert answer.startswith(b"%d " % number)
                await asyncio.sleep(0.1)


class TornNumber(Case):
    """Believes each line that begins with a number."""

    board = ({"type": f"{__name__}:Scale", "name": "scale"},)
    faults = ("serial-truncation",)

    async def check(self, board):
        async with serial.open(PORT, 9600, framing=serial.Lines()) as port:
            for number in range(10):
                port.write(b"get %d\n" % (100 + number))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.3):
                        text = (await anext(port)).data.decode("ascii", "replace")
                        name, _, value = text.partition(" ")
                        if self.broken or (len(name) == 3 and name.isdecimal() and len(value) == 4):
                            assert float(value) == 21.5
                await asyncio.sleep(0.1)


class TipsTwice(Case):
    """Repeats a command after a timeout, though the first may have been carried out."""

    board = ({"type": f"{__name__}:Scale", "name": "scale"},)
    faults = ("serial-gap",)

    async def check(self, board):
        async with serial.open(PORT, 9600, framing=serial.Lines()) as port:
            for number in range(8):
                for _ in range(2 if self.broken else 1):
                    port.write(b"tip %d\n" % number)
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(0.3):
                            await anext(port)
                            break
                await asyncio.sleep(0.2)
            await asyncio.sleep(3)
        tips = board["scale"].tips
        assert len(tips) == len(set(tips))


class NotReopened(Case):
    """Ends when the cable is unplugged for a moment."""

    board = ({"type": "gps", "name": "gps", "port": PORT},)
    faults = ("serial-unplug",)

    async def main(self):
        while True:
            try:
                reopen = None if self.broken else Backoff(0.1, 2, 1)
                async with serial.open(PORT, 9600, framing=serial.Lines(), reopen=reopen) as port:
                    async for _ in port:
                        pass
            except OSError:
                if self.broken:
                    raise
                await asyncio.sleep(0.2)  # reopen= is for a port that was there at first

    async def check(self, board):
        async with running(self.main()):
            await asyncio.sleep(8)


class WorkerDies(Case):
    """Ends its worker at the first line that is no number."""

    board = ({"type": f"{__name__}:Scale", "name": "scale"},)
    faults = ("serial-noise",)

    async def main(self):
        async with serial.open(PORT, 9600, framing=serial.Lines()) as port:
            self.worker = asyncio.create_task(self.work(port))
            for number in range(20):
                port.write(b"get %d\n" % number)
                await asyncio.sleep(0.3)

    async def work(self, port):
        async for line in port:
            try:
                float(line.data.split()[1])
            except (ValueError, IndexError):
                if self.broken:
                    raise

    async def check(self, board):
        await self.main()
        assert not self.worker.done() or self.worker.exception() is None
        self.worker.cancel()


class StartedInTheWrongOrder(Case):
    """Counts on a task that was started first to run first."""

    faults = ("lost-wake-up",)

    async def open_valve(self):
        self.valve = True
        self.ready.set()

    async def start_pump(self):
        if not self.broken:
            await self.ready.wait()
        assert self.valve

    async def check(self, board):
        self.valve, self.ready = False, asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.open_valve())
            tasks.create_task(self.start_pump())


class ReadsInPieces(Case):
    """Takes the bytes of one read for a whole answer."""

    board = ({"type": f"{__name__}:Scale", "name": "scale"},)
    faults = ("serial-gap",)

    async def check(self, board):
        async with serial.open(PORT, 9600, framing=None if self.broken else serial.Lines()) as port:
            for number in range(10):
                port.write(b"get %d\n" % number)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.3):
                        answer = await anext(port)
                        data = answer if isinstance(answer, bytes) else answer.data
                        assert data.strip().endswith(b" 21.5")
                await asyncio.sleep(0.1)


class ValveLeftOpen(Case):
    """Opens a valve for a measurement, and closes it only if the measurement works."""

    board = ({"type": "bme280", "name": "climate"},)
    faults = ("i2c-nack", "i2c-arbitration-loss")

    async def measure(self, bus, valve):
        valve.set(1)
        try:
            await bus.run(lambda it: it.read_byte_data(0x76, 0xFA))
        except OSError:
            if self.broken:
                return
        valve.set(0)

    async def check(self, board):
        async with gpio.output(26, initial=0, safe=0) as valve, i2c.open(1) as bus:
            for _ in range(10):
                await self.measure(bus, valve)
                assert board.line(26).level == 0
                await asyncio.sleep(0.3)


class EmptyAverage(Case):
    """Takes the average of the readings of a second, though there may be none."""

    board = ({"type": "bme280", "name": "climate"},)
    faults = ("i2c-nack",)

    async def check(self, board):
        async with i2c.open(1) as bus:
            for _ in range(4):
                readings = []
                for _ in range(10):
                    with contextlib.suppress(OSError):
                        readings.append(await bus.run(lambda it: it.read_byte_data(0x76, 0xFA)))
                    await asyncio.sleep(0.1)
                if readings or self.broken:
                    sum(readings) / len(readings)


class BacklogWithoutEnd(Case):
    """Keeps every measurement that could not be stored yet."""

    board = ({"type": "bme280", "name": "store"},)
    faults = ("i2c-hang", "i2c-stuck-sda", "i2c-nack")

    async def main(self):
        async with i2c.open(1) as bus:
            while True:
                while self.backlog:
                    with contextlib.suppress(OSError):
                        await bus.run(lambda it: it.read_byte_data(0x76, 0xD0))
                        self.backlog.popleft()
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.01)

    async def check(self, board):
        self.backlog = collections.deque(maxlen=None if self.broken else 10)
        async with running(self.main()):
            for number in range(100):
                self.backlog.append(number)
                assert len(self.backlog) <= 10
                await asyncio.sleep(0.05)


class ReportsEachFailure(Case):
    """Writes a line for each failed reading, and fills the disk."""

    board = ({"type": "bme280", "name": "climate"},)
    faults = ("i2c-nack",)

    async def check(self, board):
        reports, failing = 0, False
        async with i2c.open(1) as bus:
            for _ in range(50):
                try:
                    await bus.run(lambda it: it.read_byte_data(0x76, 0xFA))
                    failing = False
                except OSError:
                    reports += self.broken or not failing
                    failing = True
                await asyncio.sleep(0.1)
        assert reports <= 5


@contextlib.asynccontextmanager
async def running(program):
    """Run a program beside the block; its failure fails the block."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(program)
        await asyncio.sleep(0.1)  # its sources are open then
        yield
        task.cancel()


def play(case, schedule):
    clock = hwloop.VirtualClock()
    with SimBoard({"device": list(case.board)}, clock=clock) as board:
        schedule.inject(board.faults)
        hwloop.run(case.check(board), board=board, clock=clock, seed=schedule.seed)


def found(kind, broken):
    with SimBoard({"device": list(kind.board)}, clock=hwloop.VirtualClock()) as board:
        lines = [17] if kind is BouncesCounted else [5]
        devices = [(1, address) for address in board.i2c(1).addresses]
        targets = Targets(lines, sorted(board.ports), [1], devices, kind.seconds)
    return explore(
        lambda schedule: play(kind(broken), schedule),
        schedules(targets, kind.faults),
        runs=RUNS if broken else RUNS // 2,
    )


CASES = Case.__subclasses__()


@pytest.mark.slow
@pytest.mark.parametrize("kind", CASES, ids=[kind.__name__ for kind in CASES])
def test_a_planted_bug_is_found(kind):
    assert found(kind, broken=True) is not None


@pytest.mark.slow
@pytest.mark.parametrize("kind", CASES, ids=[kind.__name__ for kind in CASES])
def test_the_program_without_the_bug_passes(kind):
    failure = found(kind, broken=False)
    assert failure is None, f"{failure.schedule}: {failure.error!r}"
