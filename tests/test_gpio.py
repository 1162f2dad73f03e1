"""Watches and outputs, on the simulated board and on every loop."""

from __future__ import annotations

import asyncio
import enum
import os
import time
import weakref
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from firmware_sim import SimBoard
from firmware_sim.devices.pin_parts import Button, Led
from firmware_sim.libraries.lgpio.api import Lgpio
from hwloop import HardwareError, Priority, gpio
from hwloop import board as boards
from hwloop.sources import Backoff

Run = Callable[[Coroutine[Any, Any, Any]], Any]


class Parts:
    """A board with a button on 17, an LED on 27 and a wire from 22 to 23."""

    def __init__(self) -> None:
        self.button = Button(17)
        self.led = Led(27)
        self.board = SimBoard({"device": [{"type": "wire", "lines": [22, 23]}]})
        for device in (self.button, self.led):
            device.attach(self.board)

    def drive(self, line: int, *levels: int | None) -> None:
        for level in levels:
            self.board.chip.line(line).drive(level)

    def free(self, *lines: int) -> bool:
        """Whether these lines are nobody's, and lgpio's directory is empty."""
        return os.listdir(self.board.lgpio.directory) == [] and all(
            self.board.chip.line(line).consumer is None for line in lines
        )


@pytest.fixture
def parts() -> Iterator[Parts]:
    parts = Parts()
    with parts.board, boards.using(parts.board):
        yield parts
        assert gpio.outputs() == []


async def take(source: Any, count: int) -> list[Any]:
    """The next `count` events of a source."""
    events = []
    async with asyncio.timeout(5):
        async for event in source:
            events.append(event)
            if len(events) == count:
                break
    return events


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


# Watching.


def test_a_button_is_heard(parts: Parts, run: Run) -> None:
    async def main() -> None:
        async with gpio.watch(17, pull="up", active_low=True) as button:
            assert button.value == 0
            parts.button.press()
            parts.button.release()
            edges = await take(button, 2)
            assert [(edge.line, edge.value, edge.lost) for edge in edges] == [(17, 1, 0), (17, 0, 0)]
            assert edges[0].timestamp_ns <= edges[1].timestamp_ns <= edges[1].received_ns <= time.monotonic_ns()
            assert button.statistics().delivered == 2
        assert parts.free(17)

    run(main())


def test_several_lines_arrive_in_the_order_of_their_edges(parts: Parts, run: Run) -> None:
    async def main() -> None:
        async with gpio.watch(12, "GPIO13", pull="down") as watch:
            parts.drive(13, 1)
            parts.drive(12, 1)
            parts.drive(13, 0)
            edges = await take(watch, 3)
            assert [(edge.line, edge.value) for edge in edges] == [("GPIO13", 1), (12, 1), ("GPIO13", 0)]
            assert (watch.level(12), watch.level("GPIO13")) == (1, 0)
            with pytest.raises(ValueError, match=r"line 13 is not watched; 12, GPIO13 are"):
                watch.level(13)
            with pytest.raises(TypeError, match="value is for a watch of one line; this one has 2"):
                print(watch.value)

    run(main())


@pytest.mark.parametrize(("edges", "expected"), [("rising", [1, 1]), ("falling", [0, 0]), ("both", [1, 0, 1, 0])])
def test_only_the_edges_asked_for_come(parts: Parts, run: Run, edges: Any, expected: list[int]) -> None:
    async def main() -> None:
        async with gpio.watch(12, edges=edges) as watch:
            parts.drive(12, 1, 0, 1, 0)
            assert [edge.value for edge in await take(watch, len(expected))] == expected
            assert watch.statistics().queued == 0

    run(main())


def test_a_bouncing_contact_is_one_edge_with_debounce(parts: Parts, run: Run) -> None:
    async def main() -> None:
        # Long against any pause of this thread between two bounces, which would be a stable level.
        async with gpio.watch(12, debounce=0.1) as contact:
            parts.drive(12, 1, 0, 1, 0, 1)
            edges = await take(contact, 1)
            assert [(edge.value, edge.lost) for edge in edges] == [(1, 0)]
            assert contact.statistics().queued == 0

    run(main())


