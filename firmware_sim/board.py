"""A whole board: implements `hwloop.board.Board` on simulated lines, ports and buses.

It plugs in below the parsing. The chip writes lgpio's own 16-byte reports into a FIFO, which the same
`hwloop.boards.lgpio` decodes that reads the real ones; ports are kernel pseudo-terminals; buses answer smbus2's ioctls.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from firmware_sim import raspberry_pi
from firmware_sim import wiring as wirings
from firmware_sim.attaching import attach_devices
from firmware_sim.bus import Bus
from firmware_sim.bus_lines import BusLines
from firmware_sim.device import Device
from firmware_sim.errors import WiringError
from firmware_sim.faults.injector import Faults
from firmware_sim.gpio_device import GpioDevice
from firmware_sim.i2c_dev import I2cNode
from firmware_sim.libraries.lgpio.api import Lgpio
from firmware_sim.libraries.serial import calls
from firmware_sim.libraries.spidev import opened_device
from firmware_sim.nodes import Nodes
from firmware_sim.onewire import OneWireBus
from firmware_sim.pins import Chip, Line
from firmware_sim.port_files import PortFiles, check_port_name
from firmware_sim.program_lines import ProgramLines
from firmware_sim.pwm import PwmChip
from firmware_sim.spi import SpiBus
from firmware_sim.spi_dev import SpiNode
from firmware_sim.surviving_lines import surviving_lines
from firmware_sim.timeline import Timeline
from firmware_sim.uart import Port
from firmware_sim.w1 import NodeFiles, W1Master
from hwloop.board import SIMULATED_LINES, Board
from hwloop.boards.chip import OpenChip
from hwloop.core.clock import REAL, Clock
from hwloop.errors import HardwareError
from hwloop.lines import EdgeStream, OutputLine
from hwloop.onewire_files import OneWireFiles
from hwloop.requests import EdgeRequest, OutputRequest
from hwloop.serial_ports import PortInfo
from hwloop.spi_device import SpiDev, SpiRequest
from hwloop.trace_events import Tracer

if TYPE_CHECKING:
    import smbus2

K = TypeVar("K", int, str)
T = TypeVar("T")

_LAST_BUS = 255
HEADER_LINES = 54
"""Lines of the simulated chip, as many as a Pi's SoC has; 0 to 27 are on the header."""


