"""The kernel's 1-Wire driver: the files of a simulated bus below /sys/bus/w1/devices, and those of its thermometers.

Reading a thermometer's file `w1_slave` or `temperature` starts a conversion, waits until it must be over, and reads the
scratchpad; so the program blocks for 750 ms. The files, their text and their behaviour after an error are those of
w1_therm.c in Linux 6: five tries, and then an empty file.
"""

from __future__ import annotations

import errno
import os

from firmware_sim.nodes import Attribute, File, Link, Node, Nodes, integer, os_error
from firmware_sim.onewire import OneWireBus, OneWireDevice, crc8
from hwloop.onewire_files import DIRECTORY, OneWireFiles

_THERMOMETERS = (0x22, 0x28, 0x3B, 0x42)  # those whose registers are like the DS18B20's
_CONVERT, _READ_SCRATCHPAD, _WRITE_SCRATCHPAD = b"\x44", b"\xbe", b"\x4e"
_COPY_SCRATCHPAD, _RECALL, _READ_POWER = b"\x48", b"\xb8", b"\xb4"
_CONVERSION_MS = {9: 95, 10: 190, 11: 375, 12: 750}
_RECALL_SECONDS = 0.02
_TRIES = 5
_FORGET_SECONDS = 100.0
"""Seconds until the kernel drops a device that no longer answers its searches: ten searches, ten seconds apart."""


class W1Master:
    """The master of a bus, as the kernel shows it.

    Parameters:
        bus: the bus.
        nodes: where its files are.
        number: its number: 1 for w1_bus_master1.
    """

    def __init__(self, bus: OneWireBus, nodes: Nodes, number: int) -> None:
        self._bus = bus
        self._nodes = nodes
        self._name = f"w1_bus_master{number}"
        self._directory = f"/sys/devices/{self._name}"
        self._slaves: dict[str, Thermometer | None] = {}
        self._add(
            self._directory,
            {
                "w1_master_attempts": Attribute(lambda: "1"),
                "w1_master_max_slave_count": Attribute(lambda: "64"),
                "w1_master_name": Attribute(lambda: self._name),
                "w1_master_pullup": Attribute(lambda: "1"),
                "w1_master_search": Attribute(lambda: "-1"),
                "w1_master_slave_count": Attribute(lambda: str(len(self._slaves))),
                "w1_master_slaves": Attribute(lambda: "\n".join(sorted(self._slaves)) or "not found."),
                "w1_master_timeout": Attribute(lambda: "10"),
                "therm_bulk_read": Attribute(self._show_bulk, self._store_bulk),
            },
        )
        nodes.add(f"/sys/bus/w1/devices/{self._name}", Link(f"../../../devices/{self._name}"))
        bus.at_change.append(self._changed)

    def _add(self, directory: str, files: dict[str, Node]) -> None:
        for name, file in files.items():
            self._nodes.add(f"{directory}/{name}", file)

    def _changed(self, device: OneWireDevice, there: bool) -> None:
        name = f"{device.family:02x}-{device.rom_serial:012x}"
        if there and name not in self._slaves:
            thermometer = Thermometer(self._bus, device.rom) if device.family in _THERMOMETERS else None
            self._slaves[name] = thermometer
            files = {"name": Attribute(lambda: name), "id": File(device.rom)}
            self._add(f"{self._directory}/{name}", {**files, **(thermometer.files() if thermometer else {})})
            self._nodes.add(f"/sys/bus/w1/devices/{name}", Link(f"../../../devices/{self._name}/{name}"))
        elif not there:
            self._bus.timeline.after(_FORGET_SECONDS, lambda: self._forget(name, device.rom))

    def _forget(self, name: str, rom: bytes) -> None:
        if name in self._slaves and all(device.rom != rom for device in self._bus.devices()):
            del self._slaves[name]
            self._nodes.remove(f"/sys/bus/w1/devices/{name}")
            self._nodes.remove_below(f"{self._directory}/{name}")

    def _show_bulk(self) -> str:
        states = [each.triggered for each in self._slaves.values() if each is not None]
        return "-1" if -1 in states else str(max(states, default=0))

    def _store_bulk(self, text: str) -> None:
        if text != "trigger":
            return
        thermometers = [each for each in self._slaves.values() if each is not None]
        self._bus.transfer(None, _CONVERT)
        for each in thermometers:
            each.triggered = -1
        self._bus.timeline.clock.sleep(max((each.conversion_ms for each in thermometers), default=0) / 1e3)
        for each in thermometers:
            each.triggered = 1