def test_callbacks_are_called_and_one_that_raises_does_not_stop_the_rest(parts: Parts, run: Run) -> None:
    async def main() -> None:
        reports: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context))
        seen: list[int] = []
        async with gpio.watch(12) as watch:

            def fail(edge: gpio.Edge) -> None:
                raise RuntimeError("handler")

            watch.on_edge(fail)
            watch.on_edge(lambda edge: seen.append(edge.value))
            parts.drive(12, 1, 0)
            await until(lambda: len(seen) == 2)
            statistics = watch.statistics()
            assert (seen, statistics.delivered, statistics.errors, statistics.queued) == ([1, 0], 2, 2, 0)
            watch.remove_callback(fail)
            parts.drive(12, 1)
            await until(lambda: len(seen) == 3)
        assert [str(report["exception"]) for report in reports] == ["handler", "handler"]
        assert "gpio:12: exception in callback" in reports[0]["message"]

    run(main())


def test_a_full_queue_drops_by_policy_and_the_next_edge_carries_the_count(parts: Parts, run: Run) -> None:
    async def main() -> None:
        async with gpio.watch(12, queue_size=2) as watch:
            parts.drive(12, 1, 0, 1, 0, 1)
            await until(lambda: watch.statistics().received == 5)
            assert [(edge.value, edge.lost) for edge in await take(watch, 2)] == [(0, 3), (1, 0)]
            assert watch.statistics().dropped == 3

    run(main())


def test_closing_twice_is_harmless_and_wakes_waiting_tasks(parts: Parts, run: Run) -> None:
    async def main() -> None:
        watch = gpio.watch(12).open()
        waiting = asyncio.create_task(take(watch, 1))
        level = asyncio.create_task(watch.wait_for(1))
        await asyncio.sleep(0)
        watch.close()
        watch.close()
        assert await waiting == []
        with pytest.raises(RuntimeError, match="gpio:12 was closed"):
            await level
        assert watch.closed
        assert parts.free(12)

    run(main())


def test_a_closed_watch_is_let_go_at_once(parts: Parts, run: Run) -> None:
    async def main() -> None:
        watch = gpio.watch(12).open()
        left = weakref.ref(watch)
        watch.close()
        del watch
        assert left() is None

    run(main())


def test_lines_are_known_by_number_name_and_position_on_the_header(parts: Parts, run: Run) -> None:
    async def main() -> None:
        async with gpio.watch([17, "GPIO13", "J8:32"], chip="pinctrl-bcm2711") as watch, gpio.output("J8:13") as lamp:
            parts.drive(12, 1)
            assert [(edge.line, edge.value) for edge in await take(watch, 1)] == [("J8:32", 1)]
            assert watch.values == {17: watch.level(17), "GPIO13": 0, "J8:32": 1}
            lamp.set(1)
            assert parts.led.lit
            with pytest.raises(HardwareError, match="line 27: in use by this program already"):
                gpio.watch(27).open()
            with pytest.raises(ValueError, match="the same line twice"):
                gpio.watch(5, "J8:29").open()

    run(main())


def test_a_pin_of_the_header_that_is_no_line_raises(parts: Parts, run: Run) -> None:
    async def main() -> None:
        for position, message in {
            "J8:1": r"line 'J8:1': that pin is 3V3, not a GPIO line",
            "J8:41": r"line 'J8:41': no such pin on a Raspberry Pi 4B; its headers are J8 with 40, J2 with 3",
            "P1:11": r"line 'P1:11': no such pin",
        }.items():
            with pytest.raises(HardwareError, match=message):
                gpio.watch(position).open()
        with pytest.raises(HardwareError, match="chip 'pinctrl-rp1': no such chip on the simulated board; its chip is"):
            gpio.output(12, chip="pinctrl-rp1").open()

    run(main())


def test_a_debounced_level_is_the_settled_one_and_is_waited_for(parts: Parts, run: Run) -> None:
    async def main() -> None:
        async with gpio.watch(12, debounce=0.03) as contact:
            waiting = asyncio.create_task(contact.wait_for(1, timeout=5))
            await asyncio.sleep(0)
            parts.drive(12, 1)
            assert (contact.value, waiting.done()) == (0, False)
            await waiting
            assert contact.value == 1

    run(main())


