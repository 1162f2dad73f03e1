"""Promise 8: nothing is lost silently. Over any history, the account of every source adds up.

A history is a random sequence of events and losses of the device, of consumers that come, wait, are cancelled and
leave, of callbacks that come and go, and of failures. At its end
received = delivered + dropped, and the `lost` fields of what was delivered add up to lost + dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import struct
import time
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hwloop
from firmware_sim import SimBoard
from hwloop import board as boards
from hwloop.boards.gpiod.edges import GpiodEdges
from hwloop.boards.removal_watch import RemovalWatch
from hwloop.sources import Backoff, Source, gpio, i2c, serial
from hwloop.sources.rate_limit import RateLimit

EXAMPLES = int(os.environ.get("HISTORIES", "25"))
SIZES = st.integers(1, 4)
ACTIONS = st.one_of(
    st.tuples(st.just("happen"), st.integers(1, 6), st.integers(0, 3)),
    st.tuples(st.just("settle")),
    st.tuples(st.just("wait")),
    st.tuples(st.just("cancel")),
    st.tuples(st.just("happen, cancel"), st.integers(1, 3)),
    st.tuples(st.just("time out"), st.sampled_from([0, 0.0005, 0.001])),
    st.tuples(st.just("iterate"), st.integers(1, 5)),
    st.tuples(st.just("add callback")),
    st.tuples(st.just("remove callback")),
    st.tuples(st.just("fail")),
)
HISTORIES = st.lists(ACTIONS, max_size=25)
OPTIONS = st.fixed_dictionaries(
    {
        "queue_size": SIZES,
        "when_full": st.sampled_from(["drop-oldest", "drop-newest", "pause"]),
        "rate_limit": st.sampled_from([None, None, RateLimit(1000, 1)]),
    }
)


class Rig:
    """A source, and the hand that moves its device."""

    source: Source[Any]
    reopens = True

    def happen(self, count: int, lose: int = 0) -> None:
        """Send `count` events. Before each, the device loses `lose` of its own."""
        raise NotImplementedError

    def carried(self) -> int:
        """Losses that have been counted, and that the device's own decoder still carries for its next event."""
        return 0


class Event(NamedTuple):
    number: int
    lost: int = 0


class Own(Source[Event]):
    """A program's own source: numbered events, so what is missing shows."""

    expected = 0

    def connect(self) -> int:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        return self.reader

    def receive(self):
        for (number,) in struct.iter_unpack("I", os.read(self.reader, 4096)):
            lost, self.expected = number - self.expected, number + 1
            self.count_lost(lost)
            yield Event(number, lost)

    def disconnect(self) -> None:
        # Events that are still in the pipe are lost: the next event's number shows it.
        os.close(self.reader)
        os.close(self.writer)

    def with_lost(self, event: Event, lost: int) -> Event:
        return event._replace(lost=event.lost + lost)


class OwnRig(Rig):
    def __init__(self, board: SimBoard, options: dict[str, Any]) -> None:
        self.source = Own(name="own", reopen=Backoff(0.001), **options)
        self.number = 0

    def happen(self, count: int, lose: int = 0) -> None:
        for _ in range(count):
            self.number += lose
            if self.source.fileno() >= 0:
                os.write(self.source.writer, struct.pack("I", self.number))
            self.number += 1


class LgpioRig(Rig):
    """A watch on the simulated chip, below lgpio's own format. Losing takes reports out of the FIFO."""

    def __init__(self, board: SimBoard, options: dict[str, Any]) -> None:
        self.source = self.watch = gpio.watch(17, reopen=Backoff(0.001), **options)
        self.line = board.chip.line(17)
        self.line.drive(0)

    def happen(self, count: int, lose: int = 0) -> None:
        for _ in range(count):
            for _ in range(lose):
                self.watch.on_readable()
                self.line.drive(1 - self.line.level)
                if self.watch.fileno() >= 0:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self.watch.fileno(), 16)
            self.line.drive(1 - self.line.level)


class GpiodBoard(boards.Board):
    """Watches made of the kernel's own events, written into a pipe."""

    label = "events"
    open_output = serial_port = open_bus = None  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.level = self.number = 0

    def open_edges(self, request):
        self.reader, self.writer = os.pipe()
        self.number = 0
        granted = SimpleNamespace(fd=self.reader, get_value=lambda number: self.level)
        chip = SimpleNamespace(
            watch_removal=lambda: RemovalWatch(""),
            check_process=lambda name: None,
            release=self.release,
            time_ns=time.monotonic_ns,
        )
        both, debounced = request.edges == "both", request.debounce > 0
        return GpiodEdges(chip, granted, {17: 17}, both=both, debounced=debounced)  # type: ignore[arg-type]

    def release(self, request, numbers) -> None:
        os.close(self.reader)
        os.close(self.writer)


