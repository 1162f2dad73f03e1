"""Faults of a serial port as a whole: unplugged, slow, or with less room than it should have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from firmware_sim.distortion import Batching
from firmware_sim.errors import FaultError
from firmware_sim.faults.fault import Chance, FaultyBoard
from firmware_sim.faults.places import PortFault


@dataclass
class SerialUnplug(PortFault):
    """An adapter that is unplugged, and plugged in again at the end of the fault.

    As with a USB adapter the terminal hangs up: reads end, writes fail with EIO, and the program's descriptor stays
    useless. The new terminal has another path (`Port.path`). On a Pi that is /dev/ttyUSB1 in place of /dev/ttyUSB0
    where a program still holds the old one, while a link in /dev/serial/by-id keeps its name.

    Parameters:
        port: its name, or the name of the device on it.
        back_as: the name that the port has when it is back, in place of the old one; None keeps the name, as a link in
            /dev/serial/by-id does.
    """

    name = "serial-unplug"
    back_as: str | None = None

    def target(self, board: FaultyBoard) -> str:
        port = self.find(board)
        if self.back_as is not None and self.back_as != port.name and self.back_as in board.ports:
            raise FaultError(f"fault {self.name}: back_as: the board has a port {self.back_as} already")
        return port.name

    def begin(self, board: FaultyBoard, chance: Chance) -> Callable[[], object]:
        port, token = self.find(board), object()
        port.unplug(token)

        def end() -> None:
            if self.back_as is not None:
                board.rename_port(port.name, self.back_as)
            port.replug(token)

        return end


@dataclass
class SerialLatency(PortFault):
    """Bytes that arrive in batches: an FTDI adapter, as it comes, holds them for up to 16 ms.

    It hands over what has come when its latency timer ticks, or when a packet is full: 64 bytes with two of status.
    (FTDI application note AN232B-04, "Data Throughput, Latency and Handshaking")

    Parameters:
        port: its name, or the name of the device on it.
        seconds: the period of the timer.
        packet: bytes in a full packet.
    """

    name = "serial-latency"
    seconds: float = 0.016
    packet: int = 62

    def __post_init__(self) -> None:
        if not (0 < self.seconds <= 10 and self.packet >= 1):
            raise ValueError(
                f"seconds must be more than 0 and at most 10, packet 1 or more, not {self.seconds} and {self.packet}"
            )

    def begin(self, board: FaultyBoard, chance: Chance) -> Callable[[], object]:
        batchings = self.find(board).batchings
        batching = Batching(board.timeline.moment_ns(), round(self.seconds * 1e9), self.packet)
        batchings.append(batching)
        return lambda: batchings.remove(batching)


@dataclass
class SerialOverrun(PortFault):
    """A program that reads too slowly, so that its buffer is full: characters are lost and counted in `Port.dropped`.

    The kernel keeps 4095 bytes for a program (n_tty.c). Beyond that, characters stay in the UART, whose FIFO overruns.

    Parameters:
        port: its name, or the name of the device on it.
        buffer: the bytes for which there is room.
    """

    name = "serial-overrun"
    buffer: int = 16

    def __post_init__(self) -> None:
        if not 0 <= self.buffer <= 4095:
            raise ValueError(f"buffer must be 0 to 4095 bytes, not {self.buffer}")

    def begin(self, board: FaultyBoard, chance: Chance) -> Callable[[], object]:
        buffers = self.find(board).buffers
        buffers.append(self.buffer)
        return lambda: buffers.remove(self.buffer)


@dataclass
class SerialSlowReader(PortFault):
    """A device that reads slowly, so that the program's writes wait: flow control, or a slow radio link.

    Parameters:
        port: its name, or the name of the device on it.
        rate: bytes a second that the device reads.
    """

    name = "serial-slow-reader"
    rate: float = 100.0

    def __post_init__(self) -> None:
        if not 0.01 <= self.rate <= 1e6:
            raise ValueError(f"rate must be 0.01 to 1e6 bytes a second, not {self.rate!r}")

    def begin(self, board: FaultyBoard, chance: Chance) -> Callable[[], object]:
        return self.find(board).read_slowly(self.rate)