# Lost edges.


def test_a_lost_edge_is_counted_on_the_next_one(parts: Parts, run: Run) -> None:
    async def main() -> None:
        async with gpio.watch(12) as watch:
            parts.drive(12, 1)
            os.read(watch.fileno(), 16)  # its report is gone
            parts.drive(12, 0)
            assert [(edge.value, edge.lost) for edge in await take(watch, 1)] == [(0, 1)]
            line, statistics = parts.board.chip.line(12), watch.statistics()
            assert line.reports == statistics.delivered + statistics.lost == 2
            assert (statistics.merged, statistics.lost_fifo, statistics.lost_kernel) == (1, 0, 0)

    run(main())


def test_an_edge_lost_at_the_end_is_delivered_when_the_line_is_quiet(parts: Parts, run: Run) -> None:
    async def main() -> None:
        async with gpio.watch(12) as watch:
            parts.drive(12, 1, 0)
            assert len(await take(watch, 2)) == 2
            parts.drive(12, 1)
            os.read(watch.fileno(), 16)
            edges = await take(watch, 1)
            assert [(edge.value, edge.lost) for edge in edges] == [(1, 0)]
            parts.drive(12, 0)
            assert [(edge.value, edge.lost) for edge in await take(watch, 1)] == [(0, 0)]

    run(main())


def test_after_a_flood_that_overflows_the_fifo_the_level_known_is_the_true_one(
    parts: Parts, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hwloop.boards.lgpio.fifos._PIPE_SIZE", 1 << 16)

    async def main() -> None:
        async with gpio.watch(12, queue_size=10_000) as watch:
            line = parts.board.chip.line(12)
            parts.drive(12, *[1, 0] * 2100, 1)
            assert line.reports_lost > 0
            await until(lambda: watch.statistics().received == line.reports + 1)
            edges = await take(watch, line.reports + 1)
            assert edges[-2].value == 0
            assert edges[-1].value == watch.value == 1

    run(main())


class Index:
    """A whole number of another kind, as numpy's are."""

    def __index__(self) -> int:
        return 17


class Names(enum.StrEnum):
    DOOR = "GPIO17"


class Numbers(enum.IntEnum):
    DOOR = 17


@pytest.mark.parametrize(
    "line", ["17", " 17 ", "GPIO17", "J8:11", Index(), Names.DOOR, Numbers.DOOR, [17], range(17, 18)]
)
def test_a_line_may_be_given_as_it_is_written(parts: Parts, run: Run, line: Any) -> None:
    async def main() -> None:
        async with gpio.watch(line, pull="up") as watch:
            (named,) = watch.lines
            assert named in (17, "GPIO17", "J8:11")
            assert type(named) in (int, str)
            assert watch.value == 1
            if not isinstance(line, list | range):
                assert watch.level(line) == 1
        if not isinstance(line, list | range):
            async with gpio.output(line) as output:
                assert output.name == f"gpio:{named}"

    run(main())


# Waiting for a level.


def test_waiting_for_a_level_that_is_there_returns_at_once(parts: Parts, run: Run) -> None:
    async def main() -> None:
        async with gpio.watch(17, pull="up", active_low=True) as button:
            await button.wait_for(0, timeout=0)

    run(main())


def test_a_level_is_waited_for_and_a_short_pulse_is_enough(parts: Parts, run: Run) -> None:
    async def main() -> None:
        async with gpio.watch(12) as watch:
            waiting = asyncio.create_task(watch.wait_for(1, timeout=5))
            await asyncio.sleep(0)
            parts.drive(12, 1, 0)
            await waiting
            assert watch.value == 0
            assert watch.statistics().delivered == 2

    run(main())


def test_an_edge_from_before_the_wait_does_not_end_it(parts: Parts, run: Run) -> None:
    async def main() -> None:
        async with gpio.watch(12) as watch:
            parts.drive(12, 1, 0)  # still unread
            with pytest.raises(TimeoutError):
                await watch.wait_for(1, timeout=0.01)
            assert watch.statistics().received == 2

    run(main())


def test_a_wait_ends_with_the_devices_failure(parts: Parts, run: Run) -> None:
    async def main() -> None:
        async with gpio.watch(12) as watch:
            waiting = asyncio.create_task(watch.wait_for(1))
            await asyncio.sleep(0)
            unplug(parts, watch)
            with pytest.raises(HardwareError, match="lgpio has closed it"):
                await waiting

    run(main())


def test_a_cancelled_wait_leaves_no_callback(parts: Parts, run: Run) -> None:
    async def main() -> None:
        async with gpio.watch(12) as watch:
            waiting = asyncio.create_task(watch.wait_for(1))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            parts.drive(12, 1)
            await until(lambda: watch.statistics().queued == 1)

    run(main())


def test_waiting_for_an_impossible_level_raises(parts: Parts, run: Run) -> None:
    async def main() -> None:
        async with gpio.watch(12, edges="rising") as watch, gpio.watch(13, 16) as two:
            with pytest.raises(ValueError, match="level 0 can't be waited for with edges='rising'; use 'both'"):
                await watch.wait_for(0)
            with pytest.raises(ValueError, match="a level is 0 or 1, not 2"):
                await watch.wait_for(2)  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="wait_for is for a watch of one line"):
                await two.wait_for(1)
        with pytest.raises(RuntimeError, match="gpio:12 is not open"):
            await watch.wait_for(1)

    run(main())