class NodeFiles(OneWireFiles):
    """The files of a board, for `hwloop.onewire`."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes

    def names(self) -> list[str]:
        return sorted(self._nodes.entries(DIRECTORY))

    def read(self, device: str, file: str) -> str:
        path = f"{DIRECTORY}/{device}/{file}"
        node = self._nodes.get(self._nodes.resolve(path))
        if node is None:
            raise os_error(errno.ENOENT, path)
        return node.open(os.O_RDONLY).read(4096).decode()


class Thermometer:
    """The kernel's side of a thermometer.

    Attributes:
        triggered: -1 while a conversion of all thermometers is under way, 1 until its result was read, else 0.
    """

    def __init__(self, bus: OneWireBus, rom: bytes) -> None:
        self.triggered: int = 0
        self._bus = bus
        self._rom = rom
        self._last = bytes(9)
        self._resolution = 12
        self._conversion_ms = 0
        self._features = 0

    @property
    def conversion_ms(self) -> int:
        """Milliseconds that the driver waits for a conversion."""
        return self._conversion_ms or _CONVERSION_MS.get(self._resolution, 750)

    def files(self) -> dict[str, Node]:
        """Return its files by their names."""
        return {
            "w1_slave": Attribute(self._show_slave, self._store_slave),
            "temperature": Attribute(self._show_temperature),
            "resolution": Attribute(self._show_resolution, self._store_resolution),
            "alarms": Attribute(self._show_alarms, self._store_alarms),
            "ext_power": Attribute(self._show_power),
            "conv_time": Attribute(lambda: str(self.conversion_ms), self._store_conversion_time),
            "eeprom_cmd": Attribute(store=self._store_eeprom),
            "features": Attribute(lambda: str(self._features), self._store_features),
        }

    # The device.

    def _command(self, sent: bytes, count: int = 0) -> bytes:
        """Make a transfer, and try again while the device does not answer. Raises OSError (ENODEV)."""
        for tried in range(_TRIES):
            try:
                return self._bus.transfer(self._rom, sent, count)
            except OSError:
                if tried == _TRIES - 1:
                    raise
        raise AssertionError("unreachable")

    def _scratchpad(self, *, checked: bool = True) -> bytes:
        """Return the nine bytes of the scratchpad, after several tries also with a wrong checksum unless `checked`.

        Raises OSError: ENODEV, or EIO for a checksum that is always wrong.
        """
        data = b""
        for _ in range(_TRIES):
            data = self._command(_READ_SCRATCHPAD, 9)
            if crc8(data[:8]) == data[8]:
                return data
        if checked:
            raise os_error(errno.EIO)
        return data

    def _measured(self, *, checked: bool = True) -> bytes | None:
        """Convert, wait, and return the scratchpad; None after an error, or while all thermometers convert."""
        try:
            if self.triggered < 0:
                return None
            if self.triggered > 0:
                self.triggered = 0
            else:
                self._command(_CONVERT)
                self._bus.timeline.clock.sleep(self.conversion_ms / 1e3)
            data = self._scratchpad(checked=checked)
        except OSError:
            return None
        if self._features & 1 and data[6] == 0x0C and data[:2] in (b"\x50\x05", b"\xff\x07"):
            return None  # the values after power-on: the conversion has failed
        return data

    # Its files.

    def _show_slave(self) -> str:
        data = self._measured(checked=not self._bus.shows_bad_checksums)
        if data is None:
            return ""
        crc = crc8(data[:8])
        if crc == data[8]:
            self._last = data
        verdict = "YES" if crc == data[8] else "NO"
        return f"{data.hex(' ')} : crc={crc:02x} {verdict}\n{self._last.hex(' ')} t={_thousandths(data)}"

    def _store_slave(self, text: str) -> None:
        if (bits := _number(text)) == 0:
            self._command(_COPY_SCRATCHPAD)
        else:
            self._set_resolution(bits)

    def _show_temperature(self) -> str:
        data = self._measured()
        return "" if data is None else str(_thousandths(data))

    def _show_resolution(self) -> str:
        try:
            self._resolution = 9 + (self._scratchpad()[4] >> 5 & 3)
        except OSError as error:
            return str(-(error.errno or errno.EIO))
        return str(self._resolution)

    def _store_resolution(self, text: str) -> None:
        self._set_resolution(_number(text))

    def _set_resolution(self, bits: int | None) -> None:
        if bits is None:
            return
        if bits not in _CONVERSION_MS:
            raise os_error(errno.EINVAL)
        data = self._scratchpad()
        self._command(_WRITE_SCRATCHPAD + bytes([data[2], data[3], data[4] & 0x9F | bits - 9 << 5]))
        self._resolution, self._conversion_ms = bits, 0

    def _show_alarms(self) -> str:
        try:
            high, low = self._scratchpad()[2:4]
        except OSError:
            high = low = 0
        return f"{_signed(low)} {_signed(high)}"

    def _store_alarms(self, text: str) -> None:
        limits = [_number(word) for word in text.split(" ")[:2]]
        if len(limits) < 2 or None in limits:
            return
        low, high = sorted(min(max(each or 0, -55), 125) for each in limits)
        self._command(_WRITE_SCRATCHPAD + bytes([high & 0xFF, low & 0xFF, self._scratchpad()[4]]))

    def _show_power(self) -> str:
        try:
            return str(self._command(_READ_POWER, 1)[0] & 1)
        except OSError as error:
            return str(-(error.errno or errno.ENODEV))

    def _store_conversion_time(self, text: str) -> None:
        value = integer(text)
        if value < 0:
            raise os_error(errno.EINVAL)
        if value == 1:  # a request to measure it, which this bus can't
            raise os_error(errno.EIO)
        self._conversion_ms = value

    def _store_eeprom(self, text: str) -> None:
        if text == "save":
            self._command(_COPY_SCRATCHPAD)
        elif text == "restore":
            self._command(_RECALL)
            self._bus.timeline.clock.sleep(_RECALL_SECONDS)

    def _store_features(self, text: str) -> None:
        if (value := integer(text)) not in range(4):
            raise os_error(errno.EINVAL)
        self._features = value


def _thousandths(scratchpad: bytes) -> int:
    """Return a temperature in thousandths of a degree, cut off as C divides."""
    return int(int.from_bytes(scratchpad[:2], "little", signed=True) * 1000 / 16)


def _signed(byte: int) -> int:
    return byte - 256 if byte > 127 else byte


def _number(text: str) -> int | None:
    """Return a number as kstrtoint() reads it; None for another text, which this driver ignores."""
    try:
        return integer(text)
    except OSError:
        return None