class SimBoard(Board):
    """A simulated board.

    Parameters:
        wiring: a board file's path, a mapping of the same shape, or None for bare pins, no port and an empty bus 1.
        clock: its time; `hwloop.VirtualClock()` for virtual time.
        lines: the file that keeps what its lines drive beyond the process (`firmware_sim.surviving_lines`); by
            default HWLOOP_SIM_LINES from the environment, or none.
        tracer: what records all that happens on its lines, ports and buses, such as a `firmware_sim.trace.Trace`.

    Attributes:
        timeline: its time, its thread and its lock.
        chip: its lines, to drive and inspect: `board.chip.line(17)`.
        gpiochip: the kernel's device of `chip`, /dev/gpiochip0.
        lgpio: a module-shaped object with lgpio's functions and constants, over `chip`.
        devices: its devices, in the order of the board file.
        names: those that have a `name` there, by it.
        line_names: for each line that a device uses, the device's name in the board file, or else its description.
        line_devices: the device that uses each line.
        pwm: its hardware PWM, with the settings of each channel.
        nodes: its files below /dev, /sys and /proc, for programs that open them.
        faults: the faults injected into it: `board.faults.inject("stuck-line", line=17, level=0)`.
        signal_program: sends a signal to the program, for a fault; None where its process is not the program's own.
    """

    simulated = True

    def __init__(
        self,
        wiring: str | os.PathLike[str] | Mapping[str, object] | None = None,
        *,
        clock: Clock = REAL,
        lines: str | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        super().__init__()
        if wiring is None:
            checked = wirings.parse({})
        elif isinstance(wiring, Mapping):
            checked = wirings.parse(wiring)
        else:
            checked = wirings.load(wiring)
            self.choice: str = os.path.abspath(wiring)
        self.label: str = checked.label
        self.revision: int = checked.revision
        self.directory: Path = checked.directory
        self.clock = clock
        self.timeline: Timeline = Timeline(clock)
        self.tracer = tracer
        self._surviving = None
        if not self.shared:  # a subclass may keep them in another way
            path = os.environ.get(SIMULATED_LINES, "") if lines is None else lines
            self._surviving = surviving_lines(path, HEADER_LINES)
            if self._surviving is not None:
                self.shared: bool = True
                self.address: str = f"sim:{path}"
        label = raspberry_pi.header_chip(self.revision)
        self.chip: Chip = Chip(self.timeline, label=label, lines=HEADER_LINES, surviving=self._surviving)
        for line, name in raspberry_pi.LINE_NAMES.items():
            self.chip.line(line).name = name
        self.lgpio: Lgpio = Lgpio(self.chip)
        self._process = os.getpid()
        self.gpiochip: GpioDevice = GpioDevice(self.chip, 0)
        self.ports: dict[str, Port] = {}
        self.buses: dict[int, Bus] = {}
        self.spi_buses: dict[int, SpiBus] = {}
        self.onewire_buses: dict[int, OneWireBus] = {}
        self.nodes: Nodes = Nodes()
        raspberry_pi.add_files(self.nodes, self.revision)
        self.pwm: PwmChip = PwmChip(self.chip, checked.pwm, self.nodes)
        self._outputs_use_pwm = checked.pwm_given
        self.nodes.add(self.gpiochip.path, self.gpiochip)
        self._port_files = PortFiles(self.nodes, checked.ports)
        self._lines = ProgramLines(self.gpiochip, self.lgpio, self.nodes, self.revision)
        self.bus(1)
        self.spi_bus(0)
        self._users: dict[int, str] = {}
        self._closed = self._closing = False
        self.faults: Faults = Faults(self)
        self.signal_program: Callable[[int], object] | None = None
        self._loops: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()
        self.devices: list[Device] = []
        self.names: Mapping[str, Device] = checked.names
        self.line_names: dict[int, str] = {}
        self.line_devices: dict[int, Device] = {}
        names = {id(device): name for name, device in checked.names.items()}
        try:
            for device, taken in attach_devices(checked, self, self._users):
                self.devices.append(device)
                for line in taken:
                    self.line_names[line] = names.get(id(device)) or self._users[line]
                    self.line_devices[line] = device
            for name in checked.ports:
                if name not in self.ports:
                    self.add_port(name)  # with nothing at its other end
        except BaseException:
            self.close()
            raise

    @classmethod
    def default(cls, *, clock: Clock = REAL) -> SimBoard:
        """Open the board that the name "sim" stands for: the parts of the usual tutorials (default_board.toml)."""
        board = cls(Path(__file__).with_name("default_board.toml"), clock=clock)
        board.choice = "sim"
        return board

    # For tests and scenarios.

    @property
    def active_low_lines(self) -> frozenset[int]:
        """The lines whose part is on, or pressed, while the line is low: those of parts with `active_low`."""
        return frozenset(line for line, part in self.line_devices.items() if getattr(part, "active_low", False))

    def __getitem__(self, name: str) -> Any:
        """Return the device with this `name` in the board file. Raises KeyError, naming those that are there."""
        try:
            return self.names[name]
        except KeyError:
            there = ", ".join(sorted(self.names)) or "none; give the device a key name in the board file"
            raise KeyError(f"no device {name!r} on {self.label}; there are: {there}") from None

    def line(self, number: int) -> Line:
        """Return a line of the chip. Raises ValueError if the chip has none of this number."""
        return self.chip.line(number)

    def serial(self, name: str) -> Port:
        """Return the serial port that programs open as `name`. Raises KeyError, naming those that are there."""
        return _found(self.ports, name, "port", self.label)

    def i2c(self, number: int) -> Bus:
        """Return I2C bus `number`; `board.i2c(1)[0x76]` is a device. Raises KeyError, naming those that are there."""
        return _found(self.buses, number, "I2C bus", self.label)

    def spi(self, number: int) -> SpiBus:
        """Return SPI bus `number`; `board.spi(0)[1]` is a device. Raises KeyError, naming those that are there."""
        return _found(self.spi_buses, number, "SPI bus", self.label)

    @property
    def tracer(self) -> Tracer | None:
        """Records the events on its lines, ports and buses; None records nothing."""
        return self.timeline.tracer

    @tracer.setter
    def tracer(self, tracer: Tracer | None) -> None:
        self.timeline.tracer = tracer

    def snapshot(self) -> dict[str, Any]:
        with self.timeline.lock:
            lines = [self.chip.line(number) for number in range(len(self.chip))]
            nets = {tuple(line.number for line in each.net.lines) for each in lines}
            return {
                "levels": [[each.number, each.level] for each in lines if each.level != each.level_at_reset],
                "wires": sorted(net for net in nets if len(net) > 1),
                "ports": sorted(self.ports),
                "buses": sorted(self.buses),
            }

    def loops(self) -> list[asyncio.AbstractEventLoop]:
        """Return the event loops that have opened something on the board."""
        return list(self._loops)

    def rename_port(self, old: str, new: str) -> None:
        """Give a port another name for programs, as an adapter gets one that is plugged in again. Raises KeyError."""
        port = self.serial(old)
        if new in self.ports and new != old:
            raise KeyError(f"there is a port {new} already")
        del self.ports[old]
        self.ports[new] = port
        port.name = new
        self._port_files.rename(port, old)

    # For devices, when they attach.

    def use_line(self, line: int, user: str) -> Line:
        """Return a line for the sole use of `user`. Raises `WiringError` if there is none, or it is used already."""
        if not 0 <= line < HEADER_LINES:
            raise WiringError(f"{user}: line {line} is not on the board; lines are 0 to {HEADER_LINES - 1}")
        if line in self._users:
            raise WiringError(f"{user}: line {line} is used already, by {self._users[line]}")
        found = self.chip.line(line)
        self._users[line] = found.part = user
        found.used = True
        return found

    def add_port(self, name: str) -> Port:
        """Return a new serial port, which programs open as `name`. Raises `WiringError` if there is one already."""
        check_port_name(name)
        if name in self.ports:
            raise WiringError(f"port {name} is used already")
        port = self.ports[name] = Port(name, self.timeline)
        self._port_files.add(port)
        return port

    def bus(self, number: int) -> Bus:
        """Return I2C bus `number`, which is made by the first call. Raises `WiringError` unless it is 0 to 255."""
        if not 0 <= number <= _LAST_BUS:
            raise WiringError(f"bus must be 0 to {_LAST_BUS}, as in /dev/i2c-1, not {number}")
        if number not in self.buses:
            bus = self.buses[number] = Bus(number, self.timeline)
            self.nodes.add(f"/dev/i2c-{number}", I2cNode(bus, number))
        return self.buses[number]

    def wire_bus(self, number: int, *, scl: int, sda: int) -> BusLines:
        """Join the wires of I2C bus `number` to two lines, as `firmware_sim.bus_lines` says. Raises `WiringError`."""
        user = f"the wires of I2C bus {number}"
        return BusLines(self.bus(number), self.use_line(scl, user), self.use_line(sda, user))

    def spi_bus(self, number: int) -> SpiBus:
        """Return SPI bus `number`, which is made by the first call. Raises `WiringError` unless it is 0 to 255."""
        if not 0 <= number <= _LAST_BUS:
            raise WiringError(f"bus must be 0 to {_LAST_BUS}, as in /dev/spidev0.1, not {number}")
        if number not in self.spi_buses:
            bus = self.spi_buses[number] = SpiBus(number, self.timeline)
            for select in bus.selects:
                self.nodes.add(f"/dev/spidev{number}.{select}", SpiNode(bus, select))
        return self.spi_buses[number]

    def onewire(self, line: int) -> OneWireBus:
        """Return the 1-Wire bus on a line, which is made by the first call. Raises `WiringError` as `use_line` does."""
        if line not in self.onewire_buses:
            used = self.use_line(line, f"the 1-Wire bus on line {line}")
            bus = self.onewire_buses[line] = OneWireBus(used, self.timeline)
            W1Master(bus, self.nodes, len(self.onewire_buses))
        return self.onewire_buses[line]

    # The seam.

    def open_edges(self, request: EdgeRequest) -> EdgeStream:
        return self._chip(request.chip).watch(request)

    def open_output(self, request: OutputRequest) -> OutputLine:
        opened = self._chip(request.chip)
        output = self.pwm.output(opened.chip.find(request.line), request) if self._outputs_use_pwm else None
        return output or (self._lines.open_kept(request) if request.keep else opened.drive(request))

    def resolved(self, request: OutputRequest) -> OutputRequest:
        self._chip(request.chip)
        return self._lines.resolved(request)

    def _check_open(self) -> None:
        if self._closed:
            raise HardwareError(
                self.label, "the simulated board is closed", "open the line, port or bus while it is in use"
            )
        try:
            self._loops.add(asyncio.get_running_loop())
        except RuntimeError:
            pass  # a program without a loop

    def _chip(self, wanted: str | None) -> OpenChip:
        self._check_open()
        if self.forked:
            raise HardwareError(
                self.label,
                "it was opened before this process was forked and belongs to its parent",
                "open one in the child: hwloop.run(main(), board=...), or with hwloop.board.using('sim')",
            )
        return self._lines.open(wanted)

    def serial_port(self, port: str) -> str:
        self._check_open()
        if port.startswith("/dev/pts/") and any(it.plugged and port == it.path for it in self.ports.values()):
            return port
        name = port if port in self.ports else self.nodes.resolve(port)
        if name not in self.ports:
            known = ", ".join(sorted(self.ports)) or "none"
            raise HardwareError(port, "no such port on the simulated board", f"its ports are: {known}")
        return self.ports[name].path

    def serial_port_opened(self, fd: int) -> None:
        calls.choose_way(fd)

    def serial_ports(self) -> list[PortInfo]:
        self._check_open()
        return self._port_files.describe(port for port in self.ports.values() if port.plugged)

    def open_bus(self, bus: int) -> smbus2.SMBus:
        self._check_open()
        if bus not in self.buses:
            known = ", ".join(map(str, sorted(self.buses)))
            raise HardwareError(f"/dev/i2c-{bus}", "no such bus on the simulated board", f"its buses are: {known}")
        return self.buses[bus].open()

    def open_spi(self, request: SpiRequest) -> SpiDev:
        self._check_open()
        return opened_device(self.nodes, request)

    def open_onewire(self) -> OneWireFiles:
        self._check_open()
        if not self.onewire_buses:
            raise HardwareError("1-Wire", "the simulated board has no 1-Wire bus", "a part such as ds18b20 brings one")
        return NodeFiles(self.nodes)

    @property
    def forked(self) -> bool:
        """Whether this process was forked from the one that made the board, and so must leave it alone."""
        return os.getpid() != self._process

    def close(self) -> None:
        if self._closed or self._closing:
            return
        if self.forked:  # the parent goes on using the same FIFOs and terminals
            self._closed = True
            return
        self._closing = True
        super().close()
        self._closed = True
        self.timeline.stop()
        self._lines.close()
        if self._surviving is not None:
            self._surviving.close()
            self.chip.surviving = None
        self.gpiochip.close()
        self.lgpio.close()
        for port in self.ports.values():
            port.close()
        for bus in self.buses.values():
            bus.close()
        for spi_bus in self.spi_buses.values():
            spi_bus.close()


def _found(things: Mapping[K, T], key: K, kind: str, label: str) -> T:
    try:
        return things[key]
    except KeyError:
        there = ", ".join(map(str, sorted(things))) or "none"
        raise KeyError(f"no {kind} {key!r} on {label}; there are: {there}") from None