# Failure, and coming back from it.


def unplug(parts: Parts, watch: gpio.Watch) -> None:
    """Have lgpio close the FIFO of a watch under it."""
    stream: Any = watch._stream
    parts.board.lgpio.notify_close(stream._fifo.notify)


def test_a_failed_device_ends_the_iteration_with_its_error(parts: Parts, run: Run) -> None:
    async def main() -> None:
        watch = gpio.watch(12).open()
        unplug(parts, watch)
        with pytest.raises(HardwareError, match="lgpio's FIFO: lgpio has closed it; watch the lines again"):
            await take(watch, 1)
        assert watch.closed
        assert parts.free(12)

    run(main())


def test_with_reopen_a_watch_comes_back_and_waiting_tasks_go_on(parts: Parts, run: Run) -> None:
    async def main() -> None:
        reports: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context))
        async with gpio.watch(12, reopen=Backoff(0.01)) as watch:
            unplug(parts, watch)
            await until(lambda: watch.statistics().errors == 1)
            waiting = asyncio.create_task(watch.wait_for(1, timeout=5))
            await asyncio.sleep(0)
            parts.drive(12, 1)  # nobody sees this edge
            await waiting
            assert watch.statistics().reopened == 1
            parts.drive(12, 0)
            assert [edge.value for edge in await take(watch, 1)] == [0]
        assert len(reports) == 1

    run(main())


def test_a_watch_that_could_not_be_opened_can_be_opened_later(parts: Parts, run: Run) -> None:
    async def main() -> None:
        other = Lgpio(parts.board.chip)
        other.gpio_claim_input(other.gpiochip_open(0), 13)
        watch = gpio.watch(12, 13)
        with pytest.raises(HardwareError, match="line 13: in use by another process"):
            watch.open()
        assert parts.free(12)
        other.close()
        async with watch:
            parts.drive(13, 1)
            assert len(await take(watch, 1)) == 1

    run(main())


def test_unknown_and_used_lines_raise(parts: Parts, run: Run) -> None:
    async def main() -> None:
        for line in (54, "GPIO54"):
            with pytest.raises(HardwareError, match=r"no (such )?line"):
                gpio.watch(line).open()
            with pytest.raises(HardwareError, match=r"no (such )?line"):
                gpio.output(line).open()
        async with gpio.output(27, name="the relay"):
            with pytest.raises(HardwareError, match="line 27: in use by this program already, as the relay"):
                gpio.watch(27).open()

    run(main())