class GpiodRig(Rig):
    def __init__(self, board: SimBoard, options: dict[str, Any]) -> None:
        self.board = GpiodBoard()
        with boards.using(self.board):
            self.source = gpio.watch(17, reopen=Backoff(0.001), **options)
            self.source._board = self.board

    def happen(self, count: int, lose: int = 0) -> None:
        board = self.board
        for _ in range(count):
            board.number += 1 + lose
            board.level = (board.level + 1 + lose) % 2
            if self.source.fileno() >= 0:
                kind = 1 if board.level else 2
                os.write(board.writer, struct.pack("=QIIII24x", time.monotonic_ns(), kind, 17, 0, board.number))


class SerialRig(Rig):
    """Lines with a check; a spoilt one is a lost one."""

    def __init__(self, board: SimBoard, options: dict[str, Any]) -> None:
        self.port = board.add_port("/dev/tty_account")
        self.framing = serial.Lines(check=lambda line: line != b"bad")
        self.source = serial.open("/dev/tty_account", framing=self.framing, reopen=Backoff(0.001), **options)

    def happen(self, count: int, lose: int = 0) -> None:
        self.port.send((b"bad\n" * lose + b"good\n") * count)

    def carried(self) -> int:
        return self.framing._carried


class PollRig(Rig):
    reopens = False  # it has no device of its own

    def __init__(self, board: SimBoard, options: dict[str, Any]) -> None:
        self.bus = i2c.open(1).open()
        self.script: list[bool] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.source = self.poll = self.bus.poll(self.read, every=0.001, **options)

    async def read(self) -> str:
        await self.gate.wait()
        if not self.script:
            await asyncio.sleep(0.001)
            return "idle"
        await asyncio.sleep(0)
        if self.script.pop(0):
            return "reading"
        raise OSError("no answer")

    def happen(self, count: int, lose: int = 0) -> None:
        self.script += ([False] * lose + [True]) * count

    def carried(self) -> int:
        return self.poll._lost_since


