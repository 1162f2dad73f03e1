"""Faults between a line and the program: events that the kernel or lgpio drops, a chip that vanishes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from firmware_sim.faults.fault import Chance, Fault, FaultyBoard
from firmware_sim.libraries.lgpio.reports import RECORD

KERNEL_EVENTS = 16
"""Events that the kernel keeps for a line unless a larger buffer is asked for, which lgpio does not
(event_buffer_size of struct gpio_v2_line_request, include/uapi/linux/gpio.h)."""


class ChipFault(Fault):
    """A fault of the chip as a whole."""

    def target(self, board: FaultyBoard) -> str:
        return "gpiochip0"


@dataclass
class KernelOverflow(ChipFault):
    """A busy machine, on which nobody gets a turn to read events: the kernel's buffers overflow.

    The kernel keeps the newest events and drops the oldest. When the fault ends, what was kept is there, with the times
    at which it happened. lgpio reports it, and ignores the gap in the events' numbers; a program that has requested
    lines itself (gpiod) finds both. (gpiolib-cdev.c in the kernel, edge events of the GPIO v2 interface; lgPthAlerts.c
    in lgpio)

    Parameters:
        events: how many events of a line the kernel keeps, however large the buffer that a program has asked for.
    """

    name = "kernel-overflow"
    events: int = KERNEL_EVENTS

    def __post_init__(self) -> None:
        if not 1 <= self.events <= 1024:
            raise ValueError(f"events must be 1 to 1024, not {self.events}")

    def begin(self, board: FaultyBoard, chance: Chance) -> Callable[[], object]:
        reports, token = board.lgpio.reports, object()
        rest = board.gpiochip.rest
        reports.stop_thread(token, keep=self.events, until_claim=False)
        rest.begin(token, self.events)

        def end() -> None:
            reports.start_thread(token)
            rest.end(token)

        return end


@dataclass
class LostWakeUp(ChipFault):
    """lgpio's thread that sleeps although lines are watched, until another line is claimed or the fault ends.

    About one process in 449 begins like this (docs/gpio.md): the thread looks whether there are lines, then waits for a
    signal, and a claim between the two goes unnoticed.
    """

    name = "lost-wake-up"

    def begin(self, board: FaultyBoard, chance: Chance) -> Callable[[], object]:
        reports, token = board.lgpio.reports, object()
        reports.stop_thread(token, keep=KERNEL_EVENTS, until_claim=True)
        return lambda: reports.start_thread(token)


@dataclass
class FullFifo(ChipFault):
    """A FIFO with room for few reports: one that finds it full is lost, and lgpio says nothing.

    A real one holds 4096 reports (pipe(7)), or as many as hwloop asks for with F_SETPIPE_SZ.

    Parameters:
        capacity: how many reports it holds; with 0 all are lost.
    """

    name = "full-fifo"
    capacity: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.capacity <= 1 << 16:
            raise ValueError(f"capacity must be 0 to 65536 reports, not {self.capacity}")

    def begin(self, board: FaultyBoard, chance: Chance) -> Callable[[], object]:
        capacities = board.lgpio.reports.capacities
        capacities.append(self.capacity)
        return lambda: capacities.remove(self.capacity)


@dataclass
class TornRecord(ChipFault):
    """A report that the reader gets in two parts.

    lgpio writes at most PIPE_BUF bytes at once, so that a report is in the FIFO whole or not at all (pipe(7)); a reader
    that asks for another number of bytes gets part of one.

    Parameters:
        at: how many of its 16 bytes come first.
        seconds: how much later the others come.
    """

    name = "torn-record"
    momentary = True
    at: int = 8
    seconds: float = 0.001

    def __post_init__(self) -> None:
        if not (1 <= self.at < RECORD and 0 <= self.seconds <= 10):
            raise ValueError(f"at must be 1 to {RECORD - 1} and seconds 0 to 10, not {self.at} and {self.seconds}")

    def begin(self, board: FaultyBoard, chance: Chance) -> None:
        board.lgpio.reports.tear(self.at, self.seconds)


@dataclass
class ChipVanishes(ChipFault):
    """A chip whose driver is unbound, or that is unplugged; at the end of the fault it is back.

    Descriptors of the vanished chip fail with ENODEV for ever, and lgpio's calls on its handle with them; a FIFO of
    lgpio's stays silent. The removal of the device node can be noticed. The lines keep the levels that they drive. When
    the chip is back, it must be opened again, and its lines claimed.
    """

    name = "chip-vanishes"

    def begin(self, board: FaultyBoard, chance: Chance) -> Callable[[], object]:
        chip, token = board.chip, object()
        chip.remove(token)
        return lambda: chip.restore(token)