def test_without_a_board_the_error_names_the_simulated_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HWLOOP_BOARD", raising=False)
    monkeypatch.setattr(boards, "has_gpiochip", lambda: False)

    async def main() -> None:
        for opened in (gpio.watch(12), gpio.output(12)):
            with pytest.raises(HardwareError, match=r"no GPIO chip on this machine; .*HWLOOP_BOARD=sim"):
                opened.open()

    with boards.using(None):
        run(main())


@pytest.mark.parametrize(
    ("lines", "options", "error", "message"),
    [
        ((), {}, ValueError, "gpio.watch needs a line"),
        ((17, 18, 17), {}, ValueError, "the same line twice"),
        ((17.0,), {}, TypeError, "a line is a BCM number such as 17, or a name"),
        ((17.0,), {}, TypeError, "not 17.0; write 17$"),
        ((True,), {}, TypeError, "a line is a BCM number"),
        ((None,), {}, TypeError, "a line is a BCM number"),
        ((b"17",), {}, TypeError, "a line is a BCM number"),
        ((17.5,), {}, TypeError, r"not 17\.5$"),
        (("17", 17), {}, ValueError, "the same line twice"),
        ((-1,), {}, ValueError, "not -1"),
        (("",), {}, ValueError, "not ''"),
        (([17, 18], 19), {}, TypeError, r"not \[17, 18\]"),
        (([],), {}, ValueError, "gpio.watch needs a line"),
        (([17, 17],), {}, ValueError, "the same line twice"),
        (
            (17,),
            {"chip": 0},
            TypeError,
            "a chip is identified by its label or the path of its node, never by a number, not 0",
        ),
        ((17,), {"chip": ""}, ValueError, "not by an empty string"),
        ((17,), {"edges": "up"}, ValueError, "edges must be one of 'rising', 'falling', 'both', not 'up'"),
        ((17,), {"pull": "UP"}, ValueError, "pull must be one of 'up', 'down', 'none', not 'UP'"),
        ((17,), {"active_low": 1}, TypeError, "active_low must be True or False, not 1"),
        ((17,), {"debounce": -1}, ValueError, "debounce must be 0 to 5 seconds, not -1"),
        ((17,), {"debounce": 6}, ValueError, "debounce must be 0 to 5 seconds"),
        ((17,), {"debounce": "5ms"}, TypeError, "debounce must be a number of seconds, not '5ms'"),
        ((17,), {"queue_size": 0}, ValueError, "queue_size must be at least 1"),
        ((17,), {"when_full": "block"}, ValueError, "when_full must be one of"),
        ((17,), {"priority": 9}, ValueError, "9"),
    ],
)
def test_wrong_arguments_of_a_watch_raise(
    lines: tuple[Any, ...], options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        gpio.watch(*lines, **options)


def test_a_watch_is_urgent_and_named_by_default() -> None:
    assert (gpio.watch(17, "GPIO18").priority, gpio.watch(17, "GPIO18").name) == (Priority.INTERRUPT, "gpio:17,GPIO18")
    named = gpio.watch(17, name="door", priority=Priority.LOW)
    assert (named.priority, named.name, repr(named)) == (Priority.LOW, "door", "<Watch door new>")


# Outputs.


def test_an_output_is_set_toggled_and_read(parts: Parts, run: Run) -> None:
    async def main() -> None:
        async with gpio.output(27, initial=1) as lamp:
            assert (parts.led.lit, lamp.value) == (True, 1)
            lamp.set(0)
            assert (parts.led.lit, lamp.value) == (False, 0)
            lamp.toggle()
            assert parts.led.lit
        assert parts.led.lit  # no safe level: it stays as it was
        assert parts.free(27)

    run(main())


def test_an_output_drives_what_it_is_wired_to(parts: Parts, run: Run) -> None:
    async def main() -> None:
        async with gpio.output(22) as sender, gpio.watch(23) as receiver:
            sender.set(1)
            assert [edge.value for edge in await take(receiver, 1)] == [1]

    run(main())


@pytest.mark.parametrize("way", ["end", "exception", "cancellation", "close", "sync"])
def test_every_way_out_leaves_the_safe_level(parts: Parts, run: Run, way: str) -> None:
    async def use() -> None:
        async with gpio.output(27, initial=1, safe=0):
            if way == "exception":
                raise KeyError(way)
            if way == "cancellation":
                await asyncio.sleep(60)

    async def main() -> None:
        if way == "close":
            output = gpio.output(27, initial=1, safe=0).open()
            output.close()
            output.close()
        elif way == "sync":
            with gpio.output(27, initial=1, safe=0):
                pass
        elif way == "end":
            await use()
        elif way == "exception":
            with pytest.raises(KeyError):
                await use()
        else:
            task = asyncio.create_task(use())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert [lit for _, lit in parts.led.history] == [False, True, False]
        assert parts.free(27)

    run(main())


def test_safe_and_initial_are_logical(parts: Parts, run: Run) -> None:
    async def main() -> None:
        with gpio.output(27, initial=0, safe=1, active_low=True) as output:
            assert (parts.led.lit, output.value) == (True, 0)
        assert not parts.led.lit

    run(main())


def test_an_open_drain_output_shares_its_line(parts: Parts, run: Run) -> None:
    async def main() -> None:
        parts.board.chip.line(12).pull("up")
        with gpio.output(12, initial=1, drive="open-drain") as output:
            assert output.value == 1
            parts.drive(12, 0)
            assert output.value == 0
            parts.drive(12, None)
            for level in (0, 1):
                output.toggle()
                assert output.value == level
        assert parts.board.chip.short_circuits == 0

    run(main())


def test_open_outputs_are_known_and_made_safe_together(parts: Parts, run: Run) -> None:
    async def main() -> None:
        with (
            gpio.output(27, initial=1, safe=0) as lamp,
            gpio.output(12, initial=1) as other,
            gpio.output(13, initial=0, safe=1) as valve,
        ):
            assert gpio.outputs() == [lamp, other, valve]
            gpio.make_safe()
            assert (lamp.value, other.value, valve.value) == (0, 1, 1)
        assert gpio.outputs() == []

    run(main())


def test_an_output_that_can_not_be_made_safe_does_not_keep_the_others_from_it(parts: Parts, run: Run) -> None:
    async def main() -> None:
        with gpio.output(12, safe=0) as broken, gpio.output(27, initial=1, safe=0):
            device: Any = broken._device
            device.close()
            with pytest.raises(ExceptionGroup, match="could not be set to their safe level") as caught:
                gpio.make_safe()
            assert [str(error) for error in caught.value.exceptions] == [
                "line 12: this output is closed; open a new one"
            ]
            assert not parts.led.lit
            broken.safe = None

    run(main())


def test_an_output_that_is_not_open_says_so(parts: Parts, run: Run) -> None:
    output = gpio.output(27, name="lamp")
    assert repr(output) == "<Output lamp new>"
    with pytest.raises(RuntimeError, match="lamp is not open; use 'async with', 'with' or open"):
        output.set(1)
    with output:
        assert repr(output) == "<Output lamp open>"
        with pytest.raises(RuntimeError, match="lamp is open already"):
            output.open()
    assert repr(output) == "<Output lamp closed>"
    with pytest.raises(RuntimeError, match="lamp is closed; make a new one"):
        output.open()


@pytest.mark.parametrize(
    ("line", "options", "error", "message"),
    [
        (None, {}, TypeError, "a line is a BCM number"),
        (27, {"initial": 2}, ValueError, "initial must be 0 or 1, not 2"),
        (27, {"safe": "off"}, ValueError, "safe must be 0 or 1, not 'off'"),
        (27, {"drive": "strong"}, ValueError, "drive must be one of 'push-pull', 'open-drain', 'open-source'"),
        (27, {"active_low": None}, TypeError, "active_low must be True or False"),
    ],
)
def test_wrong_arguments_of_an_output_raise(
    line: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        gpio.output(line, **options)


def test_a_wrong_level_raises_and_changes_nothing(parts: Parts) -> None:
    with gpio.output(27, initial=1) as lamp:
        with pytest.raises(ValueError, match="a level must be 0 or 1, not 5"):
            lamp.set(5)  # type: ignore[arg-type]
        assert parts.led.lit