class Player:
    """Plays a history and keeps its own account of what the program got."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.source = rig.source
        self.got: list[Any] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self.callbacks: list[Any] = []

    async def play(self, history: list[tuple[Any, ...]]) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        with contextlib.ExitStack() as stack:
            if isinstance(self.rig, PollRig):
                stack.callback(self.rig.bus.close)
            self.source.open()
            stack.callback(self.source.close)
            for what, *arguments in history:
                await self.act(what, *arguments)
            await self.end()
            self.check()

    async def act(self, what: str, *arguments: Any) -> None:
        rig, source = self.rig, self.source
        if what == "happen":
            rig.happen(*arguments)
        elif what == "settle":
            await asyncio.sleep(0.002)
        elif what == "wait":
            self.tasks.append(asyncio.create_task(self.take()))
            await asyncio.sleep(0)
        elif what == "iterate":
            self.tasks.append(asyncio.create_task(self.iterate(*arguments)))
            await asyncio.sleep(0)
        elif what in ("cancel", "happen, cancel"):
            if arguments:
                rig.happen(*arguments)
                if not isinstance(rig, PollRig) and source.fileno() >= 0:
                    source.on_readable()  # so that the consumer is cancelled in the turn in which it is woken
            for task in self.tasks[-1:]:
                task.cancel()
                self.tasks.remove(task)
                await asyncio.sleep(0)
        elif what == "time out":
            with contextlib.suppress(TimeoutError):
                self.got.append(await asyncio.wait_for(anext(source), *arguments))
        elif what == "add callback":
            self.callbacks.append(self.listen(len(self.callbacks) == 0))
            source.add_callback(self.callbacks[-1])
        elif what == "remove callback" and self.callbacks:
            source.remove_callback(self.callbacks.pop())
        elif what == "fail" and rig.reopens:
            source.fail(OSError("gone"))

    def listen(self, first: bool) -> Any:
        def callback(event: Any) -> None:
            if first and not self.source._channel.consumers:
                self.got.append(event)  # the callbacks alone have it

        return callback

    async def take(self) -> None:
        self.got.append(await anext(self.source))

    async def iterate(self, count: int) -> None:
        async for event in self.source:
            self.got.append(event)
            count -= 1
            if not count:
                break
            await asyncio.sleep(0.001)

    async def end(self) -> None:
        """Let everybody leave, take all that is there, and one event more, which carries what is owed."""
        source = self.source
        await asyncio.sleep(0.01)
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        while self.callbacks:
            source.remove_callback(self.callbacks.pop())
        while self.rig.reopens and source.fileno() < 0:
            await asyncio.sleep(0.01)
        for _ in range(2):  # the first brings to light what the device lost
            await self.drain()
            self.rig.happen(1)
            await asyncio.sleep(0.05)
        await self.drain()

    async def drain(self) -> None:
        gate = self.rig.gate if isinstance(self.rig, PollRig) else asyncio.Event()
        gate.clear()
        while True:
            await asyncio.sleep(0.05)
            if not self.source._channel.events:
                break
            while self.source._channel.events:
                self.got.append(await anext(self.source))
        gate.set()

    def check(self) -> None:
        source = self.source
        statistics = source.statistics()
        assert statistics.queued == 0
        assert statistics.received == statistics.delivered + statistics.dropped
        assert statistics.delivered == len(self.got)
        told = sum(event.lost for event in self.got)
        assert told + source._channel.owed + self.rig.carried() == statistics.lost + statistics.dropped
        if not isinstance(self.rig, PollRig):
            assert source._channel.owed == self.rig.carried() == 0
        if isinstance(source, Own):
            assert statistics.received + statistics.lost == self.rig.number
        if isinstance(source, gpio.Watch):
            assert statistics.lost == statistics.lost_kernel + statistics.lost_fifo + statistics.merged


RIGS = {"own": OwnRig, "lgpio": LgpioRig, "gpiod": GpiodRig, "serial": SerialRig, "poll": PollRig}


@pytest.mark.parametrize("kind", RIGS)
def test_the_account_of_every_source_adds_up_over_any_history(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)

    @settings(max_examples=EXAMPLES, deadline=None)
    @given(HISTORIES, OPTIONS)
    def adds_up(history: list[tuple[Any, ...]], options: dict[str, Any]) -> None:
        clock = hwloop.VirtualClock()

        async def main() -> None:
            await Player(RIGS[kind](board, options)).play(history)

        with SimBoard(clock=clock) as board:
            hwloop.run(main(), board=board, clock=clock)

    adds_up()


# Measurements of edges: no result is lost with a wait that is cancelled, and losses of the watch are passed on.

STEPS = st.one_of(
    st.tuples(st.just("edges"), st.integers(1, 7), st.integers(0, 2)),
    st.tuples(st.just("wait")),
    st.tuples(st.just("cancel")),
    st.tuples(st.just("edges, cancel"), st.integers(1, 3)),
    st.tuples(st.just("time out"), st.sampled_from([0, 0.001])),
    st.tuples(st.just("settle")),
)
DERIVED = {
    "pulse_width": lambda watch: gpio.pulse_width(watch),
    "clicks": lambda watch: gpio.clicks(watch, gap=0, long=60),
    "encoder": lambda watch: gpio.encoder(watch),
    "frequency": lambda watch: gpio.frequency(watch, window=0.001),
}


@pytest.mark.parametrize("kind", DERIVED)
def test_no_result_of_edges_is_lost_over_any_history(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hwloop.sources.gpio.measurements.KEPT", 3)

    @settings(max_examples=EXAMPLES, deadline=None)
    @given(st.lists(STEPS, max_size=25))
    def adds_up(history: list[tuple[Any, ...]]) -> None:
        clock = hwloop.VirtualClock()

        async def main() -> None:
            lines = (5, 6) if kind == "encoder" else (17,)
            got: list[Any] = []
            tasks: list[asyncio.Task[None]] = []
            lost = sent = 0

            async with gpio.watch(*lines) as watch, DERIVED[kind](watch) as meter:
                levels = watch.values

                def edges(count: int, missing: int = 0) -> None:
                    nonlocal lost, sent
                    for _ in range(count):
                        line = lines[sent % len(lines)]
                        levels[line] = 1 - levels[line]
                        now_ns = clock.now_ns() + 1 + sent
                        watch.deliver(boards.Edge(line, levels[line], now_ns, now_ns, missing))
                        sent += 1
                        lost += missing

                async def take() -> None:
                    got.append(await anext(meter))

                for what, *arguments in history:
                    if what == "edges":
                        edges(*arguments)
                    elif what == "wait":
                        tasks.append(asyncio.create_task(take()))
                        await asyncio.sleep(0)
                    elif what in ("cancel", "edges, cancel"):
                        if arguments:
                            edges(*arguments)
                        for task in tasks[-1:]:
                            task.cancel()
                            tasks.remove(task)
                            await asyncio.sleep(0)
                    elif what == "time out":
                        with contextlib.suppress(TimeoutError):
                            got.append(await asyncio.wait_for(anext(meter), *arguments))
                    else:
                        await asyncio.sleep(0.002)
                await asyncio.sleep(0.01)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                assert meter.lost == lost
                account = meter.statistics()
                assert account.received == account.delivered + account.dropped + account.queued
                assert account.delivered == len(got) or kind in ("encoder", "frequency")
                assert (account.dropped, account.lost) == (meter.dropped, lost)
                if kind == "encoder" and sent:
                    before = clock.now_ns()
                    if meter.steps != (got[-1] if got else 0):
                        got.append(await anext(meter))
                    assert got[-1] == meter.steps
                    assert clock.now_ns() == before
                if kind == "frequency":
                    await asyncio.wait_for(anext(meter), 0.002)
                    assert meter.count == sum(1 for number in range(sent) if number % 2 == 0)

        with SimBoard(clock=clock) as board:
            board.chip.line(17).drive(0)
            hwloop.run(main(), board=board, clock=clock)

    adds_up()
